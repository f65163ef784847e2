using System.Diagnostics;

namespace TtaService.Serving.Streams;

/// <summary>Puts defects into the log, and what a client may hear of them into a failure. Thread-safe.</summary>
internal sealed partial class StepDefects(ILogger logger)
{
    public Failure Explain(Exception defect)
    {
        var traceId = (Activity.Current?.TraceId ?? ActivityTraceId.CreateRandom()).ToHexString();
        Log.StepFailed(logger, traceId, defect);
        return Failure.Internal(traceId);
    }

    private static partial class Log
    {
        [LoggerMessage(EventId = 1, Level = LogLevel.Error, Message = "StepFailed, trace {TraceId}")]
        public static partial void StepFailed(ILogger logger, string traceId, Exception defect);
    }
}

using Microsoft.Extensions.Options;
using TtaService.Serving.Telemetry;

namespace TtaService.Serving.Store;

/// <summary>Whether the store serves. After a failure nothing waits for it again until <see cref="StoreOptions.RetryDelay"/> is over. Thread-safe.</summary>
internal sealed partial class StoreHealth(IOptions<StoreOptions> options, TtaMetrics metrics, TimeProvider clock, ILogger<StoreHealth> logger)
{
    private readonly Lock _gate = new();
    private long _failedAt;
    private string? _trouble;

    /// <summary>Why it does not serve; null when it does.</summary>
    public string? Trouble
    {
        get
        {
            lock (_gate)
            {
                return _trouble;
            }
        }
    }

    public bool MayTry
    {
        get
        {
            lock (_gate)
            {
                return _trouble is null || clock.GetElapsedTime(_failedAt) >= options.Value.RetryDelay;
            }
        }
    }

    public void Failed(string trouble)
    {
        metrics.StoreFailed();
        bool first;
        lock (_gate)
        {
            first = _trouble is null;
            (_trouble, _failedAt) = (trouble, clock.GetTimestamp());
        }

        if (first)
        {
            Log.StoreFailed(logger, trouble);
        }
    }

    public void Worked()
    {
        bool recovered;
        lock (_gate)
        {
            recovered = _trouble is not null;
            _trouble = null;
        }

        if (recovered)
        {
            Log.StoreRecovered(logger);
        }
    }

    private static partial class Log
    {
        [LoggerMessage(
            EventId = 50,
            Level = LogLevel.Error,
            Message = "StoreFailed: {Trouble}; streams go on in memory, what they learn from here on is lost if the process ends before the store is back")]
        public static partial void StoreFailed(ILogger logger, string trouble);

        [LoggerMessage(EventId = 51, Level = LogLevel.Information, Message = "StoreRecovered")]
        public static partial void StoreRecovered(ILogger logger);
    }
}

using Microsoft.Extensions.Options;
using TtaService.Serving.Telemetry;

namespace TtaService.Serving.Store;

/// <summary>Hears of streams that a store of this process drops to make room: counts them, and says so now and then. Thread-safe.</summary>
internal sealed partial class DroppedStreams(IOptions<StoreOptions> options, TtaMetrics metrics, TimeProvider clock, ILogger<DroppedStreams> logger)
{
    // What a client can bring about is logged once in so long.
    private static readonly TimeSpan BetweenReports = TimeSpan.FromSeconds(10);

    private readonly Lock _gate = new();
    private long? _reportedAt;
    private long _unreported;

    public void Add(string stream)
    {
        metrics.StoreDroppedStream();
        lock (_gate)
        {
            if (_reportedAt is { } at && clock.GetElapsedTime(at) < BetweenReports)
            {
                _unreported++;
                return;
            }

            Log.StoredStreamDropped(logger, stream, _unreported, options.Value.MaxStreams, options.Value.MaxBytes);
            (_reportedAt, _unreported) = (clock.GetTimestamp(), 0);
        }
    }

    private static partial class Log
    {
        [LoggerMessage(
            EventId = 60,
            Level = LogLevel.Warning,
            Message = "StoredStreamDropped {Stream} to make room, and {Others} others since the last report: Store:MaxStreams is {MaxStreams}, Store:MaxBytes {MaxBytes}")]
        public static partial void StoredStreamDropped(ILogger logger, string stream, long others, int maxStreams, long maxBytes);
    }
}

namespace TtaService.Serving.Loops;

/// <summary>The signs of life of one loop: when it last got on, and what failed. Thread-safe.</summary>
internal sealed partial class LoopBeat
{
    private const long Resting = long.MinValue;

    // A failing item must not fill the log, nor hide that it fails.
    private static readonly TimeSpan BetweenReports = TimeSpan.FromSeconds(10);

    private readonly Action<LoopKind> _failed;
    private readonly TimeProvider _clock;
    private readonly ILogger _logger;
    private readonly Lock _gate = new();
    private long _since = Resting;
    private long? _reportedAt;
    private long _unreported;
    private string? _trouble;

    /// <param name="kind">What sort of loop it is.</param>
    /// <param name="name">For people: which one.</param>
    /// <param name="limit">Without a turn for longer it stands still.</param>
    /// <param name="isVital">Whether the process is of no use without it.</param>
    /// <param name="failed">Hears of every failure.</param>
    /// <param name="clock">Times the turns.</param>
    /// <param name="logger">Told what fails.</param>
    public LoopBeat(LoopKind kind, string name, TimeSpan limit, bool isVital, Action<LoopKind> failed, TimeProvider clock, ILogger logger)
    {
        (Kind, Name, Limit, IsVital) = (kind, name, limit, isVital);
        (_failed, _clock, _logger) = (failed, clock, logger);
    }

    public LoopKind Kind { get; }

    public string Name { get; }

    public TimeSpan Limit { get; }

    public bool IsVital { get; }

    /// <summary>Time since it last got on; zero while it has nothing to do.</summary>
    public TimeSpan Age => Volatile.Read(ref _since) is var since && since == Resting ? TimeSpan.Zero : _clock.GetElapsedTime(since);

    /// <summary>What is wrong with it, for people; null when nothing is.</summary>
    public string? WhyUnwell
    {
        get
        {
            var age = Age;
            return age > Limit ? $"{Name} stands still for {age.TotalSeconds:0} s (limit {Limit.TotalSeconds:0} "
                + "s)" : Volatile.Read(ref _trouble) is { } trouble ? $"{Name}: {trouble}" : null;
        }
    }

    /// <summary>There is work from now on, if there was none.</summary>
    public void Begin() => Interlocked.CompareExchange(ref _since, _clock.GetTimestamp(), Resting);

    /// <summary>It got on, and there is more to do.</summary>
    public void Turned() => Volatile.Write(ref _since, _clock.GetTimestamp());

    /// <summary>There is nothing to do.</summary>
    public void Rest() => Volatile.Write(ref _since, Resting);

    /// <summary>Notes that it turns, but to no use; null when it is well again.</summary>
    public void Troubled(string? trouble)
    {
        if (Interlocked.Exchange(ref _trouble, trouble) is null && trouble is not null)
        {
            Log.LoopTroubled(_logger, Name, trouble);
        }
    }

    /// <summary>Runs an item of the loop behind a border: whatever it throws is named, and the loop goes on.</summary>
    /// <param name="item">Which item, for people.</param>
    /// <param name="act">What is done with it.</param>
    /// <param name="stop">Its own cancellation passes, any other is a failure.</param>
    /// <returns>Whether it went well.</returns>
    public async Task<bool> TryAsync(string item, Func<Task> act, CancellationToken stop)
    {
        try
        {
            await act().ConfigureAwait(false);
            return true;
        }
        catch (Exception failure)
        {
            // What fails while the parts of the host stop one by one says nothing.
            stop.ThrowIfCancellationRequested();
            Failed(item, failure);
            return false;
        }
    }

    /// <summary>An item failed, and the loop goes on.</summary>
    public void Failed(string item, Exception failure)
    {
        _failed(Kind);
        long unreported;
        lock (_gate)
        {
            if (_reportedAt is { } at && _clock.GetElapsedTime(at) < BetweenReports)
            {
                _unreported++;
                return;
            }

            (unreported, _unreported, _reportedAt) = (_unreported, 0, _clock.GetTimestamp());
        }

        if (failure is FailureException or Store.StoreUnavailableException or Store.StoredStreamException)
        {
            // Expected trouble, which has no use for a stack.
            Log.ItemRefused(_logger, Name, item, failure.Message, unreported);
        }
        else
        {
            Log.ItemFailed(_logger, Name, item, unreported, failure);
        }
    }

    private static partial class Log
    {
        [LoggerMessage(EventId = 80, Level = LogLevel.Error, Message = "LoopItemFailed: {Loop} failed on {Item} and goes on; {Unreported} failures since the last report")]
        public static partial void ItemFailed(ILogger logger, string loop, string item, long unreported, Exception failure);

        [LoggerMessage(
            EventId = 81,
            Level = LogLevel.Warning,
            Message = "LoopItemRefused: {Loop} failed on {Item} and goes on: {Reason}; {Unreported} failures since the last report")]
        public static partial void ItemRefused(ILogger logger, string loop, string item, string reason, long unreported);

        [LoggerMessage(EventId = 82, Level = LogLevel.Error, Message = "LoopTroubled: {Loop}: {Trouble}")]
        public static partial void LoopTroubled(ILogger logger, string loop, string trouble);
    }
}

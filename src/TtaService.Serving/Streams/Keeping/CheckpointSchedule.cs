using Microsoft.Extensions.Options;
using TtaService.Serving.Loops;
using TtaService.Serving.Store;

namespace TtaService.Serving.Streams.Keeping;

/// <summary>Writes the streams' changes behind the steps: oldest first, within a budget of bytes. Saves everything when the host stops.</summary>
internal sealed partial class CheckpointSchedule(
    StreamDirectory directory,
    StreamRegister register,
    StreamDepartures departures,
    StreamSaving saving,
    StoreHealth health,
    LoopWatch loops,
    IOptions<StoreOptions> options,
    TimeProvider clock,
    ILogger<CheckpointSchedule> logger)
    : BackgroundLoop(loops, LoopKind.Checkpoints, "the writing of checkpoints", Period(options.Value), clock)
{
    private readonly StoreOptions _options = options.Value;
    private readonly TimeProvider _clock = clock;
    private readonly Lock _budget = new();
    private double _allowance = options.Value.BytesPerSecond;
    private long _allowanceAt = clock.GetTimestamp();

    public override async Task StopAsync(CancellationToken cancellationToken)
    {
        await base.StopAsync(CancellationToken.None).ConfigureAwait(false);
        if (saving.OutlivesProcess)
        {
            await SaveAllAsync().ConfigureAwait(false);
        }
    }

    protected override async Task TurnAsync(CancellationToken stop)
    {
        if (!health.MayTry)
        {
            return;
        }

        await Parallel.ForEachAsync(Due(), new ParallelOptions { MaxDegreeOfParallelism = _options.Writers, CancellationToken = stop }, async (session, cancel) =>
        {
            await WaitForBudgetAsync(cancel).ConfigureAwait(false);
            if (health.MayTry)
            {
                await Beat.TryAsync($"stream '{session.Name}'", () => SaveAsync(session), stop).ConfigureAwait(false);
            }

            Beat.Turned();
        }).ConfigureAwait(false);
    }

    private static TimeSpan Period(StoreOptions options) =>
        TimeSpan.FromTicks(Math.Clamp(options.CheckpointInterval.Ticks / 20, TimeSpan.TicksPerMillisecond * 20, TimeSpan.TicksPerMillisecond * 500));

    private async Task SaveAsync(StreamSession session)
    {
        var (_, bytes) = await saving.SaveAsync(session).ConfigureAwait(false);
        Spend(bytes);
        register.Recount(session);
    }

    private List<StreamSession> Due()
    {
        var now = _clock.GetTimestamp();
        var due = new List<(long Since, StreamSession Session)>();
        foreach (var session in directory.Loaded)
        {
            lock (session.Gate)
            {
                if (IsDue(session, now))
                {
                    due.Add((session.Keeping.DirtySince, session));
                }
            }
        }

        due.Sort((a, b) => a.Since.CompareTo(b.Since));
        return due.ConvertAll(entry => entry.Session);
    }

    private bool IsDue(StreamSession session, long now)
    {
        var keeping = session.Keeping;
        if (saving.OutlivesProcess && (keeping.Evicted || (keeping.Dirty && keeping.Number == 0)))
        {
            // A new stream is stored at once, so that a crash loses none.
            return true;
        }

        if (keeping.Dirty && keeping.DriftedBy(_options.DriftThreshold))
        {
            return true;
        }

        // Streams that began together must not be written together for ever; the rest of the interval is for the writing.
        return (keeping.Dirty || keeping.Claim is null) && _clock.GetElapsedTime(keeping.DirtySince, now) >= _options.CheckpointInterval * session.Keeping.Spread;
    }

    private async Task WaitForBudgetAsync(CancellationToken cancel)
    {
        while (true)
        {
            double missing;
            lock (_budget)
            {
                var now = _clock.GetTimestamp();
                _allowance = Math.Min(_options.BytesPerSecond, _allowance + (_clock.GetElapsedTime(_allowanceAt, now).TotalSeconds * _options.BytesPerSecond));
                _allowanceAt = now;
                missing = -_allowance;
            }

            // Waiting for it is no standing still.
            Beat.Turned();

            if (missing <= 0)
            {
                return;
            }

            await Task.Delay(TimeSpan.FromSeconds(Math.Clamp(missing / _options.BytesPerSecond, 0.001, 1)), _clock, cancel).ConfigureAwait(false);
        }
    }

    private void Spend(long bytes)
    {
        lock (_budget)
        {
            _allowance -= bytes;
        }
    }

    // Again and again while the store does not serve, until the time for it is over.
    private async Task SaveAllAsync()
    {
        using var timeout = new CancellationTokenSource(_options.StopTimeout, _clock);
        try
        {
            while (true)
            {
                var parallel = new ParallelOptions { MaxDegreeOfParallelism = _options.Writers, CancellationToken = timeout.Token };
                await Parallel.ForEachAsync(directory.Loaded.ToList(), parallel, async (session, _) =>
                {
                    try
                    {
                        await departures.ReleaseAsync(session, Failure.Stopping(), onlyIdle: false).ConfigureAwait(false);
                    }
                    catch (Exception defect)
                    {
                        Log.SaveFailed(logger, session.Name, defect);
                    }
                }).WaitAsync(timeout.Token).ConfigureAwait(false);
                if (directory.Count == 0)
                {
                    return;
                }

                await Task.Delay(_options.RetryDelay, _clock, timeout.Token).ConfigureAwait(false);
            }
        }
        catch (OperationCanceledException)
        {
            Log.StreamsLeft(logger, directory.Count, _options.StopTimeout, health.Trouble);
        }
    }

    private static partial class Log
    {
        [LoggerMessage(EventId = 56, Level = LogLevel.Error, Message = "StreamsLeft: {Streams} streams could not be saved within {StopTimeout} (Store:StopTimeout): {Trouble}")]
        public static partial void StreamsLeft(ILogger logger, int streams, TimeSpan stopTimeout, string? trouble);

        [LoggerMessage(EventId = 58, Level = LogLevel.Error, Message = "SaveFailed {Stream}")]
        public static partial void SaveFailed(ILogger logger, string stream, Exception defect);
    }
}

using Microsoft.Extensions.Options;
using TtaService.Engine.Drift;
using TtaService.Serving.Loops;
using TtaService.Serving.Streams;
using TtaService.Serving.Telemetry;

namespace TtaService.Serving.Drift;

/// <summary>Sweeps all streams on a timer and puts what it finds on the board.</summary>
internal sealed partial class DriftPublisher(
    ModelCatalog models,
    StreamDirectory streams,
    DriftBoard board,
    DriftMetrics metrics,
    LoopWatch loops,
    IOptions<DriftOptions> options,
    TimeProvider clock,
    ILogger<DriftPublisher> logger)
    : BackgroundLoop(loops, LoopKind.DriftSweep, "the sweep for drift", options.Value.Interval, clock)
{
    // Steps wait for the sweep of a slice, not for that of all streams.
    private const int StreamsInSlice = 64;

    private readonly TimeProvider _clock = clock;

    /// <summary>Sweeps every model once.</summary>
    public Task SweepAsync() => TurnAsync(CancellationToken.None);

    /// <summary>A stream as it is now, its level as of the latest sweep; null when nothing was observed of it yet.</summary>
    public static async Task<StreamDrift?> ReadAsync(StreamSession session, DriftMonitor monitor)
    {
        var now = await session.Model.Engine.InvokeAsync(_ => session.State is { } state ? monitor.TryRead(state) : null).ConfigureAwait(false);
        return (now ?? session.Watch.Last) is { } reading ? Describe(session, monitor, reading) : null;
    }

    protected override bool IsNeeded => options.Value.Sites != DriftSites.Off;

    protected override async Task TurnAsync(CancellationToken stop)
    {
        foreach (var model in models.All)
        {
            if (model.Drift.Monitor is { } monitor)
            {
                await Beat.TryAsync($"model {model.Name}", () => SweepAsync(model, monitor, stop), stop).ConfigureAwait(false);
                Beat.Turned();
            }
        }
    }

    private async Task SweepAsync(ServedModel model, DriftMonitor monitor, CancellationToken stop)
    {
        var sessions = new List<StreamSession>();
        var took = TimeSpan.Zero;
        foreach (var engine in models.Engines.Where(engine => engine.Name == model.Name))
        {
            await engine.Shadow.FlushAsync().ConfigureAwait(false);
            // One device that fails leaves the streams of the others their readings.
            await Beat.TryAsync(
                $"model {engine.Name} on {engine.Device}",
                async () => took += await ReadAsync(engine, sessions).ConfigureAwait(false),
                stop).ConfigureAwait(false);
        }

        Publish(model, monitor, sessions, took);
    }

    // Leaves a reading at each stream of a device, and returns how long that took there.
    private async Task<TimeSpan> ReadAsync(ServedModel model, List<StreamSession> swept)
    {
        // Of a model that was replaced the one before may be watched otherwise.
        if (model.Drift.Monitor is not { } monitor)
        {
            return TimeSpan.Zero;
        }

        var sessions = streams.Loaded.Where(session => session.Model == model).ToArray();
        swept.AddRange(sessions);
        var took = TimeSpan.Zero;
        foreach (var slice in sessions.Chunk(StreamsInSlice))
        {
            var (readings, time) = await model.Engine.InvokeAsync(_ => Read(monitor, slice)).ConfigureAwait(false);
            took += time;
            Beat.Turned();
            for (var i = 0; i < slice.Length; i++)
            {
                if (readings[i] is { } reading)
                {
                    slice[i].Watch.Pending = reading;
                }
            }
        }

        return took;
    }

    private (DriftReading?[] Readings, TimeSpan Took) Read(DriftMonitor monitor, StreamSession[] slice)
    {
        var began = _clock.GetTimestamp();
        return (Array.ConvertAll(slice, session => TryRead(monitor, session)), _clock.GetElapsedTime(began));
    }

    // A stream that can't be read must not hide the others.
    private DriftReading? TryRead(DriftMonitor monitor, StreamSession session)
    {
        try
        {
            return session.State is { } state ? monitor.TryRead(state) : null;
        }
        catch (Exception failure)
        {
            Beat.Failed($"stream '{session.Name}'", failure);
            return null;
        }
    }

    private void Publish(ServedModel model, DriftMonitor monitor, List<StreamSession> sessions, TimeSpan took)
    {
        var now = _clock.GetUtcNow();
        var changes = new List<DriftUpdate>();
        var drifts = new List<(StreamDrift Drift, double Score)>(sessions.Count);
        foreach (var session in sessions)
        {
            try
            {
                Judge(session, monitor, now, drifts, changes);
            }
            catch (Exception failure)
            {
                Beat.Failed($"stream '{session.Name}'", failure);
            }
        }

        var report = new DriftReport
        {
            Model = model.Name,
            Sites = [.. model.Engine.Model.Sites.Select(site => site.Name)],
            Reference = monitor.Reference,
            Calibration = model.Drift.Calibration,
            Time = now,
            Took = took,
            Streams = [.. drifts.OrderByDescending(drift => drift.Score).Select(drift => drift.Drift)],
        };
        metrics.Swept(report);
        board.Publish(report, changes);
    }

    private void Judge(StreamSession session, DriftMonitor monitor, DateTimeOffset now, List<(StreamDrift Drift, double Score)> drifts, List<DriftUpdate> changes)
    {
        var watch = session.Watch;
        changes.AddRange(watch.NotLearned.Began().Select(began => new FramesNotLearned(now, session.Name, session.Model.Name, began.Reason, began.Frames)));
        if (watch.TakeRollBack() is { } step)
        {
            changes.Add(new StreamRolledBack(now, session.Name, session.Model.Name, session.Method.Name, step));
        }

        var before = watch.Level;
        var pending = watch.Pending;
        watch.Pending = null;
        var (level, domain) = pending is { } reading ? watch.Update(reading) : default;
        if (watch.Last is not { } last)
        {
            return;
        }

        lock (session.Gate)
        {
            session.Keeping.Score = last.Score;
        }

        var drift = Describe(session, monitor, last);
        drifts.Add((drift, DriftHistoryRecorder.ScoreOf(drift)));
        if (domain)
        {
            changes.Add(new DomainSwitched(now, drift));
        }

        if (level)
        {
            changes.Add(new LevelChanged(now, drift, before));
            Log.LevelChanged(logger, session.Name, before, drift.Level, last.Score ?? double.NaN, last.Steps);
        }
    }

    private static StreamDrift Describe(StreamSession session, DriftMonitor monitor, DriftReading reading) => new()
    {
        Stream = session.Name,
        Model = session.Model.Name,
        Method = session.Method.Name,
        Level = session.Watch.Level,
        Reading = reading,
        Predictions = session.Watch.Health.Read(monitor.Reference?.Of(session.Method.Name)),
    };

    private static partial class Log
    {
        [LoggerMessage(EventId = 70, Level = LogLevel.Information, Message = "DriftLevelChanged {Stream}: {Before} to {Level}, score {Score:0.00} at step {Step}")]
        public static partial void LevelChanged(ILogger logger, string stream, DriftLevel before, DriftLevel level, double score, long step);
    }
}

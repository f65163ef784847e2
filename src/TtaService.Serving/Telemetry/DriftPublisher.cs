using Microsoft.Extensions.Options;
using TtaService.Engine.Drift;
using TtaService.Serving.Streams;

namespace TtaService.Serving.Telemetry;

/// <summary>Sweeps all streams on a timer and puts what it finds on the board.</summary>
internal sealed partial class DriftPublisher(ModelCatalog models, StreamDirectory streams, DriftBoard board, DriftMetrics metrics, IOptions<DriftOptions> options, TimeProvider clock, ILogger<DriftPublisher> logger) : BackgroundService
{
    // Steps wait for the sweep of a slice, not for that of all streams.
    private const int StreamsInSlice = 64;

    /// <summary>Sweeps every model once.</summary>
    public async Task SweepAsync()
    {
        foreach (var model in models.All)
        {
            if (model.Drift.Monitor is { } monitor)
            {
                var sessions = new List<StreamSession>();
                var took = TimeSpan.Zero;
                foreach (var engine in models.Engines.Where(engine => engine.Name == model.Name))
                {
                    await engine.Shadow.FlushAsync().ConfigureAwait(false);
                    took += await SweepAsync(engine, engine.Drift.Monitor!, sessions).ConfigureAwait(false);
                }

                Publish(model, monitor, sessions, took);
            }
        }
    }

    /// <summary>A stream as it is now, its level as of the latest sweep; null when nothing was observed of it yet.</summary>
    public static async Task<StreamDrift?> ReadAsync(StreamSession session, DriftMonitor monitor)
    {
        var now = await session.Model.Engine.InvokeAsync(_ => session.State is { } state ? monitor.TryRead(state) : null).ConfigureAwait(false);
        return (now ?? session.Watch.Last) is { } reading ? Describe(session, monitor, reading) : null;
    }

    protected override async Task ExecuteAsync(CancellationToken stoppingToken)
    {
        if (options.Value.Sites == DriftSites.Off)
        {
            return;
        }

        using var timer = new PeriodicTimer(options.Value.Interval, clock);
        try
        {
            while (await timer.WaitForNextTickAsync(stoppingToken).ConfigureAwait(false))
            {
                await SweepAsync().ConfigureAwait(false);
            }
        }
        catch (Exception stopping) when (stopping is OperationCanceledException or ObjectDisposedException)
        {
            // The host stops, or an engine did before this.
        }
    }

    // Leaves a reading at each stream of a device, and returns how long that took there.
    private async Task<TimeSpan> SweepAsync(ServedModel model, DriftMonitor monitor, List<StreamSession> swept)
    {
        var sessions = streams.Loaded.Where(session => session.Model == model).ToArray();
        swept.AddRange(sessions);
        var took = TimeSpan.Zero;
        foreach (var slice in sessions.Chunk(StreamsInSlice))
        {
            var (readings, time) = await model.Engine.InvokeAsync(_ => Read(monitor, slice)).ConfigureAwait(false);
            took += time;
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
        var began = clock.GetTimestamp();
        return (Array.ConvertAll(slice, session => session.State is { } state ? monitor.TryRead(state) : null), clock.GetElapsedTime(began));
    }

    private void Publish(ServedModel model, DriftMonitor monitor, List<StreamSession> sessions, TimeSpan took)
    {
        var now = clock.GetUtcNow();
        var changes = new List<DriftUpdate>();
        var drifts = new List<StreamDrift>(sessions.Count);
        foreach (var session in sessions)
        {
            var watch = session.Watch;
            var before = watch.Level;
            var (level, domain) = watch.Pending is { } reading ? watch.Update(reading) : default;
            watch.Pending = null;
            if (watch.Last is not { } last)
            {
                continue;
            }

            lock (session.Gate)
            {
                session.Keeping.Score = last.Score;
            }

            var drift = Describe(session, monitor, last);
            drifts.Add(drift);
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

        var report = new DriftReport
        {
            Model = model.Name,
            Sites = [.. model.Engine.Model.Sites.Select(site => site.Name)],
            Reference = monitor.Reference,
            Calibration = model.Drift.Calibration,
            Time = now,
            Took = took,
            Streams = [.. drifts.OrderByDescending(drift => drift.Reading.Score ?? drift.Reading.GaussianKl.Average())],
        };
        metrics.Swept(report);
        board.Publish(report, changes);
    }

    private static StreamDrift Describe(StreamSession session, DriftMonitor monitor, DriftReading reading) => new()
    {
        Stream = session.Name,
        Model = session.Model.Name,
        Method = session.Method.Name,
        Level = session.Watch.Level,
        Reading = reading,
        Predictions = session.Watch.Health.Read(monitor.Reference?.Methods.GetValueOrDefault(session.Method.Name)),
    };

    private static partial class Log
    {
        [LoggerMessage(EventId = 70, Level = LogLevel.Information, Message = "DriftLevelChanged {Stream}: {Before} to {Level}, score {Score:0.00} at step {Step}")]
        public static partial void LevelChanged(ILogger logger, string stream, DriftLevel before, DriftLevel level, double score, long step);
    }
}

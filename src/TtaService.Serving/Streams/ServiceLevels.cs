using Microsoft.Extensions.Options;
using TtaService.Serving.Telemetry;

namespace TtaService.Serving.Streams;

/// <summary>Lets the metrics read how full the models are and how the streams stand, from the moment the models are loaded.</summary>
internal sealed class ServiceLevels(
    TtaMetrics metrics,
    ModelCatalog models,
    StreamDirectory directory,
    IOptions<BatchingOptions> batching,
    IOptions<StreamsOptions> streams,
    TimeProvider clock) : IHostedService, ILevelSource
{
    private IDisposable? _observation;

    double? ILevelSource.Utilization => Math.Max((double)directory.Count / streams.Value.MaxStreams, models.Engines.Select(Filled).DefaultIfEmpty().Max());

    IEnumerable<ModelLevels> ILevelSource.Models => ReadModels();

    IEnumerable<StreamLevels> ILevelSource.Streams => ReadStreams();

    public Task StartAsync(CancellationToken cancellationToken)
    {
        _observation = metrics.Observe(this);
        return Task.CompletedTask;
    }

    public Task StopAsync(CancellationToken cancellationToken)
    {
        // The models are about to be unloaded.
        _observation?.Dispose();
        return Task.CompletedTask;
    }

    private static double Filled(ServedModel model) => (double)model.Engine.Model.ResidentBytes / model.Engine.Model.ArenaBytes;

    private IEnumerable<ModelLevels> ReadModels() => models.Engines.GroupBy(served => served.Name).Select(devices => new ModelLevels(
        devices.Key,
        devices.Sum(served => served.Batcher.QueuedSteps),
        devices.Count() * batching.Value.MaxQueuedSteps,
        devices.Sum(served => served.Engine.Model.ResidentStreams),
        devices.Sum(served => served.Engine.Model.ResidentBytes),
        devices.Sum(served => served.Engine.Model.ArenaBytes)));

    private IEnumerable<StreamLevels> ReadStreams()
    {
        var now = clock.GetTimestamp();
        var levels = models.All.ToDictionary(model => model.Name, _ => (Cold: 0L, Dirty: 0L, Oldest: now), StringComparer.Ordinal);
        foreach (var session in directory.Loaded)
        {
            var (cold, dirty, oldest) = levels.GetValueOrDefault(session.Model.Name, (0, 0, now));
            lock (session.Gate)
            {
                cold += session.State is { IsResident: true } ? 0 : 1;
                if (session.Keeping.Dirty)
                {
                    dirty++;
                    oldest = Math.Min(oldest, session.Keeping.DirtySince);
                }
            }

            levels[session.Model.Name] = (cold, dirty, oldest);
        }

        return levels.Select(level => new StreamLevels(level.Key, level.Value.Cold, level.Value.Dirty, clock.GetElapsedTime(level.Value.Oldest, now)));
    }
}

using TtaService.Serving.Streams;
using TtaService.Serving.Telemetry;

namespace TtaService.Serving.Front;

/// <summary>A stream's drift at one site.</summary>
/// <param name="Name">The site.</param>
/// <param name="GaussianKl">The divergence of its statistics from the source's.</param>
/// <param name="Wasserstein">The distance of its statistics from the source's.</param>
/// <param name="Limit">The divergence from which it is critical; null when the model was not calibrated for the stream's method.</param>
internal sealed record SiteDriftFigures(string Name, double GaussianKl, double Wasserstein, double? Limit);

/// <summary>A stream's drift now, site by site in execution order.</summary>
internal sealed record StreamDriftFigures(StreamDrift Drift, IReadOnlyList<SiteDriftFigures> Sites);

/// <summary>Watches drift, for whatever protocol. What is refused is a value. Thread-safe.</summary>
internal interface IDriftWatching
{
    /// <summary>Every update from now on.</summary>
    /// <param name="model">Only of this model; empty for all.</param>
    Outcome<IDriftFeed> Watch(string model);

    /// <summary>The drift of a stream that is in this process.</summary>
    Task<Outcome<StreamDriftFigures>> ReadAsync(StreamKey stream);
}

/// <summary>What one watcher hears, until it is disposed of. A watcher that is slower than the sweeps loses the oldest updates.</summary>
internal interface IDriftFeed : IDisposable
{
    /// <summary>The latest sweeps when the watch began, then updates as they come.</summary>
    IAsyncEnumerable<DriftUpdate> ReadAsync(CancellationToken cancel);
}

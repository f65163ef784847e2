using Microsoft.Extensions.Diagnostics.HealthChecks;
using TtaService.Serving.Store;
using TtaService.Serving.Streams;

namespace TtaService.Host.Hosting;

/// <summary>Ready from the moment the models are loaded, which is before the listeners open, until a stop is asked for. Degraded, which still takes work, while the state store does not serve or models of the repository can't be served.</summary>
internal sealed class ReadinessCheck(IHostApplicationLifetime lifetime, StoreHealth store, ModelCatalog models) : IHealthCheck
{
    public const string Name = "readiness";

    public Task<HealthCheckResult> CheckHealthAsync(HealthCheckContext context, CancellationToken cancellationToken = default) =>
        Task.FromResult(lifetime.ApplicationStopping.IsCancellationRequested
            ? HealthCheckResult.Unhealthy("stopping")
            : Troubles() is { Length: > 0 } troubles ? HealthCheckResult.Degraded(string.Join("; ", troubles)) : HealthCheckResult.Healthy());

    private string[] Troubles() => [.. store.Trouble is { } trouble ? [$"state store: {trouble}"] : Array.Empty<string>(), .. models.Broken.Select(broken => $"model {broken.Name} is not served: {broken.Reason}")];
}

using Microsoft.Extensions.Diagnostics.HealthChecks;
using TtaService.Serving.Store;

namespace TtaService.Host.Hosting;

/// <summary>Ready from the moment the models are loaded, which is before the listeners open, until a stop is asked for. Degraded, which still takes work, while the state store does not serve.</summary>
internal sealed class ReadinessCheck(IHostApplicationLifetime lifetime, StoreHealth store) : IHealthCheck
{
    public const string Name = "readiness";

    public Task<HealthCheckResult> CheckHealthAsync(HealthCheckContext context, CancellationToken cancellationToken = default) =>
        Task.FromResult(lifetime.ApplicationStopping.IsCancellationRequested
            ? HealthCheckResult.Unhealthy("stopping")
            : store.Trouble is { } trouble ? HealthCheckResult.Degraded($"state store: {trouble}") : HealthCheckResult.Healthy());
}

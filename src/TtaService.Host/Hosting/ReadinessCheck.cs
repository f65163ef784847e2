using Microsoft.Extensions.Diagnostics.HealthChecks;
using TtaService.Serving.Loops;
using TtaService.Serving.Store;

namespace TtaService.Host.Hosting;

/// <summary>Ready from the moment the models are loaded, which is before the listeners open, until a stop is asked for, while every loop of the server gets on. Degraded, which still takes work, while the state store does not serve.</summary>
internal sealed class ReadinessCheck(IHostApplicationLifetime lifetime, LoopWatch loops, StoreHealth store) : IHealthCheck
{
    public const string Name = "readiness";

    public Task<HealthCheckResult> CheckHealthAsync(HealthCheckContext context, CancellationToken cancellationToken = default) => Task.FromResult(Check());

    private HealthCheckResult Check()
    {
        if (lifetime.ApplicationStopping.IsCancellationRequested)
        {
            return HealthCheckResult.Unhealthy("stopping");
        }

        if (loops.WhyUnwell(vitalOnly: false) is { } unwell)
        {
            return HealthCheckResult.Unhealthy(unwell);
        }

        return store.Trouble is { } trouble ? HealthCheckResult.Degraded($"state store: {trouble}") : HealthCheckResult.Healthy();
    }
}

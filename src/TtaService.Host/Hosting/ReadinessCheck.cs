using Microsoft.Extensions.Diagnostics.HealthChecks;
using TtaService.Serving.Loops;
using TtaService.Serving.Store;
using TtaService.Serving.Streams;

namespace TtaService.Host.Hosting;

/// <summary>Ready from the moment the models are loaded, which is before the listeners open, until a stop is asked for, while every loop of the server gets on. Degraded, which still takes work, while the state store does not serve or models of the repository can't be served.</summary>
internal sealed class ReadinessCheck(IHostApplicationLifetime lifetime, LoopWatch loops, StoreHealth store, ModelCatalog models) : IHealthCheck
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

        return Troubles() is { Length: > 0 } troubles ? HealthCheckResult.Degraded(string.Join("; ", troubles)) : HealthCheckResult.Healthy();
    }

    private string[] Troubles() => [.. store.Trouble is { } trouble ? [$"state store: {trouble}"] : Array.Empty<string>(), .. models.Broken.Select(broken => $"model {broken.Name} is not served: {broken.Reason}")];
}

using Microsoft.Extensions.Diagnostics.HealthChecks;

namespace TtaService.Host.Hosting;

/// <summary>Ready from the moment the models are loaded, which is before the listeners open, until a stop is asked for.</summary>
internal sealed class ReadinessCheck(IHostApplicationLifetime lifetime) : IHealthCheck
{
    public const string Name = "readiness";

    public Task<HealthCheckResult> CheckHealthAsync(HealthCheckContext context, CancellationToken cancellationToken = default) =>
        Task.FromResult(lifetime.ApplicationStopping.IsCancellationRequested ? HealthCheckResult.Unhealthy("stopping") : HealthCheckResult.Healthy());
}

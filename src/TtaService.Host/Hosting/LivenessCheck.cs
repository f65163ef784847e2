using Microsoft.Extensions.Diagnostics.HealthChecks;
using TtaService.Serving.Loops;

namespace TtaService.Host.Hosting;

/// <summary>Alive while steps can be answered: fails when a batcher or a device's thread is stuck, or every pass of a device fails. Then only a new process helps. Asks neither the
/// store nor the device itself.</summary>
internal sealed class LivenessCheck(LoopWatch loops) : IHealthCheck
{
    public const string Name = "liveness";

    public Task<HealthCheckResult> CheckHealthAsync(HealthCheckContext context, CancellationToken cancellationToken = default) =>
        Task.FromResult(loops.WhyUnwell(vitalOnly: true) is { } unwell ? HealthCheckResult.Unhealthy(unwell) : HealthCheckResult.Healthy());
}

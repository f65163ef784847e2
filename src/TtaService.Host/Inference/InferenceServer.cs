using System.Reflection;
using Microsoft.Extensions.Diagnostics.HealthChecks;
using Microsoft.Extensions.Options;
using TtaService.Host.Hosting;

namespace TtaService.Host.Inference;

/// <summary>What the server says of itself.</summary>
internal sealed class InferenceServer(HealthCheckService health, IOptions<InferenceOptions> options)
{
    /// <summary>What it does beyond the protocol's core.</summary>
    public static readonly IReadOnlyList<string> Extensions =
        ["classification", "sequence", "model_repository", "model_configuration", "statistics", "binary_tensor_data", "parameters", "tta"];

    /// <summary>The examples of Triton's clients ask for Triton's name.</summary>
    public string Name => options.Value.ConformanceModels ? "triton" : "tta";

    public static string ProgramVersion { get; } =
        typeof(InferenceServer).Assembly.GetCustomAttribute<AssemblyInformationalVersionAttribute>()?.InformationalVersion.Split('+')[0] ?? "0";

    public async Task<bool> IsReadyAsync(CancellationToken cancel)
    {
        var report = await health.CheckHealthAsync(check => check.Name == ReadinessCheck.Name, cancel).ConfigureAwait(false);
        return report.Status == HealthStatus.Healthy;
    }
}

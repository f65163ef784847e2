using k8s;
using TtaService.Host.Tests.Infrastructure;

namespace TtaService.Host.Tests.Deployment;

/// <summary>Kubernetes objects as typed values. A property that the type does not have is an error.</summary>
internal static class Manifests
{
    // Objects of operators: the client has no types for them.
    private static readonly Dictionary<string, Type> Custom = new()
    {
        ["monitoring.coreos.com/v1/ServiceMonitor"] = typeof(Dictionary<object, object>),
        ["monitoring.coreos.com/v1/PrometheusRule"] = typeof(Dictionary<object, object>),
        ["keda.sh/v1alpha1/ScaledObject"] = typeof(Dictionary<object, object>),
        ["gateway.networking.k8s.io/v1/GRPCRoute"] = typeof(Dictionary<object, object>),
        ["gateway.envoyproxy.io/v1alpha1/BackendTrafficPolicy"] = typeof(Dictionary<object, object>),
    };

    public const string Folder = "deploy/kustomize";

    /// <exception cref="YamlDotNet.Core.YamlException">A value has the wrong type, or a property is not known.</exception>
    public static IReadOnlyList<object> Parse(string yaml) => KubernetesYaml.LoadAllFromString(yaml, Custom, strict: true);

    /// <summary>What kubectl renders of a folder with a kustomization; skips the test where there is no kubectl.</summary>
    public static async Task<string> RenderAsync(string folder)
    {
        var kubectl = OtherProgram.Require("kubectl", "kubectl, from Kubernetes' own packages");
        var (exitCode, printed) = await Repository.RunAsync(kubectl, "kustomize", folder);
        Assert.True(exitCode == 0, printed);
        return printed;
    }

    /// <summary>A value of an untyped object, by its keys.</summary>
    public static object? At(this object? value, params object[] path) =>
        path.Aggregate(value, (here, key) => here switch
        {
            IDictionary<object, object> map => map.TryGetValue(key, out var inner) ? inner : null,
            IList<object> list when key is int index => index < list.Count ? list[index] : null,
            _ => null,
        });

    public static string Text(this object? value, params object[] path) => value.At(path)?.ToString() ?? string.Empty;

    public static IEnumerable<object> Items(this object? value, params object[] path) => value.At(path) as IList<object> ?? [];
}

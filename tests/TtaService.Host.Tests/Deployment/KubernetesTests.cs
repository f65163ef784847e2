using System.Text;
using k8s.Models;
using YamlDotNet.Core;

namespace TtaService.Host.Tests.Deployment;

/// <summary>The manifests of deploy/kustomize. Without kubectl only the rendered install.yaml and the single files are checked.</summary>
public sealed class KubernetesTests
{
    private static string Installed => Repository.Read($"{Manifests.Folder}/install.yaml");

    public static TheoryData<string> Files() => [.. Directory.EnumerateFiles(Repository.In(Manifests.Folder), "*.yaml", SearchOption.AllDirectories)
        .Where(file => Path.GetFileName(file) != "kustomization.yaml").Select(file => Path.GetRelativePath(Repository.Root, file)).Order(StringComparer.Ordinal)];

    public static TheoryData<string> Overlays() => [.. Directory.EnumerateDirectories(Repository.In($"{Manifests.Folder}/overlays"))
        .Select(folder => Path.GetRelativePath(Repository.Root, folder)).Order(StringComparer.Ordinal)];

    public static TheoryData<string> Components() =>
        [.. Directory.EnumerateDirectories(Repository.In($"{Manifests.Folder}/components")).Select(Path.GetFileName).Order(StringComparer.Ordinal).OfType<string>()];

    [Theory]
    [MemberData(nameof(Files))]
    public void File_HasOnlyPropertiesThatKubernetesKnows(string file) => Assert.NotEmpty(Manifests.Parse(Repository.Read(file)));

    [Theory]
    [InlineData("    startupProbe:", "    startupProb:")]
    [InlineData("  replicas: 3", "  replicas: three")]
    [InlineData("terminationGracePeriodSeconds", "terminationGracePeriodSecond")]
    public void MistypedProperty_IsAnError(string right, string wrong) => Assert.Throws<YamlException>(() => Manifests.Parse(Mutated(right, wrong)));

    [Fact]
    public void Installation_KeepsThePolicy() => Assert.Empty(ManifestPolicy.Problems(Manifests.Parse(Installed)));

    [Theory]
    [MemberData(nameof(Overlays))]
    public async Task Overlay_KeepsThePolicy(string overlay) => Assert.Empty(ManifestPolicy.Problems(Manifests.Parse(await Manifests.RenderAsync(overlay))));

    // Each component does its part beside Redis, which those that scale need.
    [Theory]
    [MemberData(nameof(Components))]
    public async Task Component_KeepsThePolicy(string component)
    {
        var folder = Directory.CreateDirectory(Repository.In($"{Manifests.Folder}/overlays/test-{Guid.NewGuid():N}"));
        try
        {
            var components = new HashSet<string> { "redis", component };
            await File.WriteAllTextAsync(Path.Combine(folder.FullName, "kustomization.yaml"), $"""
                apiVersion: kustomize.config.k8s.io/v1beta1
                kind: Kustomization
                namespace: tta
                resources: [../../base]
                components: [{string.Join(", ", components.Select(name => $"../../components/{name}"))}]
                """, TestContext.Current.CancellationToken);

            Assert.Empty(ManifestPolicy.Problems(Manifests.Parse(await Manifests.RenderAsync(folder.FullName))));
        }
        finally
        {
            folder.Delete(recursive: true);
        }
    }

    /// <summary>The rules are rules: each of these would break a fleet, and is found.</summary>
    [Theory]
    [InlineData("terminationGracePeriodSeconds: 45", "terminationGracePeriodSeconds: 35", "is killed after")]
    [InlineData("value: \"00:00:20\"", "value: \"00:00:40\"", "is killed after")]
    [InlineData("value: \"00:00:20\"", "value: soon", "Server:ShutdownTimeout is 'soon'")]
    [InlineData("name: Server__ShutdownTimeout", "name: Server__ShutdownTime", "Server:ShutdownTime is not a setting")]
    [InlineData("containerPort: 8001", "containerPort: 9001", "ports are not those")]
    [InlineData("targetPort: grpc", "targetPort: grpcs", "which the pods do not have")]
    [InlineData("service: liveness", "service: readiness", "does not ask liveness")]
    [InlineData("value: redis", "value: memory", "a stream that moves starts anew")]
    [InlineData("name: Store__Replica", "name: Store__RedisKeyPrefix", "need a name each")]
    [InlineData("value: '*'", "value: localhost", "nothing outside the pod")]
    [InlineData("runAsNonRoot: true", "runAsNonRoot: false", "may run as root")]
    [InlineData("readOnlyRootFilesystem: true", "readOnlyRootFilesystem: false", "more rights")]
    [InlineData("image: tta:cpu", "image: tta:latest", "no fixed tag")]
    [InlineData("    memory: 2Gi\n          requests:", "    cpu: 2\n          requests:", "no memory limit")]
    [InlineData("- port: 6379\n    to:", "- port: 6380\n    to:", "lets the service reach")]
    [InlineData("- port: 8001\n", "- port: 8002\n", "on which nothing listens")]
    [InlineData("mountPath: /tmp", "mountPath: /temp", "no /tmp")]
    [InlineData("value: \"0x32\"", "value: \"0x5F\"", "libtorch has no room")]
    [InlineData("  selector:\n    app.kubernetes.io/name: tta\n", "  selector:\n    app.kubernetes.io/name: other\n", "selects 0 workloads")]
    [InlineData("key: configuration\n              name: tta-redis", "key: configuration\n              name: tta-radish", "is not there")]
    public void Change_ThatWouldBreakAFleet_IsFound(string from, string to, string problem) =>
        Assert.Contains(ManifestPolicy.Problems(Manifests.Parse(Mutated(from, to))), found => found.Contains(problem, StringComparison.Ordinal));

    [Theory]
    [InlineData("name: tta_stream_utilization", "name: tta_stream_utilisation", "is no metric of the service")]
    [InlineData("kind: Deployment\n    name: tta\n", "kind: Deployment\n    name: tto\n", "which is not there")]
    [InlineData("operator: DoesNotExist", "operator: Exists", "not tta alone")]
    [InlineData("port: http\n", "port: web\n", "does not scrape")]
    public async Task Change_ThatWouldBreakMonitoring_IsFound(string from, string to, string problem)
    {
        var rendered = await Manifests.RenderAsync($"{Manifests.Folder}/overlays/monitoring");

        Assert.Contains(ManifestPolicy.Problems(Manifests.Parse(Mutated(from, to, rendered))), found => found.Contains(problem, StringComparison.Ordinal));
    }

    [Fact]
    public async Task Derived_FilesAreFresh()
    {
        var rules = Manifests.Parse(Repository.Read($"{Manifests.Folder}/components/monitoring/prometheusrule.yaml"))[0].At("spec");
        var source = new YamlDotNet.Serialization.Deserializer().Deserialize<object>(Repository.Read("deploy/prometheus/tta.rules.yml"));
        Assert.Equal(Plain(source), Plain(rules));

        var rendered = await Manifests.RenderAsync($"{Manifests.Folder}/overlays/redis");
        Assert.Equal(rendered.Trim(), Installed[(Installed.IndexOf('\n', StringComparison.Ordinal) + 1)..].Trim());
    }

    [Fact]
    public async Task Dashboard_TravelsInAConfigMapThatGrafanaFinds()
    {
        var map = Assert.Single(Manifests.Parse(await Manifests.RenderAsync($"{Manifests.Folder}/overlays/monitoring")).OfType<V1ConfigMap>());

        Assert.Equal("1", map.Metadata.Labels["grafana_dashboard"]);
        Assert.Equal(Repository.Read("deploy/grafana/tta.json").TrimEnd(), map.Data["tta.json"].TrimEnd());
    }

    private static string Mutated(string from, string to, string? yaml = null)
    {
        var text = yaml ?? Installed;
        Assert.Contains(from, text, StringComparison.Ordinal);
        return text.Replace(from, to, StringComparison.Ordinal);
    }

    private static string Plain(object? value)
    {
        var text = new StringBuilder();
        new YamlDotNet.Serialization.Serializer().Serialize(new StringWriter(text), value);
        return text.ToString();
    }
}

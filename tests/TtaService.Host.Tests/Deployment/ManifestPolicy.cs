using System.Globalization;
using System.Text.RegularExpressions;
using k8s;
using k8s.Models;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Options;
using TtaService.Host.Hosting;
using TtaService.Serving.Models;
using TtaService.Serving.Store;
using TtaService.Serving.Telemetry;
using TtaService.V1;

namespace TtaService.Host.Tests.Deployment;

/// <summary>Rules that go beyond the types of Kubernetes: between objects, and between them and the service's own settings and metrics.</summary>
internal sealed partial class ManifestPolicy
{
    private const string Service = "tta";
    private static readonly string[] GrpcServices = [AdaptationService.Descriptor.FullName, StreamsService.Descriptor.FullName, ModelsService.Descriptor.FullName];
    private static readonly HashSet<string> Metrics = [.. MetricCatalogue.All.Select(metric => metric.Name.Replace('.', '_'))];

    private readonly IReadOnlyList<object> _objects;
    private readonly List<Workload> _workloads;
    private readonly List<string> _problems = [];

    private ManifestPolicy(IReadOnlyList<object> objects)
    {
        _objects = objects;
        _workloads =
        [
            .. objects.OfType<V1Deployment>()
                .Select(deployment => new Workload(deployment.Metadata, deployment.Spec.Selector, deployment.Spec.Template, deployment.Spec.Replicas ?? 1, [])),
            .. objects.OfType<V1StatefulSet>().Select(set => new Workload(
                set.Metadata, set.Spec.Selector, set.Spec.Template, set.Spec.Replicas ?? 1, [.. (set.Spec.VolumeClaimTemplates ?? []).Select(claim => claim.Metadata.Name)])),
        ];
    }

    /// <summary>What is wrong with the objects that are applied together; empty when nothing is.</summary>
    public static IReadOnlyList<string> Problems(IReadOnlyList<object> objects)
    {
        var policy = new ManifestPolicy(objects);
        policy._workloads.ForEach(policy.CheckPod);
        policy.CheckService();
        policy.CheckSelectors();
        policy.CheckScaling();
        policy.CheckOperators();
        policy.CheckNames();
        return policy._problems;
    }

    private void Require(bool holds, string otherwise)
    {
        if (!holds)
        {
            _problems.Add(otherwise);
        }
    }

    // What Pod Security calls restricted, and what a scheduler needs to know.
    private void CheckPod(Workload workload)
    {
        var pod = workload.Template.Spec;
        var name = workload.Metadata.Name;
        Require(pod.SecurityContext is { RunAsNonRoot: true, RunAsUser: > 0, SeccompProfile.Type: "RuntimeDefault" }, $"{name}: the pod may run as root, or without seccomp");
        Require(pod.AutomountServiceAccountToken == false, $"{name}: the pod gets a token for the API server");
        foreach (var container in pod.Containers.Concat(pod.InitContainers ?? []))
        {
            var here = $"{name}/{container.Name}";
            Require(container.SecurityContext is { AllowPrivilegeEscalation: false, ReadOnlyRootFilesystem: true } && container.SecurityContext.Capabilities.Drop.Contains("ALL"),
                $"{here}: more rights than it needs");
            Require(Regex.IsMatch(container.Image, ":(?!latest$)[^:/]+$"), $"{here}: image {container.Image} has no fixed tag");
            Require(Quantity(container.Resources?.Limits, "memory") is > 0 && Quantity(container.Resources?.Requests, "cpu") is > 0, $"{here}: no memory limit, or no CPU request");
            foreach (var mount in container.VolumeMounts ?? [])
            {
                Require((pod.Volumes ?? []).Any(volume => volume.Name == mount.Name) || workload.Claims.Contains(mount.Name),
                    $"{here}: mounts {mount.Name}, which is no volume of the pod");
            }
        }

        foreach (var container in pod.Containers)
        {
            var here = $"{name}/{container.Name}";
            Require(container.ReadinessProbe is not null && container.LivenessProbe is not null, $"{here}: no readiness or no liveness probe");
            Require(Quantity(container.Resources?.Limits, "memory") == Quantity(container.Resources?.Requests, "memory"),
                $"{here}: the memory it may use is not the memory it is given");
            Require(Quantity(container.Resources?.Limits, "cpu") is null, $"{here}: a CPU limit throttles forward passes");
        }
    }

    // Between the Deployment and the service's own settings.
    private void CheckService()
    {
        if (_workloads.FirstOrDefault(workload => workload.Metadata.Name == Service) is not { } workload)
        {
            _problems.Add("there is no workload named tta");
            return;
        }

        var pod = workload.Template.Spec;
        var container = pod.Containers[0];
        var settings = Settings(container);
        ServerOptions server;
        StoreOptions store;
        ModelsOptions models;
        try
        {
            var host = TtaHost.Build([.. settings.Where(setting => setting.Key.Contains(':', StringComparison.Ordinal)).Select(setting => $"--{setting.Key}={setting.Value}")]);
            using var disposal = (IDisposable)host;
            server = host.Services.GetRequiredService<IOptions<ServerOptions>>().Value;
            store = host.Services.GetRequiredService<IOptions<StoreOptions>>().Value;
            models = host.Services.GetRequiredService<IOptions<ModelsOptions>>().Value;
        }
        catch (OptionsValidationException wrong)
        {
            _problems.AddRange(wrong.Failures);
            return;
        }

        var grace = TimeSpan.FromSeconds(pod.TerminationGracePeriodSeconds ?? 30);
        var preStop = TimeSpan.FromSeconds(container.Lifecycle?.PreStop?.Sleep?.Seconds ?? 0);
        Require(preStop > TimeSpan.Zero, "no preStop sleep: calls end while the pod is still an endpoint");
        Require(grace > preStop + server.ShutdownTimeout + store.StopTimeout,
            $"the pod is killed after {grace}, its stop may take {preStop} + {server.ShutdownTimeout} + {store.StopTimeout}");
        Require(container.Ports.Any(port => port.Name == "grpc" && port.ContainerPort == server.GrpcPort)
            && container.Ports.Any(port => port.Name == "http" && port.ContainerPort == server.HttpPort), "the container's ports are not those that the service listens on");
        Require(server.Address is "*" or "0.0.0.0" or "::", $"Server:Address is {server.Address}: nothing outside the pod reaches it");
        CheckProbe(container.StartupProbe, "readiness", server.GrpcPort);
        CheckProbe(container.ReadinessProbe, "readiness", server.GrpcPort);
        CheckProbe(container.LivenessProbe, "liveness", server.GrpcPort);

        var scaled = workload.Replicas > 1 || _objects.OfType<V2HorizontalPodAutoscaler>().Any() || Custom("ScaledObject").Any();
        Require(!scaled || store.Kind == StoreKind.Redis, $"several replicas with Store:Kind={store.Kind}: a stream that moves starts anew");
        Require(!scaled || settings.GetValueOrDefault("Store:Replica") == FromThePod, "several replicas need a name each: Store__Replica from metadata.name");
        Require(store.Kind != StoreKind.File || container.VolumeMounts.Any(mount => store.Path.StartsWith(mount.MountPath, StringComparison.Ordinal)),
            $"Store:Path is {store.Path}, which is on no volume");
        Require(store.Kind != StoreKind.Redis || Reaches(workload, store.RedisConfiguration!), $"no NetworkPolicy lets the service reach {store.RedisConfiguration}");
        Require((Quantity(container.Resources.Limits, "nvidia.com/gpu") > 0) == models.Device.StartsWith("cuda", StringComparison.Ordinal),
            $"Models:Device is {models.Device}, and nvidia.com/gpu does not fit it");
        var limit = settings.GetValueOrDefault("DOTNET_GCHeapHardLimitPercent", "0x4B").Replace("0x", string.Empty, StringComparison.Ordinal);
        Require(
            int.TryParse(limit, NumberStyles.HexNumber, CultureInfo.InvariantCulture, out var heap) && heap is >= 20 and <= 60,
            "the managed heap may take so much of the limit that libtorch has no room (DOTNET_GCHeapHardLimitPercent, hexadecimal)");
        Require(
            container.SecurityContext.ReadOnlyRootFilesystem != true || container.VolumeMounts.Any(mount => mount.MountPath == "/tmp"), "no /tmp on a read-only root file system");
    }

    private const string FromThePod = "pod-0";

    private void CheckProbe(V1Probe? probe, string service, int port) =>
        Require(probe?.Grpc?.Service == service && probe.Grpc.Port == port && probe.TimeoutSeconds >= 1, $"a probe does not ask {service} on port {port}");

    // Environment variables as the service reads them; references are followed.
    private Dictionary<string, string> Settings(V1Container container) => (container.Env ?? []).ToDictionary(
        variable => variable.Name.Replace("__", ":", StringComparison.Ordinal),
        variable => variable switch
        {
            { Value: { } value } => value,
            { ValueFrom.FieldRef.FieldPath: "metadata.name" } => FromThePod,
            { ValueFrom.SecretKeyRef: { } reference } => _objects.OfType<V1Secret>()
                .SingleOrDefault(secret => secret.Metadata.Name == reference.Name)?.StringData.TryGetValue(reference.Key, out var value) == true ? value : Missing(variable),
            _ => Missing(variable),
        });

    private string Missing(V1EnvVar variable)
    {
        _problems.Add($"{variable.Name} comes from something that is not there");
        return string.Empty;
    }

    private bool Reaches(Workload from, string redis)
    {
        var address = redis.Split(',')[0].Split(':');
        var target = _objects.OfType<V1Service>().SingleOrDefault(service => service.Metadata.Name == address[0]);
        var port = int.Parse(address[1], CultureInfo.InvariantCulture);
        return target is not null && target.Spec.Ports.Any(offered => offered.Port == port)
            && _objects.OfType<V1NetworkPolicy>().Any(policy => Matches(policy.Spec.PodSelector, from.Labels)
                && (policy.Spec.Egress ?? []).Any(rule => Allows(rule.Ports, port) && (rule.To ?? []).Any(to => Matches(to.PodSelector, target.Spec.Selector))))
            && _objects.OfType<V1NetworkPolicy>().Any(policy => Matches(policy.Spec.PodSelector, target.Spec.Selector)
                && (policy.Spec.Ingress ?? []).Any(rule => Allows(rule.Ports, port) && (rule.FromProperty ?? []).Any(source => Matches(source.PodSelector, from.Labels))));
    }

    private static bool Allows(IList<V1NetworkPolicyPort>? ports, int port) =>
        ports is null || ports.Any(allowed => allowed.Port is null || allowed.Port.Value == port.ToString(CultureInfo.InvariantCulture));

    // Everything that points at pods, ports or objects points at some.
    private void CheckSelectors()
    {
        foreach (var workload in _workloads)
        {
            Require(Matches(workload.Selector, workload.Labels), $"{workload.Metadata.Name}: its selector does not select its own pods");
            foreach (var spread in workload.Template.Spec.TopologySpreadConstraints ?? [])
            {
                Require(Matches(spread.LabelSelector, workload.Labels), $"{workload.Metadata.Name}: spreads other pods than its own");
            }
        }

        foreach (var service in _objects.OfType<V1Service>())
        {
            var behind = _workloads.Where(workload => service.Spec.Selector.All(label => workload.Labels.Contains(label))).ToList();
            Require(behind.Count == 1, $"Service {service.Metadata.Name} selects {behind.Count} workloads");
            foreach (var port in service.Spec.Ports)
            {
                Require(behind.All(workload => workload.Template.Spec.Containers.SelectMany(container => container.Ports).Any(offered => offered.Name == port.TargetPort.Value
                    && offered.ContainerPort == port.Port)), $"Service {service.Metadata.Name}: port {port.Port} leads to {port.TargetPort.Value}, which the pods do not have");
            }
        }

        foreach (var policy in _objects.OfType<V1NetworkPolicy>())
        {
            Require(_workloads.Any(workload => Matches(policy.Spec.PodSelector, workload.Labels)), $"NetworkPolicy {policy.Metadata.Name} selects no pods");
            var ports = _workloads.Where(workload => Matches(policy.Spec.PodSelector, workload.Labels)).SelectMany(workload => workload.Template.Spec.Containers)
                .SelectMany(container => container.Ports).Select(port => port.ContainerPort.ToString(CultureInfo.InvariantCulture)).ToList();
            foreach (var port in (policy.Spec.Ingress ?? []).SelectMany(rule => rule.Ports))
            {
                Require(ports.Contains(port.Port.Value), $"NetworkPolicy {policy.Metadata.Name} opens port {port.Port.Value}, on which nothing listens");
            }
        }

        foreach (var workload in _workloads)
        {
            Require(_objects.OfType<V1NetworkPolicy>().Any(policy => Matches(policy.Spec.PodSelector, workload.Labels) && policy.Spec.PolicyTypes.Contains("Ingress")
                && policy.Spec.PolicyTypes.Contains("Egress")), $"{workload.Metadata.Name}: no NetworkPolicy closes it by default");
        }

        foreach (var budget in _objects.OfType<V1PodDisruptionBudget>())
        {
            Require(_workloads.Any(workload => Matches(budget.Spec.Selector, workload.Labels)), $"PodDisruptionBudget {budget.Metadata.Name} selects no pods");
        }
    }

    private void CheckScaling()
    {
        var targets = new List<string>();
        foreach (var scaler in _objects.OfType<V2HorizontalPodAutoscaler>())
        {
            var target = scaler.Spec.ScaleTargetRef;
            targets.Add(target.Name);
            Require(_objects.OfType<V1Deployment>().Any(deployment => deployment.Metadata.Name == target.Name && target.Kind == "Deployment" && target.ApiVersion == "apps/v1"),
                $"HorizontalPodAutoscaler {scaler.Metadata.Name} scales {target.Kind} {target.Name}, which is not there");
            Require(scaler.Spec.MinReplicas < scaler.Spec.MaxReplicas, $"HorizontalPodAutoscaler {scaler.Metadata.Name} has no room");
            foreach (var metric in scaler.Spec.Metrics)
            {
                Require(metric.Pods is { } pods && Metrics.Contains(pods.Metric.Name),
                    $"HorizontalPodAutoscaler {scaler.Metadata.Name}: {metric.Pods?.Metric.Name} is no metric of the service");
            }
        }

        foreach (var scaler in Custom("ScaledObject"))
        {
            targets.Add(scaler.Text("spec", "scaleTargetRef", "name"));
            Require(_objects.OfType<V1Deployment>().Any(deployment => deployment.Metadata.Name == targets[^1]), $"ScaledObject scales {targets[^1]}, which is not there");
            var asked = scaler.Items("spec", "triggers").SelectMany(trigger => MetricName().Matches(trigger.Text("metadata", "query"))).Select(match => match.Value).ToList();
            Require(asked.Count > 0 && asked.All(Metrics.Contains), $"ScaledObject: {string.Join(", ", asked)} is no metric of the service");
        }

        Require(targets.Count == targets.Distinct(StringComparer.Ordinal).Count(), "two autoscalers pull at one Deployment");
    }

    private void CheckOperators()
    {
        foreach (var monitor in Custom("ServiceMonitor"))
        {
            var selected = _objects.OfType<V1Service>().Where(service => Selects(monitor.At("spec", "selector"), service.Metadata.Labels)).ToList();
            // Two services of the same pods would count every pod twice; the alerts ask for job="tta", which is the service's name.
            Require(selected is [{ Metadata.Name: Service }],
                $"ServiceMonitor selects the services {string.Join(", ", selected.Select(service => service.Metadata.Name))}, not tta alone");
            foreach (var endpoint in monitor.Items("spec", "endpoints"))
            {
                Require(selected.All(service => service.Spec.Ports.Any(port => port.Name == endpoint.Text("port"))) && endpoint.Text("port") == "http"
                    && endpoint.Text("path") == "/metrics", "ServiceMonitor does not scrape /metrics of the port http");
            }
        }

        foreach (var route in Custom("GRPCRoute"))
        {
            var rules = route.Items("spec", "rules").ToList();
            Require(
                rules.SelectMany(rule => rule.Items("backendRefs")).All(backend => _objects.OfType<V1Service>().Any(service =>
                    service.Metadata.Name == backend.Text("name")
                    && service.Spec.Ports.Any(port => $"{port.Port}" == backend.Text("port") && port.AppProtocol == "kubernetes.io/h2c"))),
                "GRPCRoute leads to no HTTP/2 port of a service");
            var served = rules.SelectMany(rule => rule.Items("matches")).Select(match => match.Text("method", "service")).ToList();
            Require(served.Count > 0 && served.All(GrpcServices.Contains), $"GRPCRoute: {string.Join(", ", served.Except(GrpcServices))} is no gRPC service of tta");
        }

        foreach (var policy in Custom("BackendTrafficPolicy"))
        {
            Require(policy.Items("spec", "targetRefs").All(target => Custom(target.Text("kind")).Any(route => route.Text("metadata", "name") == target.Text("name"))),
                "BackendTrafficPolicy is for a route that is not there");
            Require(policy.Text("spec", "loadBalancer", "consistentHash", "header", "name") == "x-tta-stream", "BackendTrafficPolicy does not hash on x-tta-stream");
        }
    }

    private void CheckNames()
    {
        var seen = new HashSet<string>();
        foreach (var thing in _objects)
        {
            var (kind, metadata) = thing is IKubernetesObject<V1ObjectMeta> typed
                ? (typed.Kind, typed.Metadata)
                : (thing.Text("kind"), new V1ObjectMeta { Name = thing.Text("metadata", "name"), NamespaceProperty = thing.Text("metadata", "namespace") });
            Require(seen.Add($"{kind}/{metadata.Name}"), $"{kind} {metadata.Name} is there twice");
            Require(kind == "Namespace" || metadata.NamespaceProperty == Service, $"{kind} {metadata.Name} is in namespace '{metadata.NamespaceProperty}'");
        }
    }

    private IEnumerable<object> Custom(string kind) => _objects.Where(thing => thing is IDictionary<object, object> && thing.Text("kind") == kind);

    private static decimal? Quantity(IDictionary<string, ResourceQuantity>? quantities, string name) =>
        quantities is not null && quantities.TryGetValue(name, out var quantity) ? quantity.ToDecimal() : null;

    private static bool Matches(V1LabelSelector? selector, IDictionary<string, string> labels) =>
        selector is not null && (selector.MatchLabels ?? new Dictionary<string, string>()).All(labels.Contains);

    private static bool Selects(object? selector, IDictionary<string, string> labels) =>
        (selector.At("matchLabels") as IDictionary<object, object> ?? new Dictionary<object, object>())
            .All(label => labels.TryGetValue($"{label.Key}", out var value) && value == $"{label.Value}")
        && selector.Items("matchExpressions").All(expression => expression.Text("operator") == "DoesNotExist" && !labels.ContainsKey(expression.Text("key")));

    [GeneratedRegex("tta_[a-z_]+")]
    private static partial Regex MetricName();

    private sealed record Workload(V1ObjectMeta Metadata, V1LabelSelector Selector, V1PodTemplateSpec Template, int Replicas, IReadOnlyList<string> Claims)
    {
        public IDictionary<string, string> Labels => Template.Metadata.Labels;
    }
}

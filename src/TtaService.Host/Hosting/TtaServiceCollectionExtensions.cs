using System.IO.Compression;
using Grpc.Net.Compression;
using Microsoft.Extensions.DependencyInjection.Extensions;
using Microsoft.Extensions.Diagnostics.HealthChecks;
using Microsoft.Extensions.Options;
using TtaService.Host.Dashboard;
using TtaService.Host.Grpc;
using TtaService.Host.Hosting;
using TtaService.Host.Inference;
using TtaService.Serving.Drift;
using TtaService.Serving.Frames;
using TtaService.Serving.Front;
using TtaService.Serving.Loops;
using TtaService.Serving.Models;
using TtaService.Serving.Store;
using TtaService.Serving.Streams;
using TtaService.Serving.Streams.Keeping;
using TtaService.Serving.Streams.Loading;
using TtaService.Serving.Telemetry;

namespace Microsoft.Extensions.DependencyInjection;

internal static class TtaServiceCollectionExtensions
{
    /// <summary>Adds the engine with its models, the streams, and the gRPC services. Settings come from the sections Models, Methods, Batching, Streams, Store, Frames, Drift, Dashboard,
    /// Inference, Telemetry and Server.</summary>
    public static IServiceCollection AddTtaService(this IServiceCollection services)
    {
        services.TryAddSingleton(TimeProvider.System);
        AddSettings(services);
        services.TryAddSingleton<TtaMetrics>();
        services.TryAddSingleton<TtaActivities>();
        services.TryAddSingleton<LoopWatch>();
        AddStreams(services);
        services.AddFrontDoor();
        AddDrift(services);
        AddDashboard(services);
        AddGrpcServices(services);
        AddInference(services);
        AddHealth(services);
        return services;
    }

    private static void AddSettings(IServiceCollection services)
    {
        SettingsSection.Add<ServerOptions>(services, "Server");
        SettingsSection.Add<ModelsOptions>(services, "Models");
        SettingsSection.Add<MethodsOptions>(services, "Methods");
        services.TryAddSingleton<MethodPlugins>();
        services.AddSingleton<IValidateOptions<MethodsOptions>>(provider => provider.GetRequiredService<MethodPlugins>());
        services.TryAddSingleton(provider => provider.GetRequiredService<MethodPlugins>().Of(provider.GetRequiredService<IOptions<MethodsOptions>>().Value));
        SettingsSection.Add<BatchingOptions>(services, "Batching");
        SettingsSection.Add<StreamsOptions>(services, "Streams");
        SettingsSection.Add<StoreOptions>(services, "Store");
        services.AddSingleton<IValidateOptions<StoreOptions>, StoreOptionsValidator>();
        SettingsSection.Add<FrameOptions>(services, "Frames");
        SettingsSection.Add<TelemetryOptions>(services, "Telemetry");
        services.AddSingleton<IValidateOptions<TelemetryOptions>, TelemetryOptionsValidator>();
        SettingsSection.Add<StreamLearningOptions>(services, "Learning");
        SettingsSection.Add<DriftOptions>(services, "Drift");
        SettingsSection.Add<DashboardOptions>(services, "Dashboard");
        SettingsSection.Add<InferenceOptions>(services, "Inference");
    }

    private static void AddStreams(IServiceCollection services)
    {
        services.TryAddSingleton<ModelCatalog>();
        services.TryAddSingleton(provider => new DecodeTurns(provider.GetRequiredService<IOptions<BatchingOptions>>().Value));
        services.TryAddSingleton(provider => new StreamRegister(provider.GetRequiredService<IOptions<StreamsOptions>>().Value));
        services.TryAddSingleton<StreamDirectory>();
        services.TryAddSingleton<StreamEnding>();
        services.TryAddSingleton<StreamOpenings>();
        services.TryAddSingleton<StreamDepartures>();
        services.TryAddSingleton<StreamChanges>();
        services.TryAddSingleton<StreamList>();
        services.TryAddSingleton<StoreHealth>();
        services.TryAddSingleton<DroppedStreams>();
        services.TryAddSingleton<RetryingStreamStateStore>();
        services.TryAddSingleton<StreamClaims>();
        services.TryAddSingleton<StreamSaving>();
        services.TryAddSingleton<ColdStates>();
        services.TryAddSingleton<StoredStreams>();
        services.AddHostedService<ModelLoading>();
        services.AddHostedService<ServiceLevels>();
        services.AddHostedService<StoreStart>();
        services.TryAddSingleton<DeviceWatch>();
        services.AddHostedService(provider => provider.GetRequiredService<DeviceWatch>());
        // Before the schedule, so that it stops after it: the claims hold while the last states are saved.
        services.AddHostedService<ClaimRenewal>();
        services.AddHostedService<CheckpointSchedule>();
        services.AddHostedService<IdleStreamSweeper>();
    }

    private static void AddDrift(IServiceCollection services)
    {
        services.TryAddSingleton<DriftBoard>();
        services.TryAddSingleton<DriftPublisher>();
        services.TryAddSingleton<DriftMetrics>();
        services.AddHostedService(provider => provider.GetRequiredService<DriftPublisher>());
    }

    private static void AddDashboard(IServiceCollection services)
    {
        services.TryAddSingleton<HttpBorder>();
        // Also while it is developed: what a client sent wrong is told by the border.
        services.Configure<RouteHandlerOptions>(routes => routes.ThrowOnBadRequest = true);
        services.TryAddSingleton<DriftHistory>();
        services.TryAddSingleton<ServiceFigures>();
        services.TryAddSingleton<FleetReader>();
        services.AddHostedService<DriftHistoryRecorder>();
    }

    private static void AddGrpcServices(IServiceCollection services)
    {
        services.TryAddSingleton<PeerConnections>();
        services.TryAddSingleton<OpenCalls>();
        services.AddHostedService(provider => provider.GetRequiredService<OpenCalls>());
        services.TryAddSingleton<MessageBudget>();
        services.TryAddSingleton<CallBorder>();
        services.AddGrpc(grpc =>
        {
            grpc.Interceptors.Add<RpcErrorInterceptor>();
            grpc.CompressionProviders =
            [
                new BoundedUnpacking(new GzipCompressionProvider(CompressionLevel.Fastest)),
                new BoundedUnpacking(new DeflateCompressionProvider(CompressionLevel.Fastest)),
            ];
        });
        services.AddOptions<global::Grpc.AspNetCore.Server.GrpcServiceOptions>()
            .Configure<IOptions<ServerOptions>>((grpc, server) => SettingsSection.WhenValid(server, settings => grpc.MaxReceiveMessageSize = settings.MaxMessageBytes));
        services.AddGrpcReflection();
    }

    private static void AddInference(IServiceCollection services)
    {
        services.TryAddSingleton<NetworkModels>();
        services.TryAddSingleton<InferenceModels>();
        services.TryAddSingleton<InferenceServer>();
        services.TryAddSingleton<RequestBodies>();
    }

    private static void AddHealth(IServiceCollection services)
    {
        services.AddGrpcHealthChecks(health =>
        {
            health.Services.Map(string.Empty, check => check.Name == ReadinessCheck.Name);
            health.Services.Map("readiness", check => check.Name == ReadinessCheck.Name);
            health.Services.Map(LivenessCheck.Name, check => check.Name == LivenessCheck.Name);
        }).AddCheck<ReadinessCheck>(ReadinessCheck.Name).AddCheck<LivenessCheck>(LivenessCheck.Name);
        // Watchers hear of a change within a second.
        services.Configure<HealthCheckPublisherOptions>(publisher => (publisher.Delay, publisher.Period) = (TimeSpan.Zero, TimeSpan.FromSeconds(1)));
    }
}

using System.IO.Compression;
using Grpc.Net.Compression;
using Microsoft.Extensions.DependencyInjection.Extensions;
using Microsoft.Extensions.Diagnostics.HealthChecks;
using Microsoft.Extensions.Options;
using TtaService.Host.Dashboard;
using TtaService.Host.Grpc;
using TtaService.Host.Hosting;
using TtaService.Host.Inference;
using TtaService.Host.Protocols;
using TtaService.Host.Rest;
using TtaService.Serving.Drift;
using TtaService.Serving.Telemetry;

namespace Microsoft.Extensions.DependencyInjection;

internal static class TtaServiceCollectionExtensions
{
    /// <summary>Adds what serves streams (<see cref="TtaServingServiceCollectionExtensions.AddTtaServing"/>), and the protocols and the dashboard. Their settings come from the
    /// sections Server, Dashboard and Inference.</summary>
    public static IServiceCollection AddTtaService(this IServiceCollection services)
    {
        AddSettings(services);
        services.AddTtaServing();
        AddDashboard(services);
        AddGrpcServices(services);
        AddInference(services);
        services.AddOpenApi(ApiDescription.Configure);
        AddHealth(services);
        return services;
    }

    private static void AddSettings(IServiceCollection services)
    {
        SettingsSection.Add<ServerOptions>(services, "Server");
        SettingsSection.Add<DashboardOptions>(services, "Dashboard");
        SettingsSection.Add<InferenceOptions>(services, "Inference");
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

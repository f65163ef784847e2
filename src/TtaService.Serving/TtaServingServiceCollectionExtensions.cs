using Microsoft.Extensions.DependencyInjection.Extensions;
using Microsoft.Extensions.Options;
using TtaService.Serving;
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

/// <summary>Serves streams inside a program.</summary>
public static class TtaServingServiceCollectionExtensions
{
    /// <summary>Adds the models, the streams and what keeps and watches them, without a protocol: <see cref="IStreamStepping"/>, <see cref="IStreamOperations"/> and
    /// <see cref="IServedModels"/> are the door. The models are loaded when the host starts.</summary>
    /// <remarks>Settings come from the sections Models, Methods, Batching, Streams, Store, Frames, Learning, Drift and Telemetry of the host's configuration; wrong ones end the
    /// start, all of them named.</remarks>
    public static IServiceCollection AddTtaServing(this IServiceCollection services)
    {
        services.TryAddSingleton(TimeProvider.System);
        AddSettings(services);
        services.TryAddSingleton<TtaMetrics>();
        services.TryAddSingleton<TtaActivities>();
        services.TryAddSingleton<LoopWatch>();
        AddStreams(services);
        services.AddFrontDoor();
        AddDrift(services);
        return services;
    }

    private static void AddSettings(IServiceCollection services)
    {
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
        services.AddSingleton<IValidateOptions<FrameOptions>, FrameOptionsValidator>();
        SettingsSection.Add<TelemetryOptions>(services, "Telemetry");
        services.AddSingleton<IValidateOptions<TelemetryOptions>, TelemetryOptionsValidator>();
        SettingsSection.Add<StreamLearningOptions>(services, "Learning");
        SettingsSection.Add<DriftOptions>(services, "Drift");
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
        services.TryAddSingleton<ModelLoader>();
        services.TryAddSingleton<ModelRetirement>();
        services.TryAddSingleton<ModelChanges>();
        services.TryAddSingleton<ModelWatcher>();
        services.AddHostedService<ModelLoading>();
        services.AddHostedService(provider => provider.GetRequiredService<ModelWatcher>());
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
}

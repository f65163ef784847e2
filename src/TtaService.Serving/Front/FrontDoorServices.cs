using Microsoft.Extensions.DependencyInjection.Extensions;

namespace TtaService.Serving.Front;

/// <summary>Registers the door.</summary>
internal static class FrontDoorServices
{
    /// <summary>Adds what protocols may ask for: <see cref="IStreamStepping"/>, <see cref="IStreamOperations"/>, <see cref="IServedModels"/>,
    /// <see cref="IDriftWatching"/>, <see cref="IStreamCommissioning"/>.</summary>
    public static IServiceCollection AddFrontDoor(this IServiceCollection services)
    {
        services.TryAddSingleton<StepIntake>();
        services.TryAddSingleton<IStreamStepping, StreamStepping>();
        services.TryAddSingleton<IStreamOperations, StreamOperations>();
        services.TryAddSingleton<IServedModels, ServedModels>();
        services.TryAddSingleton<IDriftWatching, DriftWatching>();
        services.TryAddSingleton<IStreamCommissioning, StreamCommissioning>();
        return services;
    }
}

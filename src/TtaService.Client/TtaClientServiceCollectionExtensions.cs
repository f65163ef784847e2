using Microsoft.Extensions.DependencyInjection.Extensions;
using Microsoft.Extensions.Options;
using TtaService.Client;

namespace Microsoft.Extensions.DependencyInjection;

/// <summary>Registers the client.</summary>
public static class TtaClientServiceCollectionExtensions
{
    /// <summary>Adds a <see cref="TtaClient"/> as a singleton. Options that can't be used fail its first resolution, with their name.</summary>
    /// <param name="services">The services.</param>
    /// <param name="configure">Sets address, key and how streams reconnect; null for the defaults.</param>
    public static IServiceCollection AddTtaClient(this IServiceCollection services, Action<TtaClientOptions>? configure = null)
    {
        ArgumentNullException.ThrowIfNull(services);
        if (configure is not null)
        {
            services.Configure(configure);
        }

        services.AddOptions();
        services.TryAddEnumerable(ServiceDescriptor.Singleton<IValidateOptions<TtaClientOptions>, Validator>());
        services.TryAddSingleton(provider => new TtaClient(provider.GetRequiredService<IOptions<TtaClientOptions>>().Value));
        return services;
    }

    private sealed class Validator : IValidateOptions<TtaClientOptions>
    {
        public ValidateOptionsResult Validate(string? name, TtaClientOptions options) =>
            TtaClient.WhyInvalid(options) is { } wrong ? ValidateOptionsResult.Fail(wrong) : ValidateOptionsResult.Success;
    }
}

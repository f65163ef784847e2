using Grpc.Core;
using Grpc.Core.Interceptors;
using Grpc.Net.Client;
using TtaService.V1;

namespace TtaService.Client;

/// <summary>The service as a client sees it: opens streams, each over a connection of its own so that one camera's stall holds up no other, and calls the other
/// services over one more. Thread-safe.</summary>
public sealed class TtaClient : IDisposable
{
    private readonly TtaClientOptions _options;
    private readonly Lazy<(GrpcChannel Channel, CallInvoker Invoker)> _shared;

    /// <summary>A client of the service at the options' address; it connects when it is first used.</summary>
    /// <exception cref="ArgumentException">The options can't be used; the message names the one.</exception>
    public TtaClient(TtaClientOptions? options = null)
    {
        _options = options ?? new TtaClientOptions();
        if (WhyInvalid(_options) is { } wrong)
        {
            throw new ArgumentException(wrong, nameof(options));
        }

        _shared = new(() => Connect(_options.Stream));
    }

    /// <summary>Unary steps.</summary>
    public AdaptationService.AdaptationServiceClient Adaptation => new(_shared.Value.Invoker);

    /// <summary>The streams as resources: list, freeze, reset, fork, roll back, export.</summary>
    public StreamsService.StreamsServiceClient Streams => new(_shared.Value.Invoker);

    /// <summary>The models that are served.</summary>
    public ModelsService.ModelsServiceClient Models => new(_shared.Value.Invoker);

    /// <summary>How far streams are from what their model knows.</summary>
    public DriftService.DriftServiceClient Drift => new(_shared.Value.Invoker);

    /// <summary>What is normal for a model, measured where it works.</summary>
    public CalibrationService.CalibrationServiceClient Calibration => new(_shared.Value.Invoker);

    /// <summary>Opens a stream over a connection of its own, which ends with it.</summary>
    /// <param name="open">Which stream, and how.</param>
    /// <param name="options">How to reconnect; null for <see cref="TtaClientOptions.Stream"/>.</param>
    /// <param name="cancel">Gives up the opening.</param>
    /// <exception cref="RpcException">The server refused the stream, or could not be reached within the options' limits.</exception>
    public Task<AdaptationStream> OpenAsync(OpenStream open, AdaptationStreamOptions? options = null, CancellationToken cancel = default)
    {
        options ??= _options.Stream;
        var (channel, invoker) = Connect(options);
        return AdaptationStream.OpenAsync(invoker, open, options, channel, cancel);
    }

    /// <summary>Closes the connection of the unary calls; streams stay open until they are disposed.</summary>
    public void Dispose()
    {
        if (_shared.IsValueCreated)
        {
            _shared.Value.Channel.Dispose();
        }
    }

    /// <summary>What is wrong with the options; null when nothing.</summary>
    internal static string? WhyInvalid(TtaClientOptions options)
    {
        if (!options.Address.IsAbsoluteUri || options.Address.Scheme is not ("http" or "https"))
        {
            return $"TtaClientOptions.Address is '{options.Address}'; give an address such as http://127.0.0.1:8001";
        }

        if (options.KeepAlive < TimeSpan.FromSeconds(1))
        {
            return $"TtaClientOptions.KeepAlive is {options.KeepAlive}; give a second or more, a server takes more frequent pings for an attack";
        }

        return options.ApiKey is null || options.ApiKey.All(character => character is >= ' ' and <= '~')
            ? null
            : "TtaClientOptions.ApiKey holds characters that no header carries; give printable ASCII";
    }

    private (GrpcChannel Channel, CallInvoker Invoker) Connect(AdaptationStreamOptions stream)
    {
        var settings = new GrpcChannelOptions
        {
            HttpHandler = new SocketsHttpHandler
            {
                KeepAlivePingDelay = _options.KeepAlive,
                KeepAlivePingTimeout = _options.KeepAlive,
                EnableMultipleHttp2Connections = true,
                PooledConnectionIdleTimeout = Timeout.InfiniteTimeSpan,
            },
            DisposeHttpClient = true,
            // The channel's own waits must not be longer than the stream's, or a server that is back goes unnoticed.
            InitialReconnectBackoff = stream.FirstDelay,
            MaxReconnectBackoff = stream.MaxDelay,
            // Snapshots and raw outputs are as large as they are.
            MaxReceiveMessageSize = null,
        };
        if (_options.Credentials is { } credentials)
        {
            settings.Credentials = credentials;
        }

        _options.ConfigureChannel?.Invoke(settings);
        var channel = GrpcChannel.ForAddress(_options.Address, settings);
        var invoker = channel.CreateCallInvoker();
        return (channel, _options.ApiKey is { } key ? invoker.Intercept(WithKey) : invoker);

        Metadata WithKey(Metadata headers)
        {
            // A stream's headers serve all of its calls.
            var own = new Metadata { { _options.ApiKeyHeader, key } };
            foreach (var header in headers)
            {
                own.Add(header);
            }

            return own;
        }
    }
}

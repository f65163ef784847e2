using Grpc.Core;
using Grpc.Net.Client;

namespace TtaService.Client;

/// <summary>Where a <see cref="TtaClient"/> finds the service, and as whom.</summary>
public sealed class TtaClientOptions
{
    /// <summary>The service's gRPC address. Default <c>http://127.0.0.1:8001</c>; <c>https</c> for TLS.</summary>
    public Uri Address { get; set; } = new("http://127.0.0.1:8001");

    /// <summary>Sent with every call in <see cref="ApiKeyHeader"/>, also without TLS, so that a proxy on the way can check it. Default null: none.</summary>
    public string? ApiKey { get; set; }

    /// <summary>The header of the key. Default <c>x-api-key</c>.</summary>
    public string ApiKeyHeader { get; set; } = "x-api-key";

    /// <summary>The channels' credentials, for example with client certificates or call credentials. Default null: by the address's scheme.</summary>
    public ChannelCredentials? Credentials { get; set; }

    /// <summary>Changes a channel's options after the client's own settings; a handler set here replaces the client's. Default null.</summary>
    public Action<GrpcChannelOptions>? ConfigureChannel { get; set; }

    /// <summary>A connection without traffic is asked so often whether it lives, and is broken when no answer comes for as long again. Default 10 s.</summary>
    public TimeSpan KeepAlive { get; set; } = TimeSpan.FromSeconds(10);

    /// <summary>How streams reconnect when they are opened without options of their own.</summary>
    public AdaptationStreamOptions Stream { get; set; } = new();
}

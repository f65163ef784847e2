using System.ComponentModel.DataAnnotations;
using System.Net;
using System.Net.Sockets;

namespace TtaService.Host.Hosting;

/// <summary>Where the server listens and what a connection may do, section <c>Server</c>.</summary>
public sealed class ServerOptions
{
    /// <summary>The IP address of both listeners; <c>localhost</c> and <c>*</c> are understood. Default loopback: the listeners are cleartext and without authentication.</summary>
    [ListenAddress]
    public string Address { get; set; } = "localhost";

    /// <summary>gRPC, HTTP/2 without TLS. 0 for any free port. Default 8001.</summary>
    [Range(0, 65535)]
    public int GrpcPort { get; set; } = 8001;

    /// <summary>Health and metrics, HTTP/1.1. 0 for any free port. Default 8000.</summary>
    [Range(0, 65535)]
    public int HttpPort { get; set; } = 8000;

    /// <summary>Bytes of one gRPC message; larger ones end their call. Default 16 MiB, above the limit of a frame, so that a frame that is too large is refused in band.</summary>
    [Range(1024, 1 << 30)]
    public int MaxMessageBytes { get; set; } = 16 * 1024 * 1024;

    /// <summary>Open calls on one connection; further ones wait at the client without an error. Default 1,000: one connection for many cameras.</summary>
    [Range(1, 100_000)]
    public int MaxCallsPerConnection { get; set; } = 1000;

    /// <summary>Connections at a time. Default 10,000.</summary>
    [Range(1, 1_000_000)]
    public int MaxConnections { get; set; } = 10_000;

    /// <summary>A connection that is silent for this long is asked whether it lives. Default 10 s: a lost network gives no other sign.</summary>
    [Range(typeof(TimeSpan), "00:00:01", "01:00:00")]
    public TimeSpan KeepAlivePingDelay { get; set; } = TimeSpan.FromSeconds(10);

    /// <summary>A connection that does not answer within this time is closed. Default 20 s.</summary>
    [Range(typeof(TimeSpan), "00:00:01", "01:00:00")]
    public TimeSpan KeepAlivePingTimeout { get; set; } = TimeSpan.FromSeconds(20);

    /// <summary>Longest wait for calls to end after a stop was asked for. Default 20 s: under the grace period of 30 s that Kubernetes gives.</summary>
    [Range(typeof(TimeSpan), "00:00:00.100", "01:00:00")]
    public TimeSpan ShutdownTimeout { get; set; } = TimeSpan.FromSeconds(20);
}

/// <summary>An IP address, <c>localhost</c>, or <c>*</c> for all addresses of the machine.</summary>
[AttributeUsage(AttributeTargets.Property)]
internal sealed class ListenAddressAttribute() : ValidationAttribute("an IP address, localhost or *")
{
    public static IPAddress? Parse(string? address) => address switch
    {
        "localhost" => IPAddress.Loopback,
        // The IPv6 address takes IPv4 as well, where the machine has IPv6 at all.
        "*" => Socket.OSSupportsIPv6 ? IPAddress.IPv6Any : IPAddress.Any,
        _ => IPAddress.TryParse(address, out var parsed) ? parsed : null,
    };

    public override bool IsValid(object? value) => Parse(value as string) is not null;
}

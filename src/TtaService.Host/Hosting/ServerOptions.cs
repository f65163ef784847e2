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

    /// <summary>Bytes of one gRPC message, unpacked; larger ones end their call. Default 24 MiB: a raw frame of as many pixels as Frames:MaxPixels allows (3840x2160, 23.7 MiB), and above Frames:MaxBytes, so that a frame that is too large is refused in band.</summary>
    [Range(1024, 1 << 30)]
    public int MaxMessageBytes { get; set; } = 24 * 1024 * 1024;

    /// <summary>Bytes of messages that one connection may have on their way, from their header on until the server has taken them; more is refused with RESOURCE_EXHAUSTED. Default 128 MiB: five of the largest, or a thousand cameras' frames at once.</summary>
    [Range(1024, long.MaxValue)]
    public long MaxConnectionMessageBytes { get; set; } = 128L << 20;

    /// <summary>The same of all connections; a connection that has more on its way than the one that asks loses its largest unfinished message first. Default 512 MiB.</summary>
    [Range(1024, long.MaxValue)]
    public long MaxTotalMessageBytes { get; set; } = 512L << 20;

    /// <summary>Bytes that the calls of one connection may send before the server reads them (HTTP/2's window), beside the bytes of messages that are counted; a call alone has a sixteenth of it, 64 KiB at least. Default 4 MiB: 20 Mbit/s a call at 100 ms to the server, and 10 GiB if a peer fills it on each of its connections.</summary>
    [Range(65_536, 1 << 30)]
    public int MaxUnreadBytes { get; set; } = 4 << 20;

    /// <summary>A message that has begun, and the one message of a unary call, must be complete within this time. Default 10 s: 20 Mbit/s for the largest, 40 kbit/s for a camera's JPEG.</summary>
    [Range(typeof(TimeSpan), "00:00:00.010", "01:00:00")]
    public TimeSpan MessageTimeout { get; set; } = TimeSpan.FromSeconds(10);

    /// <summary>Open calls on one connection; further ones wait at the client without an error. Default 1,000: one connection for many cameras.</summary>
    [Range(1, 100_000)]
    public int MaxCallsPerConnection { get; set; } = 1000;

    /// <summary>Connections at a time. Default 10,000.</summary>
    [Range(1, 1_000_000)]
    public int MaxConnections { get; set; } = 10_000;

    /// <summary>Connections of one peer at a time, an IPv4 address or an IPv6 network of 64 bits; further ones are closed. Default 2,500: one peer can't take all.</summary>
    [Range(1, 1_000_000)]
    public int MaxConnectionsPerPeer { get; set; } = 2500;

    /// <summary>Names by which the HTTP port may be asked, separated by commas, beside localhost, the machine's name and IP addresses; <c>*.example.com</c> for all names below one, <c>*</c> for any. Default none: a page elsewhere that has its name lead here gets nothing.</summary>
    [AllowedHosts]
    public string AllowedHosts { get; set; } = string.Empty;

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

/// <summary>Names of hosts with commas between them.</summary>
[AttributeUsage(AttributeTargets.Property)]
internal sealed class AllowedHostsAttribute() : ValidationAttribute("names of hosts without ports, separated by commas, such as tta,*.example.com")
{
    public static string[] Split(string? hosts) => (hosts ?? string.Empty).Split(',', StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries);

    public override bool IsValid(object? value) =>
        Array.TrueForAll(Split(value as string), host => host == "*" || Uri.CheckHostName(host.StartsWith("*.", StringComparison.Ordinal) ? host[2..] : host) != UriHostNameType.Unknown);
}

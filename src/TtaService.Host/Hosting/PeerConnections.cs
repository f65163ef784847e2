using System.Net;
using System.Net.Sockets;
using Microsoft.AspNetCore.Connections;
using Microsoft.Extensions.Options;
using TtaService.Host.Grpc;

namespace TtaService.Host.Hosting;

/// <summary>Knows the open connections: bounds those of one peer, so that none takes all that the server has, and cuts at a stop those that Kestrel would wait for.</summary>
internal sealed partial class PeerConnections(IOptions<ServerOptions> server, TimeProvider clock, ILogger<PeerConnections> logger)
{
    private static readonly TimeSpan BetweenWarnings = TimeSpan.FromMinutes(1);

    private readonly Lock _gate = new();
    private readonly Dictionary<IPAddress, int> _open = [];
    private readonly HashSet<ConnectionContext> _served = [];
    private long _warned;

    /// <summary>Serves a connection, or closes it at once.</summary>
    public async Task RunAsync(ConnectionContext connection, ConnectionDelegate next)
    {
        var peer = PeerOf(connection.RemoteEndPoint);
        if (!Enter(peer, connection))
        {
            connection.Abort(new ConnectionAbortedException($"{peer} has {server.Value.MaxConnectionsPerPeer} connections already"));
            return;
        }

        try
        {
            connection.Features.Set(new ConnectionMessages());
            await next(connection).ConfigureAwait(false);
        }
        finally
        {
            Leave(peer, connection);
        }
    }

    /// <summary>Cuts the connections that are left.</summary>
    public void CutAll()
    {
        ConnectionContext[] left;
        lock (_gate)
        {
            left = [.. _served];
        }

        Array.ForEach(left, static connection => connection.Abort(new ConnectionAbortedException("the server stops")));
    }

    /// <summary>Who counts as one: an IPv4 address, or the 64 bits of an IPv6 network, of which everybody has 2^64 addresses.</summary>
    public static IPAddress PeerOf(EndPoint? remote)
    {
        var address = (remote as IPEndPoint)?.Address ?? IPAddress.None;
        if (address.IsIPv4MappedToIPv6)
        {
            return address.MapToIPv4();
        }

        if (address.AddressFamily != AddressFamily.InterNetworkV6)
        {
            return address;
        }

        var network = address.GetAddressBytes();
        network.AsSpan(8).Clear();
        return new IPAddress(network);
    }

    private bool Enter(IPAddress peer, ConnectionContext connection)
    {
        lock (_gate)
        {
            var (open, limit) = (_open.GetValueOrDefault(peer), server.Value.MaxConnectionsPerPeer);
            if (open < limit)
            {
                _open[peer] = open + 1;
                _served.Add(connection);
                return true;
            }

            if (_warned == 0 || clock.GetElapsedTime(_warned) >= BetweenWarnings)
            {
                _warned = clock.GetTimestamp();
                Log.PeerRefused(logger, peer, limit);
            }

            return false;
        }
    }

    private void Leave(IPAddress peer, ConnectionContext connection)
    {
        lock (_gate)
        {
            _served.Remove(connection);
            if (--_open[peer] == 0)
            {
                _open.Remove(peer);
            }
        }
    }

    private static partial class Log
    {
        [LoggerMessage(EventId = 41, Level = LogLevel.Warning, Message = "Connections of {Peer} are closed: it has {Limit} already (Server:MaxConnectionsPerPeer)")]
        public static partial void PeerRefused(ILogger logger, IPAddress peer, int limit);
    }
}

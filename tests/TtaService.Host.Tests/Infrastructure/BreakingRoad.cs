using System.Net;
using System.Net.Sockets;
using Grpc.Net.Client;

namespace TtaService.Host.Tests.Infrastructure;

/// <summary>A TCP relay to the server whose connections can be cut.</summary>
internal sealed class BreakingRoad : IAsyncDisposable
{
    private readonly TcpListener _listener = new(IPAddress.Loopback, 0);
    private readonly List<Socket> _open = [];
    private readonly Task _accepting;

    public BreakingRoad(Uri server)
    {
        Server = server;
        _listener.Start();
        _accepting = AcceptAsync();
    }

    /// <summary>Where new connections lead.</summary>
    public Uri Server { get; set; }

    /// <summary>Bytes towards the server after which a connection is cut; null for none.</summary>
    public int? CutAfter { get; set; }

    public GrpcChannel Connect() => GrpcChannel.ForAddress(
        $"http://127.0.0.1:{((IPEndPoint)_listener.LocalEndpoint).Port}",
        new GrpcChannelOptions { InitialReconnectBackoff = TimeSpan.FromMilliseconds(5), MaxReconnectBackoff = TimeSpan.FromMilliseconds(50) });

    /// <summary>Cuts every connection without a word.</summary>
    public void Break()
    {
        lock (_open)
        {
            foreach (var socket in _open)
            {
                socket.Close(0);
            }

            _open.Clear();
        }
    }

    public async ValueTask DisposeAsync()
    {
        _listener.Stop();
        Break();
        await _accepting;
    }

    private async Task AcceptAsync()
    {
        try
        {
            while (true)
            {
                var near = await _listener.AcceptSocketAsync();
                var far = new Socket(SocketType.Stream, ProtocolType.Tcp);
                try
                {
                    await far.ConnectAsync(Server.Host, Server.Port);
                }
                catch (SocketException)
                {
                    near.Close(0);
                    far.Dispose();
                    continue;
                }

                lock (_open)
                {
                    _open.AddRange([near, far]);
                }

                _ = RelayAsync(near, far, CutAfter);
                _ = RelayAsync(far, near, null);
            }
        }
        catch (Exception stopped) when (stopped is SocketException or ObjectDisposedException)
        {
            // The road is closed.
        }
    }

    private static async Task RelayAsync(Socket from, Socket to, int? cutAfter)
    {
        var passed = 0;
        var buffer = new byte[16 * 1024];
        try
        {
            int read;
            while ((read = await from.ReceiveAsync(buffer)) > 0)
            {
                if ((passed += read) > cutAfter)
                {
                    from.Close(0);
                    to.Close(0);
                    return;
                }

                await to.SendAsync(buffer.AsMemory(0, read));
            }

            to.Shutdown(SocketShutdown.Send);
        }
        catch (Exception cut) when (cut is SocketException or ObjectDisposedException)
        {
            from.Close();
            to.Close();
        }
    }
}

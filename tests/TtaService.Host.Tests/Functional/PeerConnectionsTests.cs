using System.Net;
using System.Net.Sockets;
using System.Text;
using TtaService.Host.Hosting;
using TtaService.Host.Tests.Infrastructure;

namespace TtaService.Host.Tests.Functional;

public sealed class PeerConnectionsTests
{
    [Theory]
    [InlineData("10.0.0.1", "10.0.0.1", true)]
    [InlineData("10.0.0.1", "10.0.0.2", false)]
    [InlineData("::ffff:10.0.0.1", "10.0.0.1", true)]
    [InlineData("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::1", true)]
    [InlineData("2001:db8:1:2::1", "2001:db8:1:3::1", false)]
    public void Peer_IsAnAddressOrANetwork(string one, string other, bool same)
    {
        var (a, b) = (PeerConnections.PeerOf(new IPEndPoint(IPAddress.Parse(one), 1)), PeerConnections.PeerOf(new IPEndPoint(IPAddress.Parse(other), 2)));

        Assert.Equal(same, a.Equals(b));
    }

    [Fact]
    public async Task Peer_WithTheMostConnections_GetsNoMoreUntilOneEnds_OthersDo()
    {
        await using var host = await TestHost.StartAsync("--Server:MaxConnectionsPerPeer=3");
        var open = new List<Socket>();
        for (var i = 0; i < 3; i++)
        {
            open.Add((await TryAskAsync(host.Http, "127.0.0.1"))!);
        }

        Assert.DoesNotContain(null, open);
        Assert.Null(await TryAskAsync(host.Http, "127.0.0.1"));
        Assert.Null(await TryAskAsync(host.Grpc, "127.0.0.1"));
        using var other = await TryAskAsync(host.Http, "127.0.0.2");
        Assert.NotNull(other);

        open[0].Dispose();
        while (await TryAskAsync(host.Http, "127.0.0.1") is var again)
        {
            again?.Dispose();
            if (again is not null)
            {
                break;
            }

            await Task.Delay(10);
        }

        open.ForEach(socket => socket.Dispose());
    }

    // A connection that the server serves; null when it closes it.
    private static async Task<Socket?> TryAskAsync(Uri server, string from)
    {
        var socket = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        try
        {
            socket.Bind(new IPEndPoint(IPAddress.Parse(from), 0));
            await socket.ConnectAsync(IPAddress.Loopback, server.Port);
            await socket.SendAsync(Encoding.ASCII.GetBytes("GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"));
            using var giveUp = new CancellationTokenSource(TimeSpan.FromSeconds(60));
            if (await socket.ReceiveAsync(new byte[1000], giveUp.Token) > 0)
            {
                return socket;
            }
        }
        catch (SocketException)
        {
            // Closed.
        }

        socket.Dispose();
        return null;
    }
}

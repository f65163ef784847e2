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
            open.Add(await ConnectAsync(host.Http, "127.0.0.1"));
            Assert.True(await IsServedAsync(open[i]));
        }

        using var further = await ConnectAsync(host.Http, "127.0.0.1");
        using var grpc = await ConnectAsync(host.Grpc, "127.0.0.1");
        using var other = await ConnectAsync(host.Http, "127.0.0.2");
        Assert.False(await IsServedAsync(further));
        Assert.False(await IsServedAsync(grpc));
        Assert.True(await IsServedAsync(other));

        open[0].Dispose();
        Socket again;
        while (!await IsServedAsync(again = await ConnectAsync(host.Http, "127.0.0.1")))
        {
            again.Dispose();
            await Task.Delay(10);
        }

        again.Dispose();
        open.ForEach(socket => socket.Dispose());
    }

    private static async Task<Socket> ConnectAsync(Uri server, string from)
    {
        var socket = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        socket.Bind(new IPEndPoint(IPAddress.Parse(from), 0));
        await socket.ConnectAsync(IPAddress.Loopback, server.Port);
        return socket;
    }

    private static async Task<bool> IsServedAsync(Socket socket)
    {
        try
        {
            await socket.SendAsync(Encoding.ASCII.GetBytes("GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"));
            var answer = new byte[1000];
            using var giveUp = new CancellationTokenSource(TimeSpan.FromSeconds(60));
            return await socket.ReceiveAsync(answer, giveUp.Token) > 0;
        }
        catch (SocketException)
        {
            return false;
        }
    }
}

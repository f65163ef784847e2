using System.Net;
using System.Net.Sockets;

namespace TtaService.Host.Tests.Infrastructure;

/// <summary>A real haproxy that routes streams by consistent hashing on the header x-tta-stream. A connection of its own for each client: on a shared one, streams wait for
/// each other.</summary>
/// <remarks>A check may take longer than the time between two: a replica that is only busy must not lose its streams.</remarks>
internal sealed class LoadBalancer : IAsyncDisposable
{
    private readonly OtherProgram _process;
    private readonly string _file;

    private LoadBalancer(OtherProgram process, string file, int port) => (_process, _file, Port) = (process, file, port);

    public int Port { get; }

    public static async Task<LoadBalancer> StartAsync(IReadOnlyList<ServerProcess> replicas)
    {
        var program = OtherProgram.Require("haproxy");
        var port = OtherProgram.FreePort();
        var file = Path.GetTempFileName();
        await File.WriteAllTextAsync(file, $"""
            global
              tune.h2.max-concurrent-streams 1000
            defaults
              mode http
              timeout connect 1s
              timeout client 1h
              timeout server 1h
              timeout check 600ms
            frontend grpc
              bind 127.0.0.1:{port} proto h2
              default_backend replicas
            backend replicas
              balance hdr(x-tta-stream)
              hash-type consistent
              http-reuse never
              option redispatch 1
              retry-on conn-failure
              option httpchk GET /health/ready
            {string.Join('\n', replicas.Select((replica, i) =>
                $"  server r{i} 127.0.0.1:{replica.GrpcPort} port {replica.HttpPort} proto h2 check check-proto h1 inter 200ms fall 2 rise 1 on-marked-down shutdown-sessions"))}

            """);
        var balancer = new LoadBalancer(OtherProgram.Start(program, ["-db", "-f", file]), file, port);
        await balancer._process.UntilAsync(async () =>
        {
            using var socket = new Socket(SocketType.Stream, ProtocolType.Tcp);
            try
            {
                await socket.ConnectAsync(IPAddress.Loopback, port);
                return true;
            }
            catch (SocketException)
            {
                return false;
            }
        });
        return balancer;
    }

    public async ValueTask DisposeAsync()
    {
        await _process.DisposeAsync();
        File.Delete(_file);
    }
}

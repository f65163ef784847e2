using System.Net;
using System.Net.Sockets;
using StackExchange.Redis;

namespace TtaService.Host.Tests.Infrastructure;

/// <summary>A real redis-server on loopback that keeps nothing on disk.</summary>
internal sealed class RedisServer : IAsyncDisposable
{
    private readonly string _program;
    private OtherProgram _process;

    private RedisServer(string program, int port)
    {
        (_program, Port) = (program, port);
        _process = Run();
    }

    public int Port { get; }

    public string Configuration => $"127.0.0.1:{Port}";

    public static async Task<RedisServer> StartAsync()
    {
        var server = new RedisServer(OtherProgram.Require("redis-server"), OtherProgram.FreePort());
        await server.UntilUpAsync();
        return server;
    }

    /// <summary>Ends it; its content is lost.</summary>
    public Task KillAsync() => _process.KillAsync();

    public async Task RestartAsync()
    {
        _process = Run();
        await UntilUpAsync();
    }

    public Task PauseAsync() => _process.PauseAsync();

    public Task ContinueAsync() => _process.ContinueAsync();

    /// <summary>Waits until a checkpoint of the stream is written.</summary>
    public async Task UntilSavedAsync(string stream)
    {
        await using var connection = await ConnectionMultiplexer.ConnectAsync(Configuration);
        Task<RedisValue> NumberAsync() => connection.GetDatabase().HashGetAsync($"tta:stream:{stream}", "number");
        var first = await NumberAsync();
        await _process.UntilAsync(async () => await NumberAsync() != first);
    }

    public ValueTask DisposeAsync() => _process.DisposeAsync();

    private OtherProgram Run() => OtherProgram.Start(_program, ["--port", $"{Port}", "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--daemonize", "no"]);

    private Task UntilUpAsync() => _process.UntilAsync(async () =>
    {
        using var socket = new Socket(SocketType.Stream, ProtocolType.Tcp);
        try
        {
            await socket.ConnectAsync(IPAddress.Loopback, Port);
            return true;
        }
        catch (SocketException)
        {
            return false;
        }
    });
}

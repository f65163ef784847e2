using Grpc.Net.Client;
using TtaService.V1;

namespace TtaService.Host.Tests.Infrastructure;

/// <summary>The server as a process of its own, which can be killed, stopped and paused.</summary>
internal sealed class ServerProcess : IAsyncDisposable
{
    private static readonly HttpClient Probe = new() { Timeout = TimeSpan.FromSeconds(2) };

    private readonly Dictionary<string, string> _environment;
    private OtherProgram _process;

    private ServerProcess(Dictionary<string, string> environment, int grpcPort, int httpPort)
    {
        (_environment, GrpcPort, HttpPort) = (environment, grpcPort, httpPort);
        _process = Run();
    }

    public int GrpcPort { get; }

    public int HttpPort { get; }

    public OtherProgram Process => _process;

    /// <param name="settings">As <c>Store:Kind=file</c>.</param>
    public static async Task<ServerProcess> StartAsync(params string[] settings)
    {
        var (grpcPort, httpPort) = (OtherProgram.FreePort(), OtherProgram.FreePort());
        var environment = new Dictionary<string, string>
        {
            ["Server__GrpcPort"] = $"{grpcPort}",
            ["Server__HttpPort"] = $"{httpPort}",
            ["Models__Path"] = TestHost.ModelsPath,
            ["Logging__LogLevel__Default"] = "Warning",
        };
        foreach (var setting in settings)
        {
            var at = setting.IndexOf('=', StringComparison.Ordinal);
            environment[setting[..at].Replace(":", "__", StringComparison.Ordinal)] = setting[(at + 1)..];
        }

        var server = new ServerProcess(environment, grpcPort, httpPort);
        await server.UntilReadyAsync();
        return server;
    }

    public GrpcChannel Connect() => Connect(GrpcPort);

    public static GrpcChannel Connect(int port) => GrpcChannel.ForAddress(
        $"http://127.0.0.1:{port}", new GrpcChannelOptions { InitialReconnectBackoff = TimeSpan.FromMilliseconds(20), MaxReconnectBackoff = TimeSpan.FromMilliseconds(200) });

    /// <summary>Starts it again with the same settings after its end.</summary>
    public async Task RestartAsync()
    {
        await _process.DisposeAsync();
        _process = Run();
        await UntilReadyAsync();
    }

    public ValueTask DisposeAsync() => _process.DisposeAsync();

    private OtherProgram Run() => OtherProgram.Start("dotnet", [Path.Combine(AppContext.BaseDirectory, "tta.dll")], _environment);

    private Task UntilReadyAsync() => _process.UntilAsync(async () =>
    {
        try
        {
            using var answer = await Probe.GetAsync(new Uri($"http://127.0.0.1:{HttpPort}/health/ready"));
            return answer.IsSuccessStatusCode;
        }
        catch (Exception notYet) when (notYet is HttpRequestException or OperationCanceledException)
        {
            return false;
        }
    });
}

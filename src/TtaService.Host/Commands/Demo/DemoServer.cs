using Microsoft.Extensions.DependencyInjection.Extensions;
using TtaService.Host.Hosting;

namespace TtaService.Host.Commands.Demo;

/// <summary>The real server on loopback ports, in this process.</summary>
internal static class DemoServer
{
    public static async Task<WebApplication> StartAsync(string repository, int httpPort, CancellationToken cancel)
    {
        string[] settings = ["--Server:Address=localhost", "--Server:GrpcPort=0", $"--Server:HttpPort={httpPort}", $"--Models:Path={repository}", "--Store:Kind=memory"];
        var host = TtaHost.Build(settings, builder =>
        {
            // The table owns the terminal, and Ctrl-C ends the cameras first.
            builder.Logging.ClearProviders();
            builder.Services.Replace(ServiceDescriptor.Singleton<IHostLifetime, CallersLifetime>());
        });
        try
        {
            await host.StartAsync(cancel).ConfigureAwait(false);
            return host;
        }
        catch
        {
            await host.DisposeAsync().ConfigureAwait(false);
            throw;
        }
    }

    private sealed class CallersLifetime : IHostLifetime
    {
        public Task WaitForStartAsync(CancellationToken cancellationToken) => Task.CompletedTask;

        public Task StopAsync(CancellationToken cancellationToken) => Task.CompletedTask;
    }
}

using System.CommandLine;
using System.Globalization;
using TtaService.Host.Hosting;
using TtaService.Serving.Streams;

namespace TtaService.Host.Commands;

/// <summary><c>tta serve</c>, and <c>tta</c> alone: runs the server until it is stopped.</summary>
internal static class ServeCommand
{
    public const string Name = "serve";

    private const int FirstPluginKey = 1000;

    public static Command Build()
    {
        var command = new Command(Name, "Runs the server (also what tta alone does).");
        AddTo(command);
        return command;
    }

    /// <summary>Makes a command run the server.</summary>
    public static void AddTo(Command command)
    {
        var grpcPort = NumberOption.OptionalInteger("--grpc-port", "Port for gRPC, HTTP/2 without TLS; 8001 when not given, 0 for any free one", 0, 65535);
        var httpPort = NumberOption.OptionalInteger("--http-port", "Port for health and metrics over HTTP/1.1; 8000 when not given, 0 for any free one", 0, 65535);
        var address = new Option<string?>("--address") { Description = "IP address to listen on; localhost when not given, * for all.", HelpName = "IP" };
        var models = ModelLocation.RepositoryOption();
        var plugins = KnownMethods.PluginOption();
        var settings = new Option<string[]>("--set") { Description = "Any other setting, for example Batching:MaxDelay=00:00:00.004.", HelpName = "KEY=VALUE" };
        command.Add(grpcPort);
        command.Add(httpPort);
        command.Add(address);
        command.Add(models);
        command.Add(plugins);
        command.Add(settings);
        command.SetAction(async (parsed, cancel) =>
        {
            var arguments = new List<string>();
            Give("Server:GrpcPort", parsed.GetValue(grpcPort)?.ToString(CultureInfo.InvariantCulture));
            Give("Server:HttpPort", parsed.GetValue(httpPort)?.ToString(CultureInfo.InvariantCulture));
            Give("Server:Address", parsed.GetValue(address));
            Give("Models:Path", parsed.GetValue(models));
            for (var i = 0; i < parsed.GetValue(plugins)!.Length; i++)
            {
                // Behind those of the settings, which count from 0.
                Give($"Methods:Assemblies:{FirstPluginKey + i}", parsed.GetValue(plugins)![i]);
            }

            arguments.AddRange(parsed.GetValue(settings)!.Select(Setting));
            await RunAsync(new Terminal(parsed.InvocationConfiguration), [.. arguments], cancel).ConfigureAwait(false);

            void Give(string key, string? value)
            {
                if (value is not null)
                {
                    arguments.Add($"--{key}={value}");
                }
            }
        });
    }

    private static async Task RunAsync(Terminal terminal, string[] arguments, CancellationToken cancel)
    {
        var host = TtaHost.Build(arguments, ModelLocation.UseBuiltInRepository);
        await using var disposal = host.ConfigureAwait(false);
        await host.StartAsync(cancel).ConfigureAwait(false);
        var (grpc, http) = TtaHost.Addresses(host);
        terminal.Line($"tta is ready");
        terminal.Line($"gRPC    {grpc.AbsoluteUri.TrimEnd('/')}");
        terminal.Line($"health  {http.AbsoluteUri}health/ready");
        terminal.Line($"metrics {http.AbsoluteUri}metrics");
        var models = host.Services.GetRequiredService<ModelCatalog>();
        foreach (var model in models.All)
        {
            terminal.Line($"model   {model.Name}, {model.Engine.Model.Sites.Count} normalization sites, method {model.DefaultMethod.Name} unless a stream names another");
        }

        foreach (var broken in models.Broken)
        {
            terminal.Line($"model   {broken.Name} is not served: {broken.Reason}");
        }

        await host.WaitForShutdownAsync(cancel).ConfigureAwait(false);
    }

    private static string Setting(string text) =>
        text.IndexOf('=', StringComparison.Ordinal) > 0
            ? $"--{text}"
            : throw CommandException.WrongUse($"--set {text} is not KEY=VALUE; write for example --set Streams:MaxStreams=500");
}

using System.CommandLine;
using System.Globalization;
using System.Net;
using TtaService.Host.Hosting;

namespace TtaService.Host.Commands;

/// <summary><c>tta health</c>: asks a server on this machine whether it is ready. What a container without a shell uses as its health check.</summary>
internal static class HealthCommand
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(3);

    public static Command Build()
    {
        var port = NumberOption.OptionalInteger("--http-port", "The server's port for HTTP; Server__HttpPort of the environment, or 8000, when not given", 1, 65535);
        var live = new Option<bool>("--live") { Description = "Ask only whether it answers, not whether it is ready." };
        var command = new Command("health", "Asks a server on this machine whether it is ready; exits with 0 when it is, with 1 when not.") { port, live };
        command.SetAction(async (parsed, cancel) =>
        {
            var path = parsed.GetValue(live) ? "live" : "ready";
            var environment = new ConfigurationBuilder().AddEnvironmentVariables().Build().GetSection("Server");
            var host = new IPEndPoint(AddressOf(environment["Address"]), parsed.GetValue(port) ?? environment.GetValue<int?>("HttpPort") ?? new ServerOptions().HttpPort);
            var address = new Uri($"http://{host}/health/{path}");
            new Terminal(parsed.InvocationConfiguration).Line($"{await AskAsync(address, cancel).ConfigureAwait(false)}");
        });
        return command;
    }

    private static async Task<string> AskAsync(Uri address, CancellationToken cancel)
    {
        using var client = new HttpClient { Timeout = Patience };
        try
        {
            using var answer = await client.GetAsync(address, cancel).ConfigureAwait(false);
            var said = await answer.Content.ReadAsStringAsync(cancel).ConfigureAwait(false);
            return answer.IsSuccessStatusCode ? said : throw new CommandException($"{address} answered {said}");
        }
        catch (HttpRequestException unreachable)
        {
            throw new CommandException($"{address} does not answer: {unreachable.Message}");
        }
        catch (OperationCanceledException) when (!cancel.IsCancellationRequested)
        {
            throw new CommandException(string.Create(CultureInfo.InvariantCulture, $"{address} did not answer within {Patience.TotalSeconds} s"));
        }
    }

    // What listens everywhere listens on loopback, too.
    private static IPAddress AddressOf(string? configured) =>
        ListenAddressAttribute.Parse(configured ?? new ServerOptions().Address) is { } address && !address.Equals(IPAddress.Any) && !address.Equals(IPAddress.IPv6Any)
            ? address
            : IPAddress.Loopback;
}

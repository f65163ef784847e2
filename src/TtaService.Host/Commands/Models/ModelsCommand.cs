using System.CommandLine;
using Grpc.Core;
using Spectre.Console;
using TtaService.V1;

namespace TtaService.Host.Commands.Models;

/// <summary><c>tta models</c>: what a running server serves, and changes of it.</summary>
internal static class ModelsCommand
{
    // Of the digest, enough to tell two files apart.
    private const int DigestShown = 12;

    public static Command Build()
    {
        var address = RemoteServer.AddressOption();
        var key = RemoteServer.ApiKeyOption();
        (address.Recursive, key.Recursive) = (true, true);
        RemoteServer Server(ParseResult parsed) => RemoteServer.Of(parsed, address, key);
        return new Command("models", "Lists, loads, replaces and unloads the models of a running server.")
        {
            address,
            key,
            BuildList(Server),
            BuildLoad(Server),
            BuildUnload(Server),
        };
    }

    private static Command BuildList(Func<ParseResult, RemoteServer> server)
    {
        var command = new Command("list", "Lists the models that are served, and those that can't be.");
        command.SetAction(async (parsed, cancel) =>
        {
            using var remote = server(parsed);
            var answer = await remote.AskAsync(
                "list models",
                (client, deadline) => client.Models.ListModelsAsync(new ListModelsRequest(), deadline: deadline, cancellationToken: cancel)).ConfigureAwait(false);
            var terminal = new Terminal(parsed.InvocationConfiguration);
            var table = new Table { Border = TableBorder.Simple };
            table.AddColumns("model", "version", "digest", "default method", "not served");
            foreach (var model in answer.Models)
            {
                var served = model.UnavailableReason.Length == 0;
                table.AddRow(
                    new Text(model.Name),
                    new Text(served ? $"{model.Version}" : string.Empty),
                    new Text(served ? model.Digest[..DigestShown] : string.Empty),
                    new Text(model.DefaultMethod?.Name ?? string.Empty),
                    new Text(model.UnavailableReason));
            }

            terminal.Write(table);
        });
        return command;
    }

    private static Command BuildLoad(Func<ParseResult, RemoteServer> server)
    {
        var name = NameArgument();
        var command = new Command("load", "Loads a model as its folder in the repository is now; it takes over once it is warmed up, and its streams move to it.") { name };
        command.SetAction(async (parsed, cancel) =>
        {
            using var remote = server(parsed);
            var request = new LoadModelRequest { Name = parsed.GetRequiredValue(name) };
            // Without a deadline: large networks take their time, and what serves goes on.
            var model = await remote.AskAsync($"load model '{request.Name}'", (client, _) => client.Models.LoadModelAsync(request, cancellationToken: cancel))
                .ConfigureAwait(false);
            var terminal = new Terminal(parsed.InvocationConfiguration);
            terminal.Line($"loaded {model.Name}, version {model.Version}, {model.Digest[..DigestShown]}");
            terminal.Line($"{model.Sites.Count} normalization sites, method {model.DefaultMethod.Name} unless a stream names another");
        });
        return command;
    }

    private static Command BuildUnload(Func<ParseResult, RemoteServer> server)
    {
        var name = NameArgument();
        var command = new Command("unload", "Serves a model no more; calls that have its streams open end, what they learned is saved.") { name };
        command.SetAction(async (parsed, _) =>
        {
            using var remote = server(parsed);
            var request = new UnloadModelRequest { Name = parsed.GetRequiredValue(name) };
            await remote.AskAsync($"unload model '{request.Name}'", (client, deadline) => client.Models.UnloadModelAsync(request, deadline: deadline)).ConfigureAwait(false);
            new Terminal(parsed.InvocationConfiguration).Line($"unloaded {request.Name}");
        });
        return command;
    }

    private static Argument<string> NameArgument() => new("name") { Description = "The model: its folder's name in the repository." };
}

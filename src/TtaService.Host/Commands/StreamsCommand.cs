using System.CommandLine;
using System.Globalization;
using Google.Protobuf;
using Google.Protobuf.WellKnownTypes;
using Grpc.Core;
using Spectre.Console;
using TtaService.Serving.Store;
using TtaService.V1;
using Stream = TtaService.V1.Stream;

namespace TtaService.Host.Commands;

/// <summary><c>tta streams</c>: the streams of a running server as resources.</summary>
internal static class StreamsCommand
{
    private const int PageSize = 1000;
    private static readonly JsonFormatter Json = new(JsonFormatter.Settings.Default.WithIndentation().WithPreserveProtoFieldNames(true).WithFormatDefaultValues(true));

    public static Command Build()
    {
        var address = RemoteServer.AddressOption();
        var key = RemoteServer.ApiKeyOption();
        (address.Recursive, key.Recursive) = (true, true);
        RemoteServer Server(ParseResult parsed) => RemoteServer.Of(parsed, address, key);
        return new Command("streams", "Lists, shows, resets, freezes, forks, rolls back, exports, imports and deletes the streams of a running server.")
        {
            address,
            key,
            BuildList(Server),
            BuildOnOne("show", "Shows a stream: method, age, where its state comes from and is.", Server,
                (client, name, deadline) => client.GetStreamAsync(new GetStreamRequest { Name = name }, deadline: deadline)),
            BuildOnOne("reset", "Puts a stream back to the source statistics; sequence numbers go on.", Server,
                (client, name, deadline) => client.ResetStreamAsync(new ResetStreamRequest { Name = name }, deadline: deadline)),
            BuildOnOne("freeze", "Uses a stream's state without updating it.", Server,
                (client, name, deadline) => client.UpdateStreamAsync(Frozen(name, true), deadline: deadline)),
            BuildOnOne("unfreeze", "Lets a stream adapt again.", Server,
                (client, name, deadline) => client.UpdateStreamAsync(Frozen(name, false), deadline: deadline)),
            BuildFork(Server),
            BuildCheckpoints(Server),
            BuildRollBack(Server),
            BuildExport(Server),
            BuildImport(Server),
            BuildDelete(Server),
        };
    }

    private static Command BuildList(Func<ParseResult, RemoteServer> server)
    {
        var model = new Option<string>("--model") { Description = "Only streams of this model.", DefaultValueFactory = _ => "" };
        var json = new Option<bool>("--json") { Description = "Write a JSON object a stream instead of a table." };
        var command = new Command("list", "Lists the streams, those in the store included.") { model, json };
        command.SetAction(async (parsed, cancel) =>
        {
            using var remote = server(parsed);
            var terminal = new Terminal(parsed.InvocationConfiguration);
            var streams = new List<Stream>();
            var request = new ListStreamsRequest { Model = parsed.GetRequiredValue(model), PageSize = PageSize };
            do
            {
                var page = await remote.AskAsync("list streams",
                    (client, deadline) => client.Streams.ListStreamsAsync(request, deadline: deadline, cancellationToken: cancel)).ConfigureAwait(false);
                streams.AddRange(page.Streams);
                foreach (var warning in page.Warnings)
                {
                    await terminal.Error.WriteLineAsync($"tta: {warning}").ConfigureAwait(false);
                }

                request.PageToken = page.NextPageToken;
            }
            while (request.PageToken.Length > 0);

            if (parsed.GetValue(json))
            {
                var lines = new JsonFormatter(JsonFormatter.Settings.Default.WithPreserveProtoFieldNames(true).WithFormatDefaultValues(true));
                streams.ForEach(stream => terminal.Output.WriteLine(lines.Format(stream)));
                return;
            }

            Write(terminal, streams);
        });
        return command;
    }

    private static Command BuildOnOne(
        string verb, string description, Func<ParseResult, RemoteServer> server, Func<StreamsService.StreamsServiceClient, string, DateTime, AsyncUnaryCall<Stream>> call)
    {
        var name = NameArgument();
        var command = new Command(verb, description) { name };
        command.SetAction(async (parsed, _) =>
        {
            using var remote = server(parsed);
            var stream = parsed.GetRequiredValue(name);
            var answer = await remote.AskAsync($"{verb} stream '{stream}'", (client, deadline) => call(client.Streams, stream, deadline)).ConfigureAwait(false);
            Show(parsed, answer);
        });
        return command;
    }

    private static Command BuildFork(Func<ParseResult, RemoteServer> server)
    {
        var source = new Argument<string>("source") { Description = "The stream to copy; it goes on as it is." };
        var name = new Argument<string>("name") { Description = "The new stream." };
        var command = new Command("fork", "Starts a stream from a copy of another's state: a new camera beside a similar one.") { source, name };
        command.SetAction(async (parsed, _) =>
        {
            using var remote = server(parsed);
            var request = new ForkStreamRequest { Source = parsed.GetRequiredValue(source), Name = parsed.GetRequiredValue(name) };
            Show(parsed, await remote.AskAsync($"fork stream '{request.Source}'",
                (client, deadline) => client.Streams.ForkStreamAsync(request, deadline: deadline)).ConfigureAwait(false));
        });
        return command;
    }

    private static Command BuildCheckpoints(Func<ParseResult, RemoteServer> server)
    {
        var name = NameArgument();
        var command = new Command("checkpoints", "Lists the states that the store keeps of a stream, newest first.") { name };
        command.SetAction(async (parsed, _) =>
        {
            using var remote = server(parsed);
            var stream = parsed.GetRequiredValue(name);
            var kept = await remote.AskAsync($"list the checkpoints of stream '{stream}'",
                (client, deadline) => client.Streams.ListCheckpointsAsync(new ListCheckpointsRequest { Name = stream }, deadline: deadline)).ConfigureAwait(false);
            var table = Columns("number", "step", "saved", "bytes", "method", "by");
            foreach (var one in kept.Checkpoints)
            {
                table.AddRow(Cell($"{one.Number}"), Cell($"{one.Step:N0}"), new Text(Time(one.SaveTime)), Cell($"{one.Bytes:N0}"), new Text(one.Method), new Text(one.Owner));
            }

            new Terminal(parsed.InvocationConfiguration).Write(table);
        });
        return command;
    }

    private static Command BuildRollBack(Func<ParseResult, RemoteServer> server)
    {
        var name = NameArgument();
        var checkpoint = NumberOption.Integer("--checkpoint", "A number of 'tta streams checkpoints'; 0 for the newest", 0, 0, int.MaxValue);
        var command = new Command("rollback", "Puts a stream back to one of its kept checkpoints; sequence numbers go on.") { name, checkpoint };
        command.SetAction(async (parsed, _) =>
        {
            using var remote = server(parsed);
            var request = new RollBackStreamRequest { Name = parsed.GetRequiredValue(name), Checkpoint = parsed.GetValue(checkpoint) };
            Show(parsed, await remote.AskAsync($"roll back stream '{request.Name}'",
                (client, deadline) => client.Streams.RollBackStreamAsync(request, deadline: deadline)).ConfigureAwait(false));
        });
        return command;
    }

    private static Command BuildExport(Func<ParseResult, RemoteServer> server)
    {
        var name = NameArgument();
        var file = new Argument<string>("file") { Description = "Where to write the safetensors file." };
        var command = new Command("export", "Writes a stream's state as a snapshot, which 'tta snapshot' and 'tta streams import' read.") { name, file };
        command.SetAction(async (parsed, _) =>
        {
            using var remote = server(parsed);
            var stream = parsed.GetRequiredValue(name);
            var answer = await remote.AskAsync($"export stream '{stream}'",
                (client, deadline) => client.Streams.ExportStreamAsync(new ExportStreamRequest { Name = stream }, deadline: deadline)).ConfigureAwait(false);
            var path = parsed.GetRequiredValue(file);
            OnDisk($"write {path}", () =>
            {
                DurableFile.Write(path, answer.Snapshot.Span);
                return true;
            });
            new Terminal(parsed.InvocationConfiguration).Line($"{path}: {answer.Snapshot.Length} bytes");
        });
        return command;
    }

    private static Command BuildImport(Func<ParseResult, RemoteServer> server)
    {
        var name = new Argument<string>("name") { Description = "The new stream." };
        var file = new Argument<string>("file") { Description = "A snapshot (.safetensors)." };
        var model = new Option<string>("--model") { Description = "The model's name; not needed when the server has one.", DefaultValueFactory = _ => "" };
        var command = new Command("import", "Starts a stream from a snapshot.") { name, file, model };
        command.SetAction(async (parsed, _) =>
        {
            using var remote = server(parsed);
            var path = parsed.GetRequiredValue(file);
            var snapshot = OnDisk($"read {path}", () => File.ReadAllBytes(path));
            var request = new ImportStreamRequest
            {
                Name = parsed.GetRequiredValue(name),
                Model = parsed.GetRequiredValue(model),
                Snapshot = UnsafeByteOperations.UnsafeWrap(snapshot),
            };
            Show(parsed, await remote.AskAsync($"import {path} as stream '{request.Name}'",
                (client, deadline) => client.Streams.ImportStreamAsync(request, deadline: deadline)).ConfigureAwait(false));
        });
        return command;
    }

    private static Command BuildDelete(Func<ParseResult, RemoteServer> server)
    {
        var names = new Argument<string[]>("names") { Description = "The streams.", Arity = ArgumentArity.OneOrMore };
        var command = new Command("delete", "Forgets streams and their states, in the store, too.") { names };
        command.SetAction(async (parsed, _) =>
        {
            using var remote = server(parsed);
            foreach (var name in parsed.GetRequiredValue(names))
            {
                await remote.AskAsync($"delete stream '{name}'",
                    (client, deadline) => client.Streams.DeleteStreamAsync(new DeleteStreamRequest { Name = name }, deadline: deadline)).ConfigureAwait(false);
                new Terminal(parsed.InvocationConfiguration).Line($"deleted {name}");
            }
        });
        return command;
    }

    private static T OnDisk<T>(string what, Func<T> work)
    {
        try
        {
            return work();
        }
        catch (Exception refused) when (refused is IOException or UnauthorizedAccessException)
        {
            throw new CommandException($"could not {what}: {refused.Message}");
        }
    }

    private static void Write(Terminal terminal, List<Stream> streams)
    {
        var table = Columns("stream", "model", "method", "steps", "frames", "state", "updated", "where");
        foreach (var stream in streams)
        {
            table.AddRow(
                new Text(stream.Name),
                new Text(stream.Model),
                new Text(stream.Method?.Name ?? ""),
                Cell($"{stream.Age?.Steps ?? 0:N0}"),
                Cell($"{stream.Age?.Frames ?? 0:N0}"),
                new Text($"{stream.Origin.ToString().ToLowerInvariant()}{(stream.Frozen ? ", frozen" : "")}{(stream.Pinned ? ", pinned" : "")}"),
                new Text(Time(stream.UpdateTime)),
                new Text(stream.Owner.Length == 0 ? "store" : stream.Resident ? stream.Owner : $"{stream.Owner}, not in memory"));
        }

        terminal.Write(table);
        terminal.Line($"{streams.Count} streams");
    }

    private static void Show(ParseResult parsed, Stream stream) => new Terminal(parsed.InvocationConfiguration).Output.WriteLine(Json.Format(stream));

    private static UpdateStreamRequest Frozen(string name, bool frozen) =>
        new() { Stream = new Stream { Name = name, Frozen = frozen }, UpdateMask = new FieldMask { Paths = { "frozen" } } };

    private static Argument<string> NameArgument() => new("name") { Description = "The stream." };

    private static Table Columns(params string[] names)
    {
        var table = new Table { Border = TableBorder.Simple };
        table.AddColumns(names);
        return table;
    }

    private static string Time(Timestamp? time) => time?.ToDateTimeOffset().ToString("yyyy-MM-dd HH:mm:ss'Z'", CultureInfo.InvariantCulture) ?? "";

    private static Text Cell(FormattableString value) => new(FormattableString.Invariant(value));
}

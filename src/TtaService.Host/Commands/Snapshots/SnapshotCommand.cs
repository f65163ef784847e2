using System.CommandLine;
using System.Globalization;
using System.Text.Json;
using System.Text.Json.Serialization;
using Spectre.Console;
using TtaService.Engine.Execution;
using TtaService.Engine.Streams;
using TtaService.Serving.Store;

namespace TtaService.Host.Commands.Snapshots;

/// <summary><c>tta snapshot</c>: inspects, verifies, compares and converts exported snapshots and the file store's checkpoints.</summary>
internal static class SnapshotCommand
{
    private static readonly JsonSerializerOptions Indented = new() { WriteIndented = true, PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower, NumberHandling = JsonNumberHandling.AllowNamedFloatingPointLiterals };

    public static Command Build() => new("snapshot", "Inspects, verifies, compares and converts stream snapshots and checkpoint files.")
    {
        BuildInspect(),
        BuildVerify(),
        BuildCompare(),
        BuildConvert(),
    };

    private static Command BuildInspect()
    {
        var file = FileArgument();
        var (model, models) = ModelOptions();
        var json = JsonOption();
        var command = new Command("inspect", "Shows what a snapshot holds: whose it is, and every tensor with its range.") { file, model, models, json };
        command.SetAction(parsed =>
        {
            using var adaptive = Load(parsed, model, models);
            var snapshot = SnapshotFile.Read(parsed.GetRequiredValue(file));
            var terminal = new Terminal(parsed.InvocationConfiguration);
            var tensors = snapshot.Encoding == "lossless" || adaptive is not null ? SnapshotTensors.Ranges(snapshot.Decode(adaptive)) : null;
            if (parsed.GetValue(json))
            {
                terminal.Output.WriteLine(JsonSerializer.Serialize(new { snapshot.Path, bytes = snapshot.Bytes.Length, snapshot.Encoding, metadata = Shown(snapshot), tensors }, Indented));
                return;
            }

            WriteHead(terminal, snapshot);

            if (tensors is null)
            {
                terminal.Line($"its tensors are differences from the model's statistics; name the model with --model to see them");
                return;
            }

            var table = new Table { Border = TableBorder.Simple };
            table.AddColumns("tensor", "shape", "min", "mean", "max");
            foreach (var tensor in tensors)
            {
                table.AddRow(new Text(tensor.Name), new Text($"[{string.Join(',', tensor.Shape)}]"), Number(tensor.Min), Number(tensor.Mean), Number(tensor.Max));
            }

            terminal.Write(table);
        });
        return command;
    }

    private static Command BuildVerify()
    {
        var files = new Argument<string[]>("files") { Description = "Snapshots, checkpoints, or folders of them.", Arity = ArgumentArity.OneOrMore };
        var (model, models) = ModelOptions();
        var key = new Option<FileInfo?>("--key") { Description = "The key file of the checksums (Store:SigningKeyFile).", HelpName = "FILE" };
        var command = new Command("verify", "Checks containers and checksums, and against a model every tensor. Exits with 1 when a file is refused.") { files, model, models, key };
        command.SetAction(parsed =>
        {
            using var adaptive = Load(parsed, model, models);
            var keyBytes = parsed.GetValue(key) is { } keyFile ? File.ReadAllBytes(keyFile.FullName) : null;
            if (keyBytes is { Length: < CheckpointSeal.MinKeyBytes })
            {
                throw CommandException.WrongUse($"--key has {keyBytes.Length} bytes, at least {CheckpointSeal.MinKeyBytes} are needed");
            }

            var terminal = new Terminal(parsed.InvocationConfiguration);
            var (good, bad) = (0, 0);
            foreach (var path in parsed.GetRequiredValue(files).SelectMany(Expand))
            {
                var wrong = WhyBad(path, adaptive, keyBytes);
                (good, bad) = wrong is null ? (good + 1, bad) : (good, bad + 1);
                terminal.Line($"{(wrong is null ? "ok      " : "REFUSED ")}{path}{(wrong is null ? "" : $": {wrong}")}");
            }

            terminal.Line($"{good} ok, {bad} refused");
            return bad == 0 ? 0 : 1;
        });
        return command;
    }

    private static Command BuildCompare()
    {
        var first = FileArgument("first");
        var second = FileArgument("second");
        var (model, models) = ModelOptions();
        var tolerance = new Option<double?>("--tolerance") { Description = "Exit with 1 when a tensor differs by more, relative to its root mean square." };
        var json = JsonOption();
        var command = new Command("compare", "Compares two snapshots tensor by tensor, the largest relative difference first.") { first, second, model, models, tolerance, json };
        command.SetAction(parsed =>
        {
            using var adaptive = Load(parsed, model, models);
            var (a, b) = (SnapshotFile.Read(parsed.GetRequiredValue(first)), SnapshotFile.Read(parsed.GetRequiredValue(second)));
            var (before, after) = (a.Decode(adaptive), b.Decode(adaptive));
            var differences = SnapshotTensors.Compare(before, after);
            var metadata = SnapshotTensors.DifferingMetadata(before, after);
            var terminal = new Terminal(parsed.InvocationConfiguration);
            if (parsed.GetValue(json))
            {
                terminal.Output.WriteLine(JsonSerializer.Serialize(new { metadata, tensors = differences }, Indented));
            }
            else
            {
                Write(terminal, metadata, differences);
            }

            return parsed.GetValue(tolerance) is { } limit && differences.Any(difference => !(difference.Relative <= limit)) ? 1 : 0;
        });
        return command;
    }

    private static Command BuildConvert()
    {
        var input = FileArgument("input");
        var output = FileArgument("output");
        var (model, models) = ModelOptions();
        var encoding = new Option<SnapshotEncoding>("--encoding") { Description = "lossless (float32, any reader of safetensors opens it) or float16_delta (small; reading it needs the model).", DefaultValueFactory = _ => SnapshotEncoding.Lossless, CustomParser = ParseEncoding, HelpName = "ENCODING" };
        var command = new Command("convert", "Writes a snapshot or checkpoint as a plain snapshot, which ImportStream and 'tta evaluate --state' take when it is lossless.") { input, output, model, models, encoding };
        command.SetAction(parsed =>
        {
            using var adaptive = Load(parsed, model, models);
            var wanted = parsed.GetValue(encoding);
            if (wanted == SnapshotEncoding.Float16Delta && adaptive is null)
            {
                throw CommandException.WrongUse("float16_delta stores differences from the model's statistics; name the model with --model");
            }

            var plain = SnapshotFile.Read(parsed.GetRequiredValue(input)).Decode(adaptive);
            var digest = Safetensors.Read(plain).Metadata.GetValueOrDefault("model");
            if (adaptive is not null && digest != adaptive.Digest)
            {
                throw CommandException.WrongUse($"the snapshot belongs to model {digest}, --model is {adaptive.Digest}");
            }

            var written = SnapshotFile.Codec(wanted, adaptive).Encode(plain);
            DurableFile.Write(parsed.GetRequiredValue(output), written);
            new Terminal(parsed.InvocationConfiguration).Line($"{parsed.GetRequiredValue(output)}: {written.Length} bytes, {(wanted == SnapshotEncoding.Lossless ? "lossless" : "float16_delta")}");
        });
        return command;
    }

    private static void Write(Terminal terminal, IReadOnlyDictionary<string, string[]> metadata, IReadOnlyList<TensorDifference> differences)
    {
        foreach (var (name, values) in metadata)
        {
            terminal.Line($"{name}: {values[0]} -> {values[1]}");
        }

        var changed = differences.Where(difference => difference.Relative != 0).ToList();
        terminal.Line($"{changed.Count} of {differences.Count} tensors differ");
        if (changed.Count == 0)
        {
            return;
        }

        var table = new Table { Border = TableBorder.Simple };
        table.AddColumns("tensor", "largest difference", "root mean square", "relative");
        foreach (var difference in changed)
        {
            table.AddRow(new Text(difference.Name), difference.Problem is { } problem ? new Text(problem) : Number(difference.Largest), Number(difference.RootMeanSquare), Number(difference.Relative));
        }

        terminal.Write(table);
    }

    private static void WriteHead(Terminal terminal, SnapshotFile snapshot)
    {
        var metadata = Shown(snapshot);
        var width = metadata.Keys.Append("file").Max(name => name.Length) + 2;
        terminal.Line($"{"file".PadRight(width)}{snapshot.Path}, {snapshot.Bytes.Length} bytes, {(snapshot.IsCheckpoint ? "a checkpoint" : "an export")}, {snapshot.Encoding}");
        foreach (var (name, value) in metadata)
        {
            terminal.Line($"{name.PadRight(width)}{value}");
        }
    }

    private static string? WhyBad(string path, AdaptiveModel? model, byte[]? key)
    {
        try
        {
            return SnapshotFile.Read(path).Verify(model, key);
        }
        catch (CommandException refused)
        {
            return refused.Message;
        }
    }

    private static IEnumerable<string> Expand(string path) => Directory.Exists(path)
        ? Directory.EnumerateFiles(path, "*" + CheckpointFileName.Stored).Order(StringComparer.Ordinal)
        : [path];

    // The kept answers are long and say nothing to people.
    private static Dictionary<string, string> Shown(SnapshotFile file) => file.Content.Metadata.Where(pair => pair.Key is not ("record" or "encoded_tensors")).ToDictionary();

    private static AdaptiveModel? Load(ParseResult parsed, Option<string?> model, Option<string?> models)
    {
        if (parsed.GetValue(model) is not { } name)
        {
            return null;
        }

        var location = ModelLocation.Resolve(name, parsed.GetValue(models));
        return AdaptiveModel.Load(location.OnnxPath, location.LoadOptions);
    }

    private static (Option<string?> Model, Option<string?> Repository) ModelOptions() =>
        (new("--model") { Description = "The model that the snapshot belongs to: an .onnx file, a model folder, or a name in the model repository." }, ModelLocation.RepositoryOption());

    private static Argument<string> FileArgument(string name = "file") => new(name) { Description = "A .safetensors file." };

    private static Option<bool> JsonOption() => new("--json") { Description = "Write JSON instead of a table." };

    private static SnapshotEncoding ParseEncoding(System.CommandLine.Parsing.ArgumentResult result)
    {
        foreach (var encoding in Enum.GetValues<SnapshotEncoding>())
        {
            if (SnakeCaseEnumConverter<SnapshotEncoding>.Name(encoding) == result.Tokens[0].Value)
            {
                return encoding;
            }
        }

        result.AddError($"--encoding is '{result.Tokens[0].Value}'; it is lossless or float16_delta.");
        return default;
    }

    private static Text Number(double value) => new(value.ToString("g5", CultureInfo.InvariantCulture));
}

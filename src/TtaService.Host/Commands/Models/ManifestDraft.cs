using System.Globalization;
using System.Text.Json;
using System.Text.Json.Nodes;
using System.Text.RegularExpressions;
using TtaService.Engine.Execution;
using TtaService.Serving.Frames;
using TtaService.Serving.Models;

namespace TtaService.Host.Commands.Models;

/// <summary>A first <c>model.json</c>, and for people what each part was read from.</summary>
/// <param name="Manifest">The file's content.</param>
/// <param name="Notes">A line each.</param>
internal sealed partial record ManifestDraft(JsonObject Manifest, IReadOnlyList<string> Notes)
{
    /// <summary>Reads the graph, the metadata that ultralytics writes into the file, and the config.json that timm's models have beside them.</summary>
    public static ManifestDraft Of(AdaptiveModel model, string folder)
    {
        var notes = new List<string>();
        var manifest = new JsonObject();
        var timm = Timm(folder, model.Metadata);
        if (Labels(model.Metadata, timm) is { } labels)
        {
            if (model.Scores?.Classes is { } classes && classes != labels.Count)
            {
                notes.Add($"labels: the exporter names {labels.Count}, the graph gives {classes} classes, so none was taken");
            }
            else if (model.Scores is not null)
            {
                manifest["labels"] = new JsonArray([.. labels.Select(label => (JsonNode)label)]);
                notes.Add($"labels: {labels.Count}, from the exporter");
            }
        }
        else if (model.Scores is not null)
        {
            notes.Add("labels: not known; add one for each class, in the order of the outputs");
        }

        manifest["preprocessing"] = Ultralytics(model, notes) ?? timm?.Preprocessing(model, notes) ?? Plain(model, notes);
        var outputs = new JsonArray();
        foreach (var output in model.Outputs)
        {
            var kind = JsonNamingPolicy.SnakeCaseLower.ConvertName($"{output.Kind}");
            outputs.Add(new JsonObject { ["name"] = output.Name, ["kind"] = kind });
            notes.Add($"output {output.Name}: {kind}, {output.Reason}");
        }

        manifest["outputs"] = outputs;
        manifest["default_method"] = new JsonObject { ["name"] = "source" };
        return new ManifestDraft(manifest, notes);
    }

    private static JsonObject? Ultralytics(AdaptiveModel model, List<string> notes)
    {
        if (!model.Metadata.TryGetValue("task", out var task) && !model.Metadata.ContainsKey("stride"))
        {
            return null;
        }

        var said = model.Metadata.TryGetValue("imgsz", out var text) ? [.. WholeNumber().Matches(text).Select(match => int.Parse(match.Value, CultureInfo.InvariantCulture))] : Array.Empty<int>();
        var size = Fixed(model) ?? said switch
        {
            [var side] => (side, side),
            [var height, var width, ..] => (height, width),
            _ => (640, 640),
        };
        var unit = new JsonArray(1, 1, 1);
        if (task == "classify")
        {
            notes.Add($"preprocessing: ultralytics' for classifiers, {size.Item1}x{size.Item2}: shorter side, centre, pixels / 255");
            return new JsonObject { ["resize"] = Math.Max(size.Item1, size.Item2), ["crop"] = Pair(size), ["channels"] = "rgb", ["mean"] = new JsonArray(0, 0, 0), ["std"] = unit };
        }

        notes.Add($"preprocessing: ultralytics' for {task ?? "detect"}, {size.Item1}x{size.Item2}: letterbox in grey 114, pixels / 255");
        return new JsonObject { ["fit"] = "letterbox", ["resize"] = Pair(size), ["padding"] = (int)Letterbox.DefaultGrey, ["channels"] = "rgb", ["mean"] = new JsonArray(0, 0, 0), ["std"] = unit };
    }

    private static JsonObject Plain(AdaptiveModel model, List<string> notes)
    {
        if (model.InputShape[1] == 1 && model.InputNormalization.Mean.Length == 3)
        {
            notes.Add("preprocessing: mean and std of the grey input are not known; 0 and 1 stand there, set those of the training");
            return Fixed(model) is { } fixedSize
                ? new JsonObject { ["resize"] = Pair(fixedSize), ["channels"] = "grey", ["mean"] = new JsonArray(0), ["std"] = new JsonArray(1) }
                : new JsonObject { ["channels"] = "grey", ["mean"] = new JsonArray(0), ["std"] = new JsonArray(1) };
        }

        var preprocessing = ModelFolder.Of(Path.Combine("model", "model.onnx")).Preprocessing(model);
        notes.Add("preprocessing: the exporter says nothing; torchvision's stands there, set what the model was trained with");
        var described = ModelFolder.Describe(preprocessing, model);
        described.Remove("apply_exif");
        return described;
    }

    private static (int Height, int Width)? Fixed(AdaptiveModel model) => model.InputShape is [_, _, > 0 and var height, > 0 and var width] ? ((int)height, (int)width) : null;

    private static JsonArray Pair((int Height, int Width) size) => new(size.Height, size.Width);

    private static IReadOnlyList<string>? Labels(IReadOnlyDictionary<string, string> metadata, TimmConfig? timm)
    {
        if (timm?.Labels is { } known)
        {
            return known;
        }

        if (!metadata.TryGetValue("names", out var names))
        {
            return null;
        }

        // A Python dictionary or list as Python prints it.
        var entries = Entry().Matches(names);
        var labels = entries.Count > 0
            ? entries.OrderBy(entry => int.Parse(entry.Groups[1].Value, CultureInfo.InvariantCulture)).Select(entry => Text(entry, 2)).ToList()
            : [.. Quoted().Matches(names).Select(entry => Text(entry, 1))];
        return labels.Count > 0 ? labels : null;

        static string Text(Match match, int group) => Regex.Unescape(match.Groups[group].Success ? match.Groups[group].Value : match.Groups[group + 1].Value);
    }

    private static TimmConfig? Timm(string folder, IReadOnlyDictionary<string, string> metadata)
    {
        var path = Path.Combine(folder, "config.json");
        try
        {
            if (File.Exists(path) && JsonNode.Parse(File.ReadAllText(path)) is JsonObject config)
            {
                return TimmConfig.Read(config);
            }

            return metadata.TryGetValue("pretrained_cfg", out var text) && JsonNode.Parse(text) is JsonObject inFile ? TimmConfig.Read(new JsonObject { ["pretrained_cfg"] = inFile }) : null;
        }
        catch (JsonException broken)
        {
            throw new CommandException($"{path} is no JSON: {broken.Message.Split(" Path:")[0]}");
        }
    }

    [GeneratedRegex("[0-9]+")]
    private static partial Regex WholeNumber();

    [GeneratedRegex(@"([0-9]+)\s*:\s*(?:'((?:[^'\\]|\\.)*)'|""((?:[^""\\]|\\.)*)"")")]
    private static partial Regex Entry();

    [GeneratedRegex(@"'((?:[^'\\]|\\.)*)'|""((?:[^""\\]|\\.)*)""")]
    private static partial Regex Quoted();
}

using System.Text.Json;
using System.Text.Json.Nodes;
using TtaService.Engine.Answers;
using TtaService.Engine.Execution;
using TtaService.Serving.Models;

namespace TtaService.Host.Commands.Models;

/// <summary>A first <c>model.json</c>, and for people what each part was read from.</summary>
/// <param name="Manifest">The file's content.</param>
/// <param name="Notes">A line each.</param>
internal sealed record ManifestDraft(JsonObject Manifest, IReadOnlyList<string> Notes)
{
    /// <summary>Reads the graph, the metadata that ultralytics writes into the file, and the config.json that timm's models have beside them.</summary>
    public static ManifestDraft Of(AdaptiveModel model, string folder)
    {
        var notes = new List<string>();
        var manifest = new JsonObject();
        var metadata = new ExporterMetadata(model.Metadata);
        var timm = Timm(folder, metadata);
        var hasClasses = model.Answer.Kind is not (AnswerKind.Raw or AnswerKind.Embedding);
        if ((timm?.Labels ?? metadata.Names) is { } labels)
        {
            if (hasClasses && model.Answer.Classes is { } classes && classes != labels.Count)
            {
                notes.Add($"labels: the exporter names {labels.Count}, the graph gives {classes} classes, so none was taken");
            }
            else if (hasClasses)
            {
                manifest["labels"] = new JsonArray([.. labels.Select(label => (JsonNode)label)]);
                notes.Add($"labels: {labels.Count}, from the exporter");
            }
        }
        else if (hasClasses)
        {
            notes.Add("labels: not known; add one for each class, in the order of the outputs");
        }

        notes.Add($"answers {$"{model.Answer.Kind}".ToLowerInvariant()}: {model.Answer.Reason}");
        manifest["preprocessing"] = timm?.Preprocessing(model.InputShape, notes) ?? ExporterPreprocessing.Of(metadata, model.InputShape, notes) ?? Plain(model, notes);
        var outputs = new JsonArray();
        foreach (var output in model.Outputs)
        {
            var kind = JsonNamingPolicy.SnakeCaseLower.ConvertName($"{output.Kind}");
            outputs.Add(new JsonObject { ["name"] = output.Name, ["kind"] = kind });
            notes.Add($"output {output.Name}: {kind}, {output.Reason}");
        }

        manifest["outputs"] = outputs;
        if (model.Answer.HasBoxes)
        {
            manifest["detection"] = Detection(model.Answer.Detection, model.Answer.Find(OutputKind.Boxes) is not null);
        }

        manifest["default_method"] = new JsonObject { ["name"] = "source" };
        return new ManifestDraft(manifest, notes);
    }

    private static JsonObject Detection(DetectionSettings settings, bool hasUnit)
    {
        var detection = new JsonObject
        {
            ["score_threshold"] = settings.ScoreThreshold,
            ["iou_threshold"] = settings.IouThreshold,
            ["max_boxes"] = settings.MaxBoxes,
        };
        if (hasUnit && settings.Unit is { } unit)
        {
            detection["box_unit"] = $"{unit}".ToLowerInvariant();
        }

        if (settings.Keypoints is { } shape)
        {
            detection["keypoints"] = new JsonArray(shape.Points, shape.Values);
        }

        return detection;
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

    private static TimmConfig? Timm(string folder, ExporterMetadata metadata)
    {
        var path = Path.Combine(folder, "config.json");
        try
        {
            if (File.Exists(path) && JsonNode.Parse(File.ReadAllText(path)) is JsonObject config)
            {
                return TimmConfig.Read(config);
            }

            return TimmConfig.Of(metadata);
        }
        catch (JsonException broken)
        {
            throw new CommandException($"{path} is no JSON: {broken.Message.Split(" Path:")[0]}");
        }
    }
}

using System.Text.Json.Nodes;
using TtaService.Engine.Answers;
using TtaService.Serving.Frames;

namespace TtaService.Serving.Models;

/// <summary>How frames are preprocessed where model.json does not say and the exporter does, in model.json's words.</summary>
internal static class ExporterPreprocessing
{
    // ultralytics' own default.
    private const int UsualSide = 640;

    /// <summary>Null when the file's metadata say nothing of it.</summary>
    /// <param name="metadata">Of the file.</param>
    /// <param name="inputShape">[N,C,H,W], -1 for a free axis.</param>
    /// <param name="notes">Told where it comes from.</param>
    public static JsonObject? Of(ExporterMetadata metadata, IReadOnlyList<long> inputShape, List<string> notes)
    {
        if (!metadata.IsUltralytics)
        {
            return TimmConfig.Of(metadata)?.Preprocessing(inputShape, notes);
        }

        var size = inputShape is [_, _, > 0 and var height, > 0 and var width] ? ((int)height, (int)width) : metadata.ImageSize ?? (UsualSide, UsualSide);
        var channels = inputShape[1] == 1 ? 1 : 3;
        var preprocessing = metadata.Task == "classify"
            ? new JsonObject { ["resize"] = Math.Max(size.Item1, size.Item2), ["crop"] = Pair(size) }
            : new JsonObject { ["fit"] = "letterbox", ["resize"] = Pair(size), ["padding"] = (int)Letterbox.DefaultGrey };
        preprocessing["channels"] = channels == 1 ? "grey" : "rgb";
        preprocessing["mean"] = new JsonArray([.. Enumerable.Repeat(0, channels).Select(value => (JsonNode)value)]);
        preprocessing["std"] = new JsonArray([.. Enumerable.Repeat(1, channels).Select(value => (JsonNode)value)]);
        notes.Add(metadata.Task == "classify"
            ? $"preprocessing: ultralytics' for classifiers, {size.Item1}x{size.Item2}: shorter side, centre, pixels / 255"
            : $"preprocessing: ultralytics' for {metadata.Task ?? "detect"}, {size.Item1}x{size.Item2}: letterbox in grey 114, pixels / 255");
        return preprocessing;
    }

    private static JsonArray Pair((int Height, int Width) size) => new(size.Height, size.Width);
}

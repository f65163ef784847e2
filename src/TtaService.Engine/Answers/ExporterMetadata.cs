using System.Globalization;
using System.Text.Json;
using System.Text.Json.Nodes;
using System.Text.RegularExpressions;
using TtaService.Engine.Execution;

namespace TtaService.Engine.Answers;

/// <summary>What ultralytics (task, names, stride, imgsz, kpt_shape, end2end) and timm (pretrained_cfg) write into an ONNX file beside the graph.</summary>
/// <param name="properties">The file's metadata_props.</param>
internal sealed partial class ExporterMetadata(IReadOnlyDictionary<string, string> properties)
{
    /// <summary>Whether ultralytics, or YOLOv5 before it, wrote the file.</summary>
    public bool IsUltralytics => properties.ContainsKey("stride") && (properties.ContainsKey("names") || properties.ContainsKey("task"));

    /// <summary>ultralytics' task: detect, segment, pose, classify, obb; null where it is not named (YOLOv5).</summary>
    public string? Task => properties.GetValueOrDefault("task");

    /// <summary>Whether a detector's graph ends with its final boxes.</summary>
    public bool IsEndToEnd => properties.GetValueOrDefault("end2end") is "True" or "true";

    /// <summary>Class names by index, from a Python dictionary or list as Python prints it; null when there are none.</summary>
    public IReadOnlyList<string>? Names
    {
        get
        {
            if (!properties.TryGetValue("names", out var names))
            {
                return null;
            }

            var entries = Entry().Matches(names);
            var labels = entries.Count > 0
                ? entries.OrderBy(entry => int.Parse(entry.Groups[1].Value, CultureInfo.InvariantCulture)).Select(entry => Text(entry, 2)).ToList()
                : [.. Quoted().Matches(names).Select(entry => Text(entry, 1))];
            return labels.Count > 0 ? labels : null;

            static string Text(Match match, int group) => Regex.Unescape(match.Groups[group].Success ? match.Groups[group].Value : match.Groups[group + 1].Value);
        }
    }

    /// <summary>Points of a pose and the numbers of each; null when the file does not say.</summary>
    public (int Points, int Values)? KeypointShape => Numbers("kpt_shape") is [> 0 and <= 1024 and var points, >= 2 and <= 3 and var values] ? (points, values) : null;

    /// <summary>Height and width of the input; null when the file does not say.</summary>
    public (int Height, int Width)? ImageSize => Numbers("imgsz") switch
    {
        [var side] => (side, side),
        [var height, var width, ..] => (height, width),
        _ => null,
    };

    /// <summary>timm's configuration of a pretrained model; null when the file has none.</summary>
    public JsonObject? Timm
    {
        get
        {
            try
            {
                return properties.TryGetValue("pretrained_cfg", out var text) ? JsonNode.Parse(text) as JsonObject : null;
            }
            catch (JsonException)
            {
                return null;
            }
        }
    }

    /// <summary>How pixels become values of a floating point input; null when the file does not say.</summary>
    public InputNormalization? Normalization
    {
        get
        {
            if (IsUltralytics)
            {
                return new InputNormalization([0, 0, 0], [1, 1, 1]);
            }

            return Timm is { } timm && Floats(timm["mean"]) is { } mean && Floats(timm["std"]) is { } std && mean.Length == std.Length && !std.Contains(0)
                ? new InputNormalization(mean, std)
                : null;
        }
    }

    private static float[]? Floats(JsonNode? node) =>
        node is JsonArray { Count: 1 or 3 } list && list.All(value => value is JsonValue number && number.TryGetValue<float>(out _))
            ? [.. list.Select(value => (float)value!)]
            : null;

    private int[] Numbers(string key) => properties.TryGetValue(key, out var text)
        ? [.. WholeNumber().Matches(text).Select(match => int.TryParse(match.Value, CultureInfo.InvariantCulture, out var number) ? number : 0)]
        : [];

    [GeneratedRegex("[0-9]+")]
    private static partial Regex WholeNumber();

    [GeneratedRegex(@"([0-9]{1,9})\s*:\s*(?:'((?:[^'\\]|\\.)*)'|""((?:[^""\\]|\\.)*)"")")]
    private static partial Regex Entry();

    [GeneratedRegex(@"'((?:[^'\\]|\\.)*)'|""((?:[^""\\]|\\.)*)""")]
    private static partial Regex Quoted();
}

using System.Text.Json.Nodes;
using TtaService.Engine.Answers;

namespace TtaService.Serving.Models;

/// <summary>The part of timm's config.json (pretrained_cfg) that says how frames are preprocessed.</summary>
internal sealed class TimmConfig
{
    private readonly JsonObject _config;

    private TimmConfig(JsonObject config, IReadOnlyList<string>? labels) => (_config, Labels) = (config, labels);

    /// <summary>Class names by index; null when the file has none.</summary>
    public IReadOnlyList<string>? Labels { get; }

    /// <summary>Null when it is no timm configuration.</summary>
    public static TimmConfig? Read(JsonObject config) =>
        config["pretrained_cfg"] is JsonObject cfg && cfg["mean"] is JsonArray
            ? new TimmConfig(cfg, config["label_names"] is JsonArray names ? [.. names.Select(name => name?.ToString() ?? string.Empty)] : null)
            : null;

    /// <summary>What timm wrote into the model's file; null when it wrote nothing.</summary>
    public static TimmConfig? Of(ExporterMetadata metadata) => metadata.Timm is { } config ? Read(new JsonObject { ["pretrained_cfg"] = config }) : null;

    /// <summary>The same in model.json's words.</summary>
    /// <param name="inputShape">[N,C,H,W], -1 for a free axis.</param>
    /// <param name="notes">Told where it comes from.</param>
    public JsonObject Preprocessing(IReadOnlyList<long> inputShape, List<string> notes)
    {
        var size = inputShape is [_, _, > 0 and var fixedHeight, > 0 and var fixedWidth]
            ? (Height: (int)fixedHeight, Width: (int)fixedWidth)
            : _config["input_size"] is JsonArray { Count: 3 } shape ? (Height: (int)shape[1]!, Width: (int)shape[2]!) : (Height: 224, Width: 224);
        var mode = (string?)_config["crop_mode"] ?? "center";
        // timm scales the side by 1 / crop_pct, rounded down.
        var share = (double?)_config["crop_pct"] ?? 0.875;
        notes.Add($"preprocessing: timm's configuration, crop mode {mode}");
        var preprocessing = mode switch
        {
            "squash" => new JsonObject { ["fit"] = "stretch", ["resize"] = new JsonArray(size.Height, size.Width) },
            "border" => new JsonObject { ["fit"] = "letterbox", ["resize"] = new JsonArray(size.Height, size.Width), ["padding"] = 0 },
            _ => new JsonObject { ["resize"] = (int)Math.Floor(Math.Max(size.Height, size.Width) / share), ["crop"] = new JsonArray(size.Height, size.Width) },
        };
        preprocessing["interpolation"] = (string?)_config["interpolation"] is "bilinear" or "nearest" or "box" or "lanczos" ? (string?)_config["interpolation"] : "bicubic";
        preprocessing["channels"] = inputShape[1] == 1 ? "grey" : "rgb";
        preprocessing["mean"] = _config["mean"]!.DeepClone();
        preprocessing["std"] = _config["std"]?.DeepClone();
        return preprocessing;
    }
}

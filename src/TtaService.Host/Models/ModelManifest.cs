using System.Text.Json;
using System.Text.Json.Nodes;
using System.Text.Json.Serialization;
using TtaService.Engine.Onnx;
using TtaService.Host.Frames;

namespace TtaService.Host.Models;

/// <summary>A model's <c>model.json</c>: labels, preprocessing, default method, limits. Everything may be left out.</summary>
internal sealed record ModelManifest
{
    private static readonly JsonSerializerOptions Format = new()
    {
        PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower,
        UnmappedMemberHandling = JsonUnmappedMemberHandling.Disallow,
        ReadCommentHandling = JsonCommentHandling.Skip,
        AllowTrailingCommas = true,
    };

    /// <summary>Class names, by index.</summary>
    public IReadOnlyList<string> Labels { get; init; } = [];

    /// <summary>A text file in the model's folder with a class name a line; instead of <see cref="Labels"/>.</summary>
    public string? LabelsFile { get; init; }

    public PreprocessingEntry? Preprocessing { get; init; }

    public MethodEntry? DefaultMethod { get; init; }

    public LimitsEntry Limits { get; init; } = new();

    /// <summary>Reads a model folder's manifest; a folder without one has the defaults.</summary>
    /// <exception cref="ModelLoadException">Not JSON, an unknown key, or a value out of range; the message names the file and the key.</exception>
    public static ModelManifest Read(string folder)
    {
        var path = Path.Combine(folder, "model.json");
        if (!File.Exists(path))
        {
            return new ModelManifest();
        }

        try
        {
            var manifest = JsonSerializer.Deserialize<ModelManifest>(File.ReadAllText(path), Format) ?? throw new ModelLoadException($"{path} holds null; it must be an object");
            return manifest.Checked(path, folder);
        }
        catch (JsonException broken)
        {
            throw new ModelLoadException($"{path}{(broken.LineNumber is { } line ? $", line {line + 1}" : string.Empty)}: {Explain(broken)}", broken);
        }
    }

    private static string Explain(JsonException broken)
    {
        var quoted = broken.Message.Split('\'');
        return broken.Message.Contains("could not be mapped", StringComparison.Ordinal) && quoted.Length > 1
            ? $"'{quoted[1]}' is not a key of this object; labels, labels_file, preprocessing, default_method and limits are, with their own keys below them"
            : broken.Message.Split(" Path:")[0];
    }

    private ModelManifest Checked(string path, string folder)
    {
        var problems = new List<string>();
        var labels = Labels;
        if (LabelsFile is { } file)
        {
            var full = Path.Combine(folder, file);
            if (Path.GetFileName(file) != file || !File.Exists(full))
            {
                problems.Add($"labels_file is '{file}'; it must be the name of a file in {folder}");
            }
            else
            {
                labels = [.. File.ReadLines(full).Select(line => line.Trim()).Where(line => line.Length > 0)];
            }

            if (Labels.Count > 0)
            {
                problems.Add("labels and labels_file are both set; keep one");
            }
        }

        Preprocessing?.Check(problems);
        if (Limits.MaxFramesPerStep is < 1 or > 4096)
        {
            problems.Add($"limits.max_frames_per_step is {Limits.MaxFramesPerStep}; it must be 1 to 4096");
        }

        return problems.Count == 0 ? this with { Labels = labels } : throw new ModelLoadException($"{path}: {string.Join("; ", problems)}");
    }

    /// <summary>How a frame becomes the model's input.</summary>
    internal sealed record PreprocessingEntry
    {
        private const int MaxSide = 8192;

        /// <summary>The shorter side, or [height, width].</summary>
        public JsonNode? Resize { get; init; }

        /// <summary>The centre that the model takes: a side, or [height, width].</summary>
        public JsonNode? Crop { get; init; }

        /// <summary>nearest, box, bilinear, bicubic or lanczos.</summary>
        public string? Interpolation { get; init; }

        /// <summary>rgb, bgr or grey.</summary>
        public string? Channels { get; init; }

        /// <summary>Per channel, in 0 to 1 as torchvision's Normalize.</summary>
        public float[]? Mean { get; init; }

        /// <summary>Per channel, as torchvision's Normalize.</summary>
        public float[]? Std { get; init; }

        public bool ApplyExif { get; init; }

        public void Check(List<string> problems)
        {
            CheckSize("resize", Resize, problems);
            CheckSize("crop", Crop, problems);
            CheckName<Interpolation>("interpolation", Interpolation, problems);
            CheckName<ColorChannels>("channels", Channels, problems);
            if ((Mean is null) != (Std is null) || Mean?.Length != Std?.Length || Mean is { Length: not (1 or 3) })
            {
                problems.Add("preprocessing.mean and preprocessing.std go together, with one value a channel (1 or 3)");
            }
            else if (Mean is not null && Channels is not null && Enum.TryParse<ColorChannels>(Channels, ignoreCase: true, out var channels) && Mean.Length != (channels == ColorChannels.Grey ? 1 : 3))
            {
                problems.Add($"preprocessing.mean has {Mean.Length} values for channels {Channels}");
            }

            if (Mean?.Any(mean => !float.IsFinite(mean)) == true || Std?.Any(std => !(std > 0) || !float.IsFinite(std)) == true)
            {
                problems.Add("preprocessing.mean must be finite and preprocessing.std more than 0");
            }
        }

        /// <summary>The size in a node that <see cref="Check"/> has passed.</summary>
        public static (int Height, int Width)? Size(JsonNode? node) => node switch
        {
            JsonArray pair => ((int)pair[0]!, (int)pair[1]!),
            JsonValue side => ((int)side, (int)side),
            _ => null,
        };

        private static void CheckSize(string key, JsonNode? node, List<string> problems)
        {
            var sides = node switch
            {
                null => [],
                JsonArray { Count: 2 } pair => pair.ToArray(),
                JsonValue => [node],
                _ => [null],
            };
            if (!Array.TrueForAll(sides, side => side is JsonValue value && value.TryGetValue<int>(out var extent) && extent is >= 1 and <= MaxSide))
            {
                problems.Add($"preprocessing.{key} is {node?.ToJsonString()}; it must be a whole number or [height, width], each 1 to {MaxSide}");
            }
        }

        private static void CheckName<T>(string key, string? value, List<string> problems)
            where T : struct, Enum
        {
            var names = Enum.GetNames<T>().Select(name => name.ToLowerInvariant()).ToList();
            if (value is not null && !names.Contains(value))
            {
                problems.Add($"preprocessing.{key} is '{value}'; it must be {string.Join(", ", names)}");
            }
        }
    }

    /// <summary>A method as the wire names it.</summary>
    internal sealed record MethodEntry
    {
        public required string Name { get; init; }

        public JsonObject? Hyperparameters { get; init; }
    }

    /// <summary>What one request may ask of this model.</summary>
    internal sealed record LimitsEntry
    {
        /// <summary>Frames of a step; null for the server's limit (Batching:MaxFramesPerStep).</summary>
        public int? MaxFramesPerStep { get; init; }
    }
}

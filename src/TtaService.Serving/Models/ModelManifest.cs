using System.Globalization;
using System.Text.Json;
using System.Text.Json.Nodes;
using System.Text.Json.Serialization;
using TtaService.Engine.Answers;
using TtaService.Engine.Execution;
using TtaService.Engine.Onnx;
using TtaService.Serving.Frames;

namespace TtaService.Serving.Models;

/// <summary>A model's <c>model.json</c>: labels, preprocessing, default method, limits. Everything may be left out.</summary>
internal sealed record ModelManifest
{
    private static readonly JsonSerializerOptions Format = new()
    {
        PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower,
        UnmappedMemberHandling = JsonUnmappedMemberHandling.Disallow,
        AllowDuplicateProperties = false,
        RespectNullableAnnotations = true,
        ReadCommentHandling = JsonCommentHandling.Skip,
        AllowTrailingCommas = true,
    };

    /// <summary>Class names, by index.</summary>
    public IReadOnlyList<string> Labels { get; init; } = [];

    /// <summary>A text file in the model's folder with a class name a line; instead of <see cref="Labels"/>.</summary>
    public string? LabelsFile { get; init; }

    public PreprocessingEntry? Preprocessing { get; init; }

    /// <summary>What inputs beside the image are fed, where their names do not tell.</summary>
    public IReadOnlyList<InputEntry> Inputs { get; init; } = [];

    /// <summary>What outputs are, where the graph does not tell.</summary>
    public IReadOnlyList<OutputEntry> Outputs { get; init; } = [];

    /// <summary>How boxes are read, for a detector.</summary>
    public DetectionEntry Detection { get; init; } = new();

    public MethodEntry? DefaultMethod { get; init; }

    public LimitsEntry Limits { get; init; } = new();

    /// <summary>Reads a model folder's manifest; a folder without one has the defaults.</summary>
    /// <exception cref="ModelLoadException">Not JSON, an unknown key, or a value out of range; the message names the file and the key.</exception>
    public static ModelManifest Read(string folder)
    {
        var path = Path.Combine(folder, "model.json");
        if (!ModelFile.Exists(path))
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
        catch (ArgumentException twice)
        {
            // So says System.Text.Json about free-form objects, without the place.
            throw new ModelLoadException($"{path}: an object has a key twice; keep one ({twice.Message.Split(" (Parameter")[0]})", twice);
        }
        catch (Exception unreadable) when (unreadable is IOException or UnauthorizedAccessException)
        {
            throw new ModelLoadException($"{path} can't be read ({unreadable.Message}); let the server's user read it", unreadable);
        }
    }

    // The serializer's own texts name .NET types, which say nothing to whoever writes the file.
    private static string Explain(JsonException broken)
    {
        var message = broken.Message.Split(" Path:")[0];
        if (broken.InnerException is JsonException)
        {
            return $"not JSON: {message}";
        }

        var key = broken.Path is { Length: > 2 } path ? path[2..] : "the file";
        var quoted = message.Split('\'') is { Length: > 1 } parts ? parts[1] : key;
        return message switch
        {
            _ when message.Contains("could not be mapped", StringComparison.Ordinal) =>
                $"'{quoted}' is not a key of this object; labels, labels_file, preprocessing, inputs, outputs, detection, default_method and limits are, "
                    + "with their own keys below them",
            _ when message.StartsWith("Duplicate", StringComparison.Ordinal) => $"'{quoted}' is there twice; keep one",
            _ when message.Contains("missing required", StringComparison.Ordinal) && Beside(key) is { } beside =>
                $"{key} lacks its name or its {beside}; set {key}.name and {key}.{beside}",
            _ when message.Contains("missing required", StringComparison.Ordinal) => $"{key} lacks its name; set {key}.name",
            _ => $"{key} has a value of the wrong kind; labels is a list of texts, labels_file a text, inputs and outputs are lists of objects, preprocessing, "
                + "detection, default_method and limits are objects",
        };
    }

    // What an entry of a list needs beside its name.
    private static string? Beside(string key) =>
        key.StartsWith("outputs", StringComparison.Ordinal) ? "kind" : key.StartsWith("inputs", StringComparison.Ordinal) ? "values" : null;

    private ModelManifest Checked(string path, string folder)
    {
        var problems = new List<string>();
        var labels = Labels;
        if (LabelsFile is { } file)
        {
            labels = ReadLabels(Path.Combine(folder, file), file, problems);
            if (Labels.Count > 0)
            {
                problems.Add("labels and labels_file are both set; keep one");
            }
        }

        // Labels go by index: a gap would shift all that follow.
        var gap = labels.TakeWhile(label => !string.IsNullOrWhiteSpace(label)).Count();
        if (gap < labels.Count)
        {
            problems.Add(LabelsFile is null ? $"labels[{gap}] is empty; every class has a name" : $"line {gap + 1} of {LabelsFile} is empty; every class has a name");
        }

        Preprocessing?.Check(problems);
        CheckInputs(problems);
        CheckOutputs(problems);
        Detection.Check(problems);
        if (Limits.MaxFramesPerStep is < 1 or > 4096)
        {
            problems.Add($"limits.max_frames_per_step is {Limits.MaxFramesPerStep}; it must be 1 to 4096");
        }

        return problems.Count == 0 ? this with { Labels = labels } : throw new ModelLoadException($"{path}: {string.Join("; ", problems)}");
    }

    private void CheckInputs(List<string> problems)
    {
        foreach (var input in Inputs.Where(input => input.Terms is null))
        {
            problems.Add($"inputs: the values of '{input.Name}' are {input.Values.ToJsonString()}; each must be a number, \"height\" or \"width\", 64 at most");
        }

        if (Inputs.GroupBy(input => input.Name).FirstOrDefault(entries => entries.Count() > 1) is { } twice)
        {
            problems.Add($"inputs names '{twice.Key}' twice; keep one");
        }
    }

    private void CheckOutputs(List<string> problems)
    {
        foreach (var output in Outputs)
        {
            if (!OutputEntry.Kinds.ContainsKey(output.Kind))
            {
                problems.Add($"outputs: the kind of '{output.Name}' is '{output.Kind}'; it must be {string.Join(", ", OutputEntry.Kinds.Keys)}");
            }
        }

        if (Outputs.GroupBy(output => output.Name).FirstOrDefault(entries => entries.Count() > 1) is { } twice)
        {
            problems.Add($"outputs names '{twice.Key}' twice; keep one");
        }
    }

    // By the names that the file uses.
    private static Dictionary<string, T> Named<T>()
        where T : struct, Enum => Enum.GetValues<T>().ToDictionary(value => JsonNamingPolicy.SnakeCaseLower.ConvertName($"{value}"));

    private static void CheckName<T>(string key, string? value, List<string> problems)
        where T : struct, Enum
    {
        var names = Named<T>().Keys;
        if (value is not null && !names.Contains(value))
        {
            problems.Add($"{key} is '{value}'; it must be {string.Join(", ", names)}");
        }
    }

    private static string[] ReadLabels(string path, string file, List<string> problems)
    {
        if (Path.GetFileName(file) != file || !ModelFile.Exists(path))
        {
            problems.Add($"labels_file is '{file}'; it must be the name of a file in the model's folder");
            return [];
        }

        return File.ReadAllText(path).TrimEnd().Split('\n', StringSplitOptions.TrimEntries);
    }

    /// <summary>How a frame becomes the model's input.</summary>
    internal sealed record PreprocessingEntry
    {
        private const int MaxSide = 8192;
        private const float MinStd = 1e-6f;
        private const float MaxFactor = 1e6f;

        /// <summary>The shorter side, or [height, width].</summary>
        public JsonNode? Resize { get; init; }

        /// <summary>The centre that the model takes: a side, or [height, width].</summary>
        public JsonNode? Crop { get; init; }

        /// <summary>nearest, box, bilinear, bicubic or lanczos.</summary>
        public string? Interpolation { get; init; }

        /// <summary>rgb, bgr or grey.</summary>
        public string? Channels { get; init; }

        /// <summary>Per channel in the order of <see cref="Channels"/>, 0 to 1 as torchvision's Normalize.</summary>
        public float[]? Mean { get; init; }

        /// <summary>Per channel in the order of <see cref="Channels"/>, more than 0 and at most 1 as torchvision's Normalize.</summary>
        public float[]? Std { get; init; }

        /// <summary>crop (the centre of the resized picture), stretch (all of it, whatever its shape), or letterbox (all of it in its shape, with bars).</summary>
        public string? Fit { get; init; }

        /// <summary>Colour of letterbox's bars: 0 to 255, or [red, green, blue].</summary>
        public JsonNode? Padding { get; init; }

        /// <summary>Where letterbox puts the picture: center or top_left.</summary>
        public string? Align { get; init; }

        /// <summary>Instead of mean and std: the input is pixel (0 to 255) * scale + offset; a number, or one a channel in the order of <see cref="Channels"/>.</summary>
        public JsonNode? Scale { get; init; }

        /// <summary>See <see cref="Scale"/>.</summary>
        public JsonNode? Offset { get; init; }

        /// <summary>nchw or nhwc, where the input's shape does not tell.</summary>
        public string? Layout { get; init; }

        public bool ApplyExif { get; init; }

        /// <summary>From an object in this file's words that a program made.</summary>
        public static PreprocessingEntry From(JsonObject made) => made.Deserialize<PreprocessingEntry>(Format)!;

        public void Check(List<string> problems)
        {
            CheckName<Fit>("preprocessing.fit", Fit, problems);
            CheckName<InputLayout>("preprocessing.layout", Layout, problems);
            if (Align is not (null or "center" or "top_left"))
            {
                problems.Add($"preprocessing.align is '{Align}'; it must be center or top_left");
            }

            if (Fit != "letterbox" && (Padding is not null || Align is not null))
            {
                problems.Add("preprocessing.padding and preprocessing.align are letterbox's; set preprocessing.fit to letterbox, or leave them out");
            }

            if (Fit == "crop" && Resize is JsonArray)
            {
                problems.Add("preprocessing.resize is [height, width], which leaves no shape to keep; with fit crop it is the shorter side, or set fit to stretch");
            }

            CheckNumbers("padding", Padding, 0, byte.MaxValue, problems);
            CheckNumbers("scale", Scale, -MaxFactor, MaxFactor, problems);
            CheckNumbers("offset", Offset, -MaxFactor, MaxFactor, problems);
            if (Numbers(Scale) is { } factors && factors.Contains(0))
            {
                problems.Add("preprocessing.scale is 0, which makes all pixels alike");
            }

            if ((Scale ?? Offset) is not null && (Mean is not null || Std is not null))
            {
                problems.Add("preprocessing has scale or offset and mean or std; keep one pair: (pixel / 255 - mean) / std, or pixel * scale + offset");
            }

            CheckSize("resize", Resize, problems);
            CheckSize("crop", Crop, problems);
            CheckName<Interpolation>("preprocessing.interpolation", Interpolation, problems);
            CheckName<ColorChannels>("preprocessing.channels", Channels, problems);
            if ((Mean is null) != (Std is null) || Mean?.Length != Std?.Length || Mean is { Length: not (1 or 3) })
            {
                problems.Add("preprocessing.mean and preprocessing.std go together, with one value a channel (1 or 3)");
            }
            else if (Mean is not null && Channels is not null
                && Enum.TryParse<ColorChannels>(Channels, ignoreCase: true, out var channels) && Mean.Length != (channels == ColorChannels.Grey ? 1 : 3))
            {
                problems.Add($"preprocessing.mean has {Mean.Length} values for channels {Channels}");
            }

            CheckRange("mean", Mean, 0, problems);
            CheckRange("std", Std, MinStd, problems);
        }

        /// <summary>The size in a node that <see cref="Check"/> has passed.</summary>
        public static (int Height, int Width)? Size(JsonNode? node) => node switch
        {
            JsonArray pair => ((int)pair[0]!, (int)pair[1]!),
            JsonValue side => ((int)side, (int)side),
            _ => null,
        };

        /// <summary>A number or a list of them in a node; null for anything else.</summary>
        public static float[]? Numbers(JsonNode? node)
        {
            var values = node switch
            {
                JsonArray { Count: 1 or 3 } list => list.ToArray(),
                JsonValue => [node],
                _ => [],
            };
            var numbers = Array.ConvertAll(values, value => value is JsonValue number && number.TryGetValue<float>(out var read) ? read : float.NaN);
            return numbers.Length > 0 && !numbers.Any(float.IsNaN) ? numbers : null;
        }

        private static void CheckNumbers(string key, JsonNode? node, float smallest, float largest, List<string> problems)
        {
            if (node is not null && (Numbers(node) is not { } numbers || Array.Exists(numbers, number => !(number >= smallest && number <= largest))))
            {
                problems.Add(string.Create(
                    CultureInfo.InvariantCulture,
                    $"preprocessing.{key} is {node.ToJsonString()}; it must be a number or one a channel (1 or 3), each {smallest:0} to {largest:0}"));
            }
        }

        private static void CheckRange(string key, float[]? values, float smallest, List<string> problems)
        {
            foreach (var value in values ?? [])
            {
                if (!(value >= smallest && value <= 1))
                {
                    problems.Add($"preprocessing.{key} has {value.ToString(CultureInfo.InvariantCulture)}; "
                        + $"it must be {smallest.ToString(CultureInfo.InvariantCulture)} to 1, as torchvision's Normalize on pixels of 0 to 1 (divide values for pixels of 0 to "
                            + "255 by 255, or set scale and offset)");
                }
            }
        }

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
    }

    /// <summary>What an input beside the image is fed.</summary>
    internal sealed record InputEntry
    {
        private const int MostValues = 64;

        /// <summary>The input's name in the graph.</summary>
        public required string Name { get; init; }

        /// <summary>Numbers, <c>height</c> or <c>width</c> of the image input.</summary>
        public required JsonArray Values { get; init; }

        /// <summary>The same; null when one is none of them.</summary>
        [JsonIgnore]
        public IReadOnlyList<InputTerm>? Terms
        {
            get
            {
                InputTerm?[] terms = [.. Values.Select(Term)];
                return terms.Length is >= 1 and <= MostValues && terms.All(term => term is not null) ? [.. terms.Select(term => term!.Value)] : null;
            }
        }

        private static InputTerm? Term(JsonNode? node) => node switch
        {
            JsonValue value when value.TryGetValue<float>(out var number) && float.IsFinite(number) => new InputTerm(InputQuantity.Constant, number),
            JsonValue value when value.TryGetValue<string>(out var name) && name == "height" => new InputTerm(InputQuantity.Height),
            JsonValue value when value.TryGetValue<string>(out var name) && name == "width" => new InputTerm(InputQuantity.Width),
            _ => null,
        };
    }

    /// <summary>What an output is.</summary>
    internal sealed record OutputEntry
    {
        /// <summary>By the names that the file uses.</summary>
        public static IReadOnlyDictionary<string, OutputKind> Kinds { get; } = Named<OutputKind>();

        /// <summary>The output's name in the graph.</summary>
        public required string Name { get; init; }

        public required string Kind { get; init; }
    }

    /// <summary>How boxes are read from a detector's outputs; what is not set has <see cref="DetectionSettings"/>'s default.</summary>
    internal sealed record DetectionEntry
    {
        public float? ScoreThreshold { get; init; }

        public float? IouThreshold { get; init; }

        public int? MaxBoxes { get; init; }

        public int? MaxCandidates { get; init; }

        public bool ClassAgnostic { get; init; }

        /// <summary>corners, center_size, corner_size or corners_y_first.</summary>
        public string? BoxForm { get; init; }

        /// <summary>pixels or fractions.</summary>
        public string? BoxUnit { get; init; }

        /// <summary>The index of the class that stands for nothing.</summary>
        public int? Background { get; init; }

        /// <summary>[points, numbers of each].</summary>
        public int[]? Keypoints { get; init; }

        /// <summary>As the engine takes it.</summary>
        public DetectionSettings Settings
        {
            get
            {
                var defaults = new DetectionSettings();
                return defaults with
                {
                    ScoreThreshold = ScoreThreshold ?? defaults.ScoreThreshold,
                    IouThreshold = IouThreshold ?? defaults.IouThreshold,
                    MaxBoxes = MaxBoxes ?? defaults.MaxBoxes,
                    MaxCandidates = MaxCandidates ?? defaults.MaxCandidates,
                    ClassAgnostic = ClassAgnostic,
                    Form = BoxForm is null ? null : Named<BoxForm>()[BoxForm],
                    Unit = BoxUnit is null ? null : Named<BoxUnit>()[BoxUnit],
                    Background = Background,
                    Keypoints = Keypoints is [var points, var values] ? (points, values) : null,
                };
            }
        }

        public void Check(List<string> problems)
        {
            CheckShare("score_threshold", ScoreThreshold, problems);
            CheckShare("iou_threshold", IouThreshold, problems);
            CheckCount("max_boxes", MaxBoxes, 1, DetectionSettings.MostBoxes, problems);
            CheckCount("max_candidates", MaxCandidates, 1, DetectionSettings.MostCandidates, problems);
            CheckCount("background", Background, 0, ushort.MaxValue, problems);
            CheckName<BoxForm>("detection.box_form", BoxForm, problems);
            CheckName<BoxUnit>("detection.box_unit", BoxUnit, problems);
            if (Keypoints is not (null or [>= 1 and <= 1024, 2 or 3]))
            {
                problems.Add($"detection.keypoints is [{string.Join(", ", Keypoints)}]; it must be [points, numbers of each]: 1 to 1024 and 2 (x, y) or 3 (x, y, score)");
            }
        }

        private static void CheckShare(string key, float? value, List<string> problems)
        {
            if (value is { } given && !(given is >= 0 and <= 1))
            {
                problems.Add(string.Create(CultureInfo.InvariantCulture, $"detection.{key} is {given}; it must be 0 to 1"));
            }
        }

        private static void CheckCount(string key, int? value, int least, int most, List<string> problems)
        {
            if (value is { } given && (given < least || given > most))
            {
                problems.Add(string.Create(CultureInfo.InvariantCulture, $"detection.{key} is {given}; it must be {least} to {most}"));
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

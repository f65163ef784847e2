using System.Globalization;
using System.Text.Json;
using System.Text.Json.Nodes;
using TtaService.Engine.Answers;
using TtaService.Engine.Calibration;
using TtaService.Engine.Execution;
using TtaService.Engine.Normalization;
using TtaService.Engine.Onnx;
using TtaService.Serving.Frames;

namespace TtaService.Serving.Models;

/// <summary>A model of the repository: a folder with <c>model.onnx</c> and, unless all defaults fit, <c>model.json</c>.</summary>
internal sealed class ModelFolder
{
    private readonly ModelManifest _manifest;

    private ModelFolder(string name, string path, ModelManifest manifest)
    {
        Name = name;
        FolderPath = path;
        _manifest = manifest;
    }

    public string Name { get; }

    /// <summary>Where the files of the version in force lie.</summary>
    public string FolderPath { get; }

    /// <summary>Its version: the number of the version's folder; 1 for a model without such folders.</summary>
    public long Version { get; private init; } = 1;

    public string OnnxPath => Path.Combine(FolderPath, "model.onnx");

    /// <summary>The model's calibration; null when it was not calibrated.</summary>
    /// <exception cref="ModelLoadException">It is a link that leads out of the folder.</exception>
    public string? CalibrationPath => Path.Combine(FolderPath, ModelCalibration.FileName) is var path && ModelFile.Exists(path) ? path : null;

    /// <summary>Class names by index as model.json has them; empty when it has none.</summary>
    public IReadOnlyList<string> Labels => _manifest.Labels;

    /// <summary>Frames of a step, when the model has a limit of its own.</summary>
    public int? MaxFramesPerStep => _manifest.Limits.MaxFramesPerStep;

    /// <summary>How pixels become input values; ImageNet's when model.json says nothing, which holds for graphs that take floating point.</summary>
    public InputNormalization InputNormalization => DeclaredNormalization ?? InputNormalization.ImageNet;

    /// <summary>How the folder's graph is to be loaded.</summary>
    public AdaptiveModelOptions LoadOptions => new()
    {
        InputNormalization = DeclaredNormalization,
        Layout = _manifest.Preprocessing?.Layout is { } layout ? Enum.Parse<InputLayout>(layout, ignoreCase: true) : null,
        SideInputs = _manifest.Inputs.ToDictionary(input => input.Name, input => input.Terms!),
        OutputKinds = _manifest.Outputs.ToDictionary(output => output.Name, output => ModelManifest.OutputEntry.Kinds[output.Kind]),
        Labels = Labels.Count > 0 ? Labels.Count : null,
        Detection = _manifest.Detection.Settings,
        FrameSize = FrameSize,
        CalibrationPath = CalibrationPath,
    };

    private InputNormalization? DeclaredNormalization
    {
        get
        {
            if (_manifest.Preprocessing is { Mean: { } mean, Std: { } std })
            {
                return new InputNormalization(mean, std);
            }

            if (_manifest.Preprocessing is not { } entry || (entry.Scale ?? entry.Offset) is null)
            {
                return null;
            }

            var scale = ModelManifest.PreprocessingEntry.Numbers(entry.Scale) ?? [1];
            var offset = ModelManifest.PreprocessingEntry.Numbers(entry.Offset) ?? [0];
            // A single number is every channel's; the engine knows how many the graph has when model.json does not say.
            var channels = Math.Max(entry.Channels is null or "grey" ? 1 : 3, Math.Max(scale.Length, offset.Length));
            return InputNormalization.Scaled(Broadcast(scale, channels), Broadcast(offset, channels));
        }
    }

    /// <summary>Height and width of the frames that preprocessing makes for a model that leaves its input's size open; null when model.json leaves it open, too.</summary>
    public (int Height, int Width)? FrameSize
    {
        get
        {
            try
            {
                return Preprocessing([-1, -1, -1, -1]).Crop;
            }
            catch (ModelLoadException)
            {
                // Loading says what is wrong, with the model's own input.
                return null;
            }
        }
    }

    /// <summary>Reads a model folder. Where it holds folders named 1, 2, …, as Triton's repositories do, the highest with a model.onnx is the version in force; it has a
    /// model.json of its own, or the model's.</summary>
    /// <exception cref="ModelLoadException">No model.onnx in it, a link instead of a file, or a wrong model.json.</exception>
    public static ModelFolder Read(string path)
    {
        var full = Path.GetFullPath(path);
        var name = Path.GetFileName(full);
        if (ModelFile.Exists(Path.Combine(full, "model.onnx")))
        {
            return new ModelFolder(name, full, ModelManifest.Read(full));
        }

        var versions = Versions(full).Where(version => ModelFile.Exists(Path.Combine(version.Path, "model.onnx")));
        if (versions.OrderByDescending(version => version.Number).FirstOrDefault() is { Path: { } newest, Number: var number })
        {
            var manifest = ModelManifest.Read(ModelFile.Exists(Path.Combine(newest, "model.json")) ? newest : full);
            return new ModelFolder(name, newest, manifest) { Version = number };
        }

        throw new ModelLoadException($"{full} holds no model.onnx; a model is a folder with model.onnx and model.json, or with folders 1, 2, … for its versions");
    }

    private static IEnumerable<(string Path, long Number)> Versions(string folder) => Directory.EnumerateDirectories(folder)
        .Select(path => (path, Number: long.TryParse(Path.GetFileName(path), NumberStyles.None, CultureInfo.InvariantCulture, out var number) ? number : 0))
        .Where(version => version.Number > 0 && Path.GetFileName(version.path)[0] != '0' && new DirectoryInfo(version.path).LinkTarget is null);

    /// <summary>A folder of defaults for a graph that lies in none.</summary>
    public static ModelFolder Of(string onnxPath)
    {
        var full = Path.GetFullPath(onnxPath);
        var folder = Path.GetDirectoryName(full)!;
        return new ModelFolder(Path.GetFileName(folder), folder, new ModelManifest());
    }

    /// <summary>The method of streams that name none: model.json's, or auto on a calibrated model, or source, which harms no camera.</summary>
    /// <exception cref="ModelLoadException">model.json names a method that does not exist, or that this model can't run.</exception>
    public MethodSettings DefaultMethod(AdaptiveModel model)
    {
        if (_manifest.DefaultMethod is not { } entry)
        {
            return model.Methods.Settings(model.Sites.Count > 0 && model.Calibration is not null ? "auto" : "source");
        }

        try
        {
            var method = model.Methods.Settings(entry.Name, entry.Hyperparameters);
            return model.WhyUnavailable(method) is { } reason ? throw new MethodSettingsException(reason) : method;
        }
        catch (MethodSettingsException wrong)
        {
            throw new ModelLoadException($"{Path.Combine(FolderPath, "model.json")}: default_method: {wrong.Message}", wrong);
        }
    }

    /// <summary>Class names by index: model.json's, else the exporter's where they are as many as the model's classes; empty when there are none.</summary>
    public IReadOnlyList<string> LabelsOf(AdaptiveModel model) => Labels.Count > 0 ? Labels
        : new ExporterMetadata(model.Metadata).Names is { } names && (model.Answer.Classes is { } classes ? names.Count == classes : model.Answer.HasBoxes) ? names : [];

    /// <summary>The preprocessing for a model with this input.</summary>
    /// <remarks>Without a word in model.json: what the exporter wrote into the file, else torchvision's evaluation transform (shorter side 256, centre 224) for inputs of 224
    /// or of free size, an exact resize for any other
    /// fixed size.</remarks>
    /// <exception cref="ModelLoadException">model.json and the model's input contradict each other, or leave the size open.</exception>
    public Preprocessing Preprocessing(AdaptiveModel model) => Preprocessing(model.InputShape, model.InputNormalization, new ExporterMetadata(model.Metadata));

    /// <inheritdoc cref="Preprocessing(AdaptiveModel)"/>
    /// <param name="inputShape">[N,C,H,W], -1 for a free axis.</param>
    /// <param name="normalization">In force; model.json's when not given.</param>
    /// <param name="metadata">What the exporter wrote; null for nothing.</param>
    public Preprocessing Preprocessing(IReadOnlyList<long> inputShape, InputNormalization? normalization = null, ExporterMetadata? metadata = null)
    {
        normalization ??= InputNormalization;
        var entry = _manifest.Preprocessing
            ?? (metadata is not null && ExporterPreprocessing.Of(metadata, inputShape, []) is { } made
                ? ModelManifest.PreprocessingEntry.From(made)
                : new ModelManifest.PreprocessingEntry());
        var problem = $"{Path.Combine(FolderPath, "model.json")}: ";
        var channels = entry.Channels is { } named
            ? Enum.Parse<ColorChannels>(named, ignoreCase: true)
            : inputShape[1] == 1 || (inputShape[1] < 0 && normalization.Mean.Length == 1) ? ColorChannels.Grey : ColorChannels.Rgb;
        var count = channels == ColorChannels.Grey ? 1 : 3;
        if (inputShape[1] >= 0 && inputShape[1] != count)
        {
            throw new ModelLoadException($"{problem}the model takes {inputShape[1]} channels, frames have {count} (preprocessing.channels); "
                + "only models of 1 or 3 channels take images");
        }

        if (normalization.Mean.Length != count)
        {
            throw new ModelLoadException($"{problem}set preprocessing.mean and preprocessing.std with {count} value{(count == 1 ? string.Empty : "s")}, "
                + "those that the model was trained with");
        }

        (int Height, int Width)? input = inputShape[2] > 0 && inputShape[3] > 0 ? ((int)inputShape[2], (int)inputShape[3]) : null;
        var fit = entry.Fit is { } way ? Enum.Parse<Fit>(way, ignoreCase: true) : (Fit?)null;
        var resize = ModelManifest.PreprocessingEntry.Size(entry.Resize);
        var crop = ModelManifest.PreprocessingEntry.Size(entry.Crop);
        if (fit is Fit.Stretch or Fit.Letterbox)
        {
            // All of the picture is shown, so there is one size.
            resize ??= crop ?? input ?? throw new ModelLoadException($"{problem}the model's input leaves the size open; set preprocessing.resize to [height, width]");
            crop ??= resize;
            if (crop != resize)
            {
                throw new ModelLoadException($"{problem}preprocessing.fit {entry.Fit} shows the whole picture, but crop and resize differ; leave crop out");
            }
        }

        var exact = entry.Resize is JsonArray || fit == Fit.Stretch ? resize : null;
        var shorter = entry.Resize is JsonValue && fit is null or Fit.Crop ? resize?.Height : null;
        if (resize is null && crop is null)
        {
            var isTorchvision = fit is null && input is null or { Height: 224, Width: 224 };
            shorter = isTorchvision ? 256 : null;
            exact = isTorchvision ? null : input;
            crop = isTorchvision ? (224, 224) : input;
        }

        crop ??= exact ?? input ?? throw new ModelLoadException($"{problem}preprocessing.resize leaves the longer side open; set preprocessing.crop, or resize to [height, width]");
        if (!Fits(inputShape[2], crop.Value.Height) || !Fits(inputShape[3], crop.Value.Width))
        {
            throw new ModelLoadException($"{problem}preprocessing gives {crop.Value.Height}x{crop.Value.Width} (height x width), "
                + $"the model takes {Extent(inputShape[2])}x{Extent(inputShape[3])}; set preprocessing.crop");
        }

        // The longer side depends on the frame, so only the shorter one is known to be too short here.
        if ((exact is { } size && (size.Height < crop.Value.Height || size.Width < crop.Value.Width)) || shorter < Math.Min(crop.Value.Height, crop.Value.Width))
        {
            throw new ModelLoadException($"{problem}preprocessing.crop is larger than preprocessing.resize");
        }

        return new Preprocessing
        {
            ShorterSide = shorter,
            ExactSize = fit == Fit.Letterbox ? null : exact,
            Letterbox = fit == Fit.Letterbox ? Letterbox(entry) : null,
            Crop = crop.Value,
            Channels = channels,
            Interpolation = entry.Interpolation is { } filter ? Enum.Parse<Interpolation>(filter, ignoreCase: true) : Interpolation.Bilinear,
            ApplyExif = entry.ApplyExif,
        };

        static bool Fits(long expected, int actual) => expected < 1 || expected == actual;

        static string Extent(long extent) => extent < 1 ? "any" : extent.ToString(CultureInfo.InvariantCulture);
    }

    /// <summary>The preprocessing in force, for clients that do it themselves.</summary>
    public static JsonObject Describe(Preprocessing preprocessing, AdaptiveModel model)
    {
        var normalization = model.InputNormalization;
        var described = new JsonObject
        {
            ["crop"] = new JsonArray(preprocessing.Crop.Height, preprocessing.Crop.Width),
            ["interpolation"] = preprocessing.Interpolation.ToString().ToLowerInvariant(),
            ["channels"] = preprocessing.Channels.ToString().ToLowerInvariant(),
            ["apply_exif"] = preprocessing.ApplyExif,
        };
        if (normalization.Scale is null)
        {
            described["mean"] = JsonSerializer.SerializeToNode(normalization.Mean);
            described["std"] = JsonSerializer.SerializeToNode(normalization.Std);
        }
        else
        {
            described["scale"] = JsonSerializer.SerializeToNode(normalization.Scale);
            described["offset"] = JsonSerializer.SerializeToNode(normalization.Offset);
        }

        if (preprocessing.Letterbox is { } letterbox)
        {
            described["fit"] = "letterbox";
            described["padding"] = new JsonArray(letterbox.Red, letterbox.Green, letterbox.Blue);
            described["align"] = letterbox.TopLeft ? "top_left" : "center";
        }

        if (preprocessing.ExactSize is { } exact)
        {
            described["resize"] = new JsonArray(exact.Height, exact.Width);
        }
        else if (preprocessing.ShorterSide is { } shorter)
        {
            described["resize"] = shorter;
        }

        return described;
    }

    private static Letterbox Letterbox(ModelManifest.PreprocessingEntry entry)
    {
        var colour = Array.ConvertAll(Broadcast(ModelManifest.PreprocessingEntry.Numbers(entry.Padding) ?? [Frames.Letterbox.DefaultGrey], 3), value => (byte)value);
        return new Letterbox(colour[0], colour[1], colour[2], entry.Align == "top_left");
    }

    private static float[] Broadcast(float[] values, int channels) => values.Length == 1 ? [.. Enumerable.Repeat(values[0], channels)] : values;
}

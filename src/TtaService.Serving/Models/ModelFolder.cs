using System.Globalization;
using System.Text.Json;
using System.Text.Json.Nodes;
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

    private ModelFolder(string path, ModelManifest manifest)
    {
        Name = Path.GetFileName(path);
        FolderPath = path;
        _manifest = manifest;
    }

    public string Name { get; }

    public string FolderPath { get; }

    public string OnnxPath => Path.Combine(FolderPath, "model.onnx");

    /// <summary>The model's calibration; null when it was not calibrated.</summary>
    /// <exception cref="ModelLoadException">It is a link that leads out of the folder.</exception>
    public string? CalibrationPath => Path.Combine(FolderPath, ModelCalibration.FileName) is var path && ModelFile.Exists(path) ? path : null;

    public IReadOnlyList<string> Labels => _manifest.Labels;

    /// <summary>Frames of a step, when the model has a limit of its own.</summary>
    public int? MaxFramesPerStep => _manifest.Limits.MaxFramesPerStep;

    /// <summary>How pixels become input values; ImageNet's when model.json says nothing.</summary>
    public InputNormalization InputNormalization => _manifest.Preprocessing is { Mean: { } mean, Std: { } std } ? new InputNormalization(mean, std) : InputNormalization.ImageNet;

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

    /// <summary>Reads a model folder.</summary>
    /// <exception cref="ModelLoadException">No model.onnx in it, a link instead of a file, or a wrong model.json.</exception>
    public static ModelFolder Read(string path)
    {
        var full = Path.GetFullPath(path);
        if (!ModelFile.Exists(Path.Combine(full, "model.onnx")))
        {
            throw new ModelLoadException($"{full} holds no model.onnx; a model is a folder with model.onnx and model.json");
        }

        return new ModelFolder(full, ModelManifest.Read(full));
    }

    /// <summary>The method of streams that name none: model.json's, or auto on a calibrated model, or adaptive where the model has sites to adapt.</summary>
    /// <exception cref="ModelLoadException">model.json names a method that does not exist, or that this model can't run.</exception>
    public MethodSettings DefaultMethod(AdaptiveModel model)
    {
        if (_manifest.DefaultMethod is not { } entry)
        {
            return MethodSettings.Create(model.Sites.Count == 0 ? "source" : model.Calibration is null ? "adaptive" : "auto");
        }

        try
        {
            var method = MethodSettings.Create(entry.Name, entry.Hyperparameters);
            return model.WhyUnavailable(method) is { } reason ? throw new MethodSettingsException(reason) : method;
        }
        catch (MethodSettingsException wrong)
        {
            throw new ModelLoadException($"{Path.Combine(FolderPath, "model.json")}: default_method: {wrong.Message}", wrong);
        }
    }

    /// <summary>The preprocessing for a model with this input.</summary>
    /// <remarks>Without a word in model.json: torchvision's evaluation transform (shorter side 256, centre 224) for inputs of 224 or of free size, an exact resize for any other fixed size.</remarks>
    /// <param name="inputShape">[N,C,H,W], -1 for a free axis.</param>
    /// <exception cref="ModelLoadException">model.json and the model's input contradict each other, or leave the size open.</exception>
    public Preprocessing Preprocessing(IReadOnlyList<long> inputShape)
    {
        var entry = _manifest.Preprocessing ?? new ModelManifest.PreprocessingEntry();
        var problem = $"{Path.Combine(FolderPath, "model.json")}: ";
        var channels = entry.Channels is { } named
            ? Enum.Parse<ColorChannels>(named, ignoreCase: true)
            : inputShape[1] == 1 || (inputShape[1] < 0 && InputNormalization.Mean.Length == 1) ? ColorChannels.Grey : ColorChannels.Rgb;
        var count = channels == ColorChannels.Grey ? 1 : 3;
        if (inputShape[1] >= 0 && inputShape[1] != count)
        {
            throw new ModelLoadException($"{problem}the model takes {inputShape[1]} channels, frames have {count} (preprocessing.channels); only models of 1 or 3 channels take images");
        }

        if (InputNormalization.Mean.Length != count)
        {
            throw new ModelLoadException($"{problem}set preprocessing.mean and preprocessing.std with {count} value{(count == 1 ? string.Empty : "s")}, those that the model was trained with");
        }

        (int Height, int Width)? input = inputShape[2] > 0 && inputShape[3] > 0 ? ((int)inputShape[2], (int)inputShape[3]) : null;
        var resize = ModelManifest.PreprocessingEntry.Size(entry.Resize);
        var exact = entry.Resize is JsonArray ? resize : null;
        var shorter = entry.Resize is JsonValue ? resize?.Height : null;
        var crop = ModelManifest.PreprocessingEntry.Size(entry.Crop);
        if (resize is null && crop is null)
        {
            var isTorchvision = input is null or { Height: 224, Width: 224 };
            shorter = isTorchvision ? 256 : null;
            exact = isTorchvision ? null : input;
            crop = isTorchvision ? (224, 224) : input;
        }

        crop ??= exact ?? input ?? throw new ModelLoadException($"{problem}preprocessing.resize leaves the longer side open; set preprocessing.crop, or resize to [height, width]");
        if (!Fits(inputShape[2], crop.Value.Height) || !Fits(inputShape[3], crop.Value.Width))
        {
            throw new ModelLoadException($"{problem}preprocessing gives {crop.Value.Height}x{crop.Value.Width} (height x width), the model takes {Extent(inputShape[2])}x{Extent(inputShape[3])}; set preprocessing.crop");
        }

        // The longer side depends on the frame, so only the shorter one is known to be too short here.
        if ((exact is { } size && (size.Height < crop.Value.Height || size.Width < crop.Value.Width)) || shorter < Math.Min(crop.Value.Height, crop.Value.Width))
        {
            throw new ModelLoadException($"{problem}preprocessing.crop is larger than preprocessing.resize");
        }

        return new Preprocessing
        {
            ShorterSide = shorter,
            ExactSize = exact,
            Crop = crop.Value,
            Channels = channels,
            Interpolation = entry.Interpolation is { } filter ? Enum.Parse<Interpolation>(filter, ignoreCase: true) : Interpolation.Bilinear,
            ApplyExif = entry.ApplyExif,
        };

        static bool Fits(long expected, int actual) => expected < 1 || expected == actual;

        static string Extent(long extent) => extent < 1 ? "any" : extent.ToString(CultureInfo.InvariantCulture);
    }

    /// <summary>The preprocessing in force, for clients that do it themselves.</summary>
    public JsonObject Describe(Preprocessing preprocessing)
    {
        var described = new JsonObject
        {
            ["crop"] = new JsonArray(preprocessing.Crop.Height, preprocessing.Crop.Width),
            ["interpolation"] = preprocessing.Interpolation.ToString().ToLowerInvariant(),
            ["channels"] = preprocessing.Channels.ToString().ToLowerInvariant(),
            ["mean"] = JsonSerializer.SerializeToNode(InputNormalization.Mean),
            ["std"] = JsonSerializer.SerializeToNode(InputNormalization.Std),
            ["apply_exif"] = preprocessing.ApplyExif,
        };
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
}

using TorchSharp;
using TtaService.Engine.Calibration;
using TtaService.Engine.Normalization;
using TtaService.Engine.Onnx;
using static TorchSharp.torch;

namespace TtaService.Engine.Execution;

/// <summary>Reads and checks what a model is loaded with: its device and its calibration.</summary>
internal static class ModelLoading
{
    public static torch.Device ParseDevice(string name)
    {
        try
        {
            if (!name.StartsWith("cuda", StringComparison.Ordinal))
            {
                return torch.device(name);
            }

            // Asked first: a device can't even be named without its backend.
            var count = cuda.is_available() ? cuda.device_count() : 0;
            if (count == 0)
            {
                throw new ModelLoadException($"device '{name}' needs a libtorch with CUDA and a GPU; build with -p:Torch=cuda, or use device cpu");
            }

            var device = torch.device(name);
            return device.index < count ? device : throw new ModelLoadException($"device '{name}' is not there: this process sees {count} GPU(s), cuda:0 to cuda:{count - 1}");
        }
        catch (Exception e) when (e is ArgumentException or FormatException)
        {
            throw new ModelLoadException($"device '{name}' is not known; use cpu or cuda:N", e);
        }
    }

    public static ModelCalibration? ReadCalibration(AdaptiveModelOptions options)
    {
        try
        {
            return options.ForCalibration ? null : options.Calibration ?? (options.CalibrationPath is { } path ? ModelCalibration.Read(path) : null);
        }
        catch (CalibrationException unfit)
        {
            throw new ModelLoadException(unfit.Message, unfit);
        }
    }

    public static ModelCalibration? RequireFit(ModelCalibration? calibration, ModelGraph graph, IReadOnlyList<ModelOutput> outputs, AdaptiveModelOptions options)
    {
        if (calibration is null)
        {
            return null;
        }

        var (declared, reason) = (ClassScores.Count(ModelOutputs.Scores(outputs, options.Labels)), calibration.WhyUnfit(graph.Digest, graph.Sites));
        reason ??= declared > 0 && declared != calibration.Classes ? OtherClasses(calibration, declared) : null;
        return reason is null ? calibration : throw new CalibrationException(options.CalibrationPath is { } file && options.Calibration is null ? $"{file}: {reason}" : reason);
    }

    public static string OtherClasses(ModelCalibration calibration, int classes) =>
        $"the calibration is of {calibration.Classes} classes, the model answers {classes}; calibrate again with tta calibrate";

    public static ScalarType ElementType(Precision precision) => precision == Precision.Bf16 ? ScalarType.BFloat16 : ScalarType.Float32;
}

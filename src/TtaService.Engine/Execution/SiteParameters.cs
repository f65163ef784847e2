using TorchSharp;
using TtaService.Engine.Normalization;
using TtaService.Engine.Onnx;
using static TorchSharp.torch;

namespace TtaService.Engine.Execution;

/// <summary>A site's parameters on a device, [C] each, float32.</summary>
internal sealed class SiteParameters(NormalizationSite site, Device device) : IDisposable
{
    public Tensor Weight { get; } = Place(site.Weight, device);

    public Tensor Bias { get; } = Place(site.Bias, device);

    public Tensor Mean { get; } = Place(site.Mean, device);

    public Tensor Variance { get; } = Place(site.Variance, device);

    /// <summary>Null of a site that has none.</summary>
    public Tensor? Origin { get; } = site.Origin.Length == 0 ? null : Place(site.Origin, device);

    /// <summary>Evaluation BatchNorm: float32 rows with the source statistics, plus a residual, clamped.</summary>
    public Tensor Normalize(Tensor x, float epsilon, Tensor? residual, Epilogue epilogue)
    {
        var y = nn.functional.batch_norm(x, Mean, Variance, Weight, Bias, training: false, eps: epsilon);
        y = residual is null ? y : Fused.Add(y, residual.to_type(ScalarType.Float32));
        Fused.Clamp(y, epilogue);
        return y;
    }

    public void Dispose()
    {
        Weight.Dispose();
        Bias.Dispose();
        Mean.Dispose();
        Variance.Dispose();
        Origin?.Dispose();
    }

    private static Tensor Place(float[] values, Device device) => tensor(values, device: device).DetachFromDisposeScope();
}

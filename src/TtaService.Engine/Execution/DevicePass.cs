using TorchSharp;
using TtaService.Engine.Normalization;
using TtaService.Engine.Onnx;
using TtaService.Engine.Tensors;
using static TorchSharp.torch;
using Tensor = TorchSharp.torch.Tensor;

namespace TtaService.Engine.Execution;

/// <summary>A forward pass on any device and in any precision: statistics and the methods' algebra in float32 torch operators, a group of like steps at a time.</summary>
/// <remarks>Nothing here waits for the device: it is read once, behind the pass.</remarks>
internal sealed class DevicePass(IReadOnlyList<StepGroup> groups, IReadOnlyList<SiteParameters> parameters, IReadOnlyList<SiteRangeTensors>? ranges = null) : ISiteNormalizer
{
    public Tensor Normalize(NormalizationSite site, Tensor x, bool mayOverwrite, Tensor? residual, Epilogue epilogue)
    {
        using var scope = NewDisposeScope();
        var shape = x.shape;
        var spatial = shape.Length > 2;
        var wide = x.to_type(ScalarType.Float32);
        var flat = wide.reshape(shape[0], shape[1], -1);
        (Tensor Mean, Tensor Variance)? statistics = null;
        if (groups.Any(group => group.NeedsStatistics(site)))
        {
            var (variance, mean) = flat.var_mean([2L], unbiased: false);
            statistics = (mean, variance);
        }

        var own = parameters[site.Index];
        var pixels = checked((int)flat.shape[2]);
        var normalizers = groups.Select(group => group.Normalize(site, own, statistics, pixels, spatial, ranges?[site.Index])).ToArray();
        long[] perFrame = [shape[0], shape[1], .. Enumerable.Repeat(1L, shape.Length - 2)];
        long[] perChannel = [1, .. perFrame.AsSpan(1)];
        var scale = (own.Weight * Joined(normalizers, normalizer => normalizer.Variance).Plus(site.Epsilon).rsqrt()).view(perFrame);
        // Centred before it is scaled: the difference is where float32 would cancel.
        var y = own.Bias.view(perChannel).AddProduct(wide - Joined(normalizers, normalizer => normalizer.Mean).view(perFrame), scale);
        if (residual is not null)
        {
            y.AddInPlace(residual);
        }

        Fused.Clamp(y, epilogue);
        return y.to_type(x.dtype).MoveToOuterDisposeScope();
    }

    private static Tensor Joined((Tensor Mean, Tensor Variance)[] normalizers, Func<(Tensor Mean, Tensor Variance), Tensor> statistic) =>
        normalizers.Length == 1 ? statistic(normalizers[0]) : cat(Array.ConvertAll(normalizers, normalizer => statistic(normalizer)));
}

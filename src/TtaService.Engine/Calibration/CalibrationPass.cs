using TorchSharp;
using TtaService.Engine.Execution;
using TtaService.Engine.Normalization;
using TtaService.Engine.Onnx;
using static TorchSharp.torch;
using Tensor = TorchSharp.torch.Tensor;

namespace TtaService.Engine.Calibration;

/// <summary>A forward pass under the source statistics that keeps each frame's moments at every site, on any device and in any precision.</summary>
internal sealed class CalibrationPass(int sites) : ISiteNormalizer
{
    private readonly (float[] Mean, float[] Variance)?[] _moments = new (float[], float[])?[sites];

    /// <summary>Means and biased variances of the frames at a site, [B,C] each; null where a frame shows one value a channel.</summary>
    public (float[] Mean, float[] Variance)? At(NormalizationSite site) => _moments[site.Index];

    public Tensor Normalize(NormalizationSite site, Tensor x, bool mayOverwrite, Tensor? residual, Epilogue epilogue)
    {
        using var scope = NewDisposeScope();
        using var parameters = new SiteParameters(site, x.device);
        var shape = x.shape;
        var wide = x.to_type(ScalarType.Float32);
        var flat = wide.reshape(shape[0], shape[1], -1);
        if (flat.shape[2] > 1)
        {
            var mean = flat.mean([2L], keepdim: true);
            _moments[site.Index] = (ToHost(mean), ToHost((flat - mean).square().mean([2L])));
        }

        long[] perChannel = [1, shape[1], .. Enumerable.Repeat(1L, shape.Length - 2)];
        var scale = (parameters.Weight * (parameters.Variance + site.Epsilon).rsqrt()).view(perChannel);
        var y = addcmul(parameters.Bias.view(perChannel), wide - parameters.Mean.view(perChannel), scale, 1);
        if (residual is not null)
        {
            y.add_(residual);
        }

        Fused.Clamp(y, epilogue);
        return y.to_type(x.dtype).MoveToOuterDisposeScope();
    }

    private static float[] ToHost(Tensor values) => values.contiguous().cpu().data<float>().ToArray();
}

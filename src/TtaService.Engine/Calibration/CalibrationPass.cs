using TorchSharp;
using TtaService.Engine.Execution;
using TtaService.Engine.Normalization;
using TtaService.Engine.Onnx;
using TtaService.Engine.Tensors;
using static TorchSharp.torch;
using Tensor = TorchSharp.torch.Tensor;

namespace TtaService.Engine.Calibration;

/// <summary>A forward pass under the source statistics that keeps each frame's moments at every site, on any device and in any precision.</summary>
/// <param name="frames">Frames of the pass.</param>
/// <param name="atSource">By site: whether its rows are not the frames of the pass.</param>
internal sealed class CalibrationPass(int frames, bool[] atSource) : ISiteNormalizer
{
    private readonly (float[] Mean, float[] Variance)?[] _moments = new (float[], float[])?[atSource.Length];

    /// <summary>Means and biased variances of the frames at a site, [B,C] each; null where a frame shows one value a channel.</summary>
    public (float[] Mean, float[] Variance)? At(NormalizationSite site) => _moments[site.Index];

    public Tensor Normalize(NormalizationSite site, Tensor x, bool mayOverwrite, Tensor? residual, Epilogue epilogue)
    {
        SiteActivations.Check(site, x);
        using var scope = NewDisposeScope();
        using var parameters = new SiteParameters(site, x.device);
        var shape = x.shape;
        var wide = x.to_type(ScalarType.Float32);
        if (!atSource[site.Index] && shape[0] % frames == 0 && x.numel() > frames * shape[1])
        {
            // Frames lie outermost; k rows of a frame are k times its pixels.
            var flat = wide.reshape(frames, shape[0] / frames, shape[1], -1).transpose(1, 2).reshape(frames, shape[1], -1);
            var mean = flat.mean([2L], keepdim: true);
            _moments[site.Index] = (mean.ToHost<float>(), (flat - mean).Squared().mean([2L]).ToHost<float>());
        }

        return parameters.Normalize(wide, site.Epsilon, residual, epilogue).to_type(x.dtype).MoveToOuterDisposeScope();
    }
}

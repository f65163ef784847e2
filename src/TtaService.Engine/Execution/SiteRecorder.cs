using TorchSharp;
using TtaService.Engine.Normalization;
using TtaService.Engine.Onnx;
using static TorchSharp.torch;
using Tensor = TorchSharp.torch.Tensor;

namespace TtaService.Engine.Execution;

/// <summary>Normalizes with the source statistics and keeps what the rows of each site average to.</summary>
internal sealed class SiteRecorder(int sites) : ISiteNormalizer
{
    public TrialValues[] Rows { get; } = new TrialValues[sites];

    public Tensor Normalize(NormalizationSite site, Tensor x, bool mayOverwrite, Tensor? residual, Epilogue epilogue)
    {
        SiteActivations.Check(site, x);
        using var scope = NewDisposeScope();
        var wide = x.to_type(ScalarType.Float32);
        var flat = wide.reshape(x.shape[0], x.shape[1], -1);
        var (variance, mean) = flat.var_mean([2L], unbiased: false);
        Rows[site.Index] = TrialValues.Of(cat([mean, variance.sqrt()], 1));
        using var parameters = new SiteParameters(site, x.device);
        return parameters.Normalize(wide, site.Epsilon, residual, epilogue).to_type(x.dtype).MoveToOuterDisposeScope();
    }
}

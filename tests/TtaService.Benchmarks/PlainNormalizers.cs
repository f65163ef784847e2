using TorchSharp;
using TtaService.Engine.Normalization;
using TtaService.Engine.Onnx;
using static TorchSharp.torch;
using Tensor = TorchSharp.torch.Tensor;

namespace TtaService.Benchmarks;

/// <summary>BatchNorm at its source statistics with torch's own operator, what fused behind it in place: plain eval mode.</summary>
internal sealed class EvalBatchNorm : ISiteNormalizer
{
    private readonly Dictionary<NormalizationSite, (Tensor Mean, Tensor Variance, Tensor Weight, Tensor Bias)> _parameters = [];

    public Tensor Normalize(NormalizationSite site, Tensor x, bool mayOverwrite, Tensor? residual, Epilogue epilogue)
    {
        if (!_parameters.TryGetValue(site, out var p))
        {
            p = (Keep(site.Mean, x), Keep(site.Variance, x), Keep(site.Weight, x), Keep(site.Bias, x));
            _parameters.Add(site, p);
        }

        return Behind(nn.functional.batch_norm(x, p.Mean, p.Variance, p.Weight, p.Bias, training: false, eps: site.Epsilon), residual, epilogue);
    }

    internal static Tensor Keep(float[] values, Tensor like) => torch.tensor(values, like.dtype, like.device).DetachFromDisposeScope();

    internal static Tensor Behind(Tensor y, Tensor? residual, Epilogue epilogue)
    {
        if (residual is not null)
        {
            y.add_(residual);
        }

        return epilogue.Clamps ? y.relu_() : y;
    }
}

/// <summary>UnMix-TNS as its reference layer is written, one torch operator after another, for one stream (Tomar et al., ICLR 2024, Algorithm 1).</summary>
internal sealed class PlainUnmixTns(int components) : ISiteNormalizer
{
    private readonly Dictionary<NormalizationSite, Site> _sites = [];

    public Tensor Normalize(NormalizationSite site, Tensor x, bool mayOverwrite, Tensor? residual, Epilogue epilogue)
    {
        if (!_sites.TryGetValue(site, out var s))
        {
            _sites.Add(site, s = new Site(site, components, x));
        }

        using var scope = NewDisposeScope();
        var frames = x.shape[0];
        var mean = x.mean([2, 3]);                                                              // [B,C]
        var variance = x.var([2, 3], unbiased: false);                                          // [B,C]
        var alike = nn.functional.cosine_similarity(s.Mean.unsqueeze(0), mean.unsqueeze(1), 2); // [B,K]
        var p = nn.functional.softmax(alike / 0.07, 1).unsqueeze(2);                            // [B,K,1]
        var mixedMean = ((1 - p) * s.Mean.unsqueeze(0)) + (p * mean.unsqueeze(1));              // [B,K,C]
        var mixedVariance = ((1 - p) * s.Variance.unsqueeze(0)) + (p * variance.unsqueeze(1));
        var mu = mixedMean.mean([1L]);                                                          // [B,C]
        var sigma2 = mixedVariance.mean([1L]) + (mixedMean * mixedMean).mean([1L]) - (mu * mu);
        var normal = (x - mu.unsqueeze(2).unsqueeze(3)) / (sigma2 + site.Epsilon).sqrt().unsqueeze(2).unsqueeze(3);
        var y = (normal * s.Weight.view(1, -1, 1, 1)) + s.Bias.view(1, -1, 1, 1);
        var eta = 0.1 / frames;
        s.Mean.add_((p * (mean.unsqueeze(1) - s.Mean.unsqueeze(0))).sum([0L]) * eta);
        s.Variance.add_((p * (variance.unsqueeze(1) - s.Variance.unsqueeze(0))).sum([0L]) * eta);
        return EvalBatchNorm.Behind(y, residual, epilogue).MoveToOuterDisposeScope();
    }

    private sealed class Site
    {
        public Site(NormalizationSite site, int components, Tensor like)
        {
            Weight = EvalBatchNorm.Keep(site.Weight, like);
            Bias = EvalBatchNorm.Keep(site.Bias, like);
            using var mean = EvalBatchNorm.Keep(site.Mean, like);
            using var variance = EvalBatchNorm.Keep(site.Variance, like);
            using var noise = randn([components, site.Channels], like.dtype, like.device);
            Mean = (mean + (0.5 * noise * variance.sqrt())).DetachFromDisposeScope();
            Variance = (variance * ones_like(noise)).DetachFromDisposeScope();
        }

        public Tensor Weight { get; }

        public Tensor Bias { get; }

        public Tensor Mean { get; }

        public Tensor Variance { get; }
    }
}

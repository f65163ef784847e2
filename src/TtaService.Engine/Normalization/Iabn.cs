using TtaService.Engine.Tensors;
using Tensor = TorchSharp.torch.Tensor;

namespace TtaService.Engine.Normalization;

/// <summary>Instance-aware BN: source statistics, corrected where a frame's own are further away than sampling noise explains. No state.</summary>
/// <remarks>Gong et al., NeurIPS 2022 (NOTE), code utils/iabn.py, evaluation mode: s_mu = sqrt((V+eps)/L), s_var = (V+eps) sqrt(2/(L-1));
/// mu = M + psi(m - M, k s_mu); var = relu(V + psi(v - V, k s_var)) with the unbiased v and the soft shrinkage psi(a,l) = sign(a) max(|a| - l, 0);
/// maps of one pixel keep the source statistics.</remarks>
internal sealed class Iabn(MethodSettings settings) : ISpanMethod
{
    public static MethodDefinition Definition { get; } = new(
        "iabn",
        "Source statistics, corrected per frame where its own are further away than noise explains.",
        "Gong et al., NeurIPS 2022 (NOTE)",
        [Hyperparameter.Number("threshold", 4, 0, 100, "k: how many standard errors a statistic may differ before it is corrected.")],
        settings => new Iabn(settings),
        "iabn expects a source model that was trained with IABN layers; on an ordinary BatchNorm model it is an ablation and can hurt");

    private readonly float _threshold = settings.Number("threshold");

    public bool ReadsFrames => true;

    public IReadOnlyList<StateTensor> StateAt(NormalizationSite site) => [];

    public void Initialize(NormalizationSite site, SiteSeed seed, Span<float> state)
    {
    }

    public void Forward(in SiteStep step)
    {
        if (step.Pixels <= 1)
        {
            step.UseSource();
            return;
        }

        var site = step.Site;
        double pixels = step.Pixels;
        var unbiased = (float)(pixels / (pixels - 1));
        var meanFactor = _threshold * (float)Math.Sqrt(1 / pixels);
        var varianceFactor = _threshold * (float)Math.Sqrt(2 / (pixels - 1));
        for (var i = 0; i < step.Frames * step.Channels; i++)
        {
            var c = i % step.Channels;
            var sourceVariance = site.Variance[c] + site.Epsilon;
            step.Mean[i] = site.Mean[c] + Shrink(step.InstanceMean[i] - site.Mean[c], meanFactor * MathF.Sqrt(sourceVariance));
            step.Variance[i] = MathF.Max(0, site.Variance[c] + Shrink((step.InstanceVariance[i] * unbiased) - site.Variance[c], varianceFactor * sourceVariance));
        }
    }

    public (Tensor Mean, Tensor Variance) Forward(SiteTensors steps)
    {
        if (steps.Pixels <= 1)
        {
            return steps.Source;
        }

        double pixels = steps.Pixels;
        var sourceVariance = steps.SourceVariance.Plus(steps.Site.Epsilon);
        var meanLimit = sourceVariance.sqrt().Times(_threshold * (float)Math.Sqrt(1 / pixels));
        var varianceLimit = sourceVariance.Times(_threshold * (float)Math.Sqrt(2 / (pixels - 1)));
        var variance = steps.InstanceVariance.Times((float)(pixels / (pixels - 1)));
        return (
            steps.SourceMean.Plus(Shrink(steps.InstanceMean - steps.SourceMean, meanLimit)),
            steps.SourceVariance.Plus(Shrink(variance - steps.SourceVariance, varianceLimit)).AtLeast(0));
    }

    private static Tensor Shrink(Tensor value, Tensor limit) => value - value.minimum(limit).maximum(-limit);

    private static float Shrink(float value, float limit) => MathF.CopySign(MathF.Max(MathF.Abs(value) - limit, 0), value);
}

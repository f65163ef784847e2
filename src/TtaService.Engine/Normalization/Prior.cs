using Tensor = TorchSharp.torch.Tensor;

namespace TtaService.Engine.Normalization;

/// <summary>Schneider's N: the source statistics count as N frames beside the n of the step. No state.</summary>
/// <remarks>Schneider et al., NeurIPS 2020: w = N/(N+n); mu = w mu_s + (1-w) bm; var = w var_s + (1-w) bv.</remarks>
internal sealed class Prior(MethodSettings settings) : ISpanMethod
{
    public static MethodDefinition Definition { get; } = new(
        "prior",
        "The source statistics count as N frames beside those of the step.",
        "Schneider et al., NeurIPS 2020",
        [
            Hyperparameter.Number("prior_frames", 16, 0, 1e6, "N: how many test frames the source statistics are worth."),
            Hyperparameter.Choice("variance", "The step's variance: biased, or unbiased.", "biased", "unbiased"),
        ],
        settings => new Prior(settings));

    private readonly float _priorFrames = settings.Number("prior_frames");
    private readonly bool _unbiased = settings.Text("variance") == "unbiased";

    public bool ReadsFrames => true;

    public IReadOnlyList<StateTensor> StateAt(NormalizationSite site) => [];

    public void Initialize(NormalizationSite site, SiteSeed seed, Span<float> state)
    {
    }

    public void Forward(in SiteStep step)
    {
        var testWeight = step.Frames / (_priorFrames + step.Frames);
        var mean = step.Mean[..step.Channels];
        var variance = step.Variance[..step.Channels];
        var hasVariance = BatchStatistics.Compute(step, _unbiased, mean, variance);
        BatchStatistics.Mix(step.Site.Mean, mean, testWeight, mean);
        BatchStatistics.Mix(step.Site.Variance, hasVariance ? variance : step.Site.Variance, testWeight, variance);
        step.ShareFirstRow();
    }

    public (Tensor Mean, Tensor Variance) Forward(SiteTensors steps) => steps.MixWithSource(_unbiased, steps.Frames / (_priorFrames + steps.Frames));
}

using Tensor = TorchSharp.torch.Tensor;

namespace TtaService.Engine.Normalization;

/// <summary>alpha-BN: a fixed mix of source and step statistics. No state.</summary>
/// <remarks>You et al. 2021 (arXiv 2110.04065): mu = (1-a) mu_s + a bm, var = (1-a) var_s + a bv. The paper writes alpha on the source side;
/// <c>test_weight</c> is a, the weight of the test statistics, as in the code that ships it (default 0.1, unbiased variance, BatchNorm2d only).</remarks>
internal sealed class AlphaBn(MethodSettings settings) : ISpanMethod
{
    public static MethodDefinition Definition { get; } = new(
        "alpha_bn",
        "A fixed mix of the source statistics and those of the step.",
        "You et al. 2021, arXiv 2110.04065; variance as in mariodoebler/test-time-adaptation",
        [
            Hyperparameter.Number("test_weight", 0.1, 0, 1, "Weight of the step's statistics."),
            Hyperparameter.Choice("variance", "The step's variance: unbiased as in the published code, or biased.", "unbiased", "biased"),
        ],
        settings => new AlphaBn(settings));

    private readonly float _testWeight = settings.Number("test_weight");
    private readonly bool _unbiased = settings.Text("variance") == "unbiased";

    public bool ReadsFrames => true;

    public IReadOnlyList<StateTensor> StateAt(NormalizationSite site) => [];

    public void Initialize(NormalizationSite site, SiteSeed seed, Span<float> state)
    {
    }

    public double? TestWeight(NormalizationSite site, ReadOnlySpan<float> state) => _testWeight;

    public void Forward(in SiteStep step)
    {
        if (!step.Spatial)
        {
            step.UseSource();
            return;
        }

        var mean = step.Mean[..step.Channels];
        var variance = step.Variance[..step.Channels];
        var hasVariance = BatchStatistics.Compute(step, _unbiased, mean, variance);
        BatchStatistics.Mix(step.Site.Mean, mean, _testWeight, mean);
        BatchStatistics.Mix(step.Site.Variance, hasVariance ? variance : step.Site.Variance, _testWeight, variance);
        step.ShareFirstRow();
    }

    public (Tensor Mean, Tensor Variance) Forward(SiteTensors steps) => steps.Spatial ? steps.MixWithSource(_unbiased, _testWeight) : steps.Source;
}

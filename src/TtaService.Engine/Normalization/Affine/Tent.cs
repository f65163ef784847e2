using Tensor = TorchSharp.torch.Tensor;

namespace TtaService.Engine.Normalization.Affine;

/// <summary>Tent: a gradient step a step of frames on the scales and biases of the sites, for predictions that are surer of themselves.</summary>
/// <remarks>Wang et al., ICLR 2021; code DequanWang/tent: loss = mean over the step's frames of H(softmax(logits)), statistics of the step itself, and the answer is the
/// one before the update. There all BatchNorm2d layers are trained; here every site that the settings choose.
/// State: <see cref="AffineTraining"/>.</remarks>
internal sealed class Tent(MethodSettings settings) : IAffineMethod
{
    public static MethodDefinition Definition { get; } = new(
        "tent",
        "Learns the stream's scales and biases by gradients, so that predictions become surer, on the statistics of the step; for large, shuffled steps only.",
        "Wang et al., ICLR 2021 (Tent)",
        [
            .. AffineOptimizer.Hyperparameters,
            Hyperparameter.Integer("rounds", 1, 1, 16, "Gradient steps a step of frames, each a pass forward and back; the answer is the last pass's."),
            Hyperparameter.Number("test_weight", 1, 0, 1, "Weight of the step's own statistics in what normalizes it; the rest is the source's."),
            Hyperparameter.Integer("min_frames", 4, 1, 4096, "Fewest frames a step may have; smaller steps are refused."),
        ],
        settings => new Tent(settings),
        "Costs about three passes a step, and collapses to few classes on correlated streams, faster with higher rates.");

    private readonly AffineTraining _training = new(AffineOptimizer.Of(settings));
    private readonly float _testWeight = settings.Number("test_weight");
    private readonly int _minFrames = settings.Integer("min_frames");

    public bool ReadsFrames => true;

    public IReadOnlyList<StateTensor> StreamState => _training.StreamState;

    public bool UsesStepStatistics => _testWeight == 1;

    public int Rounds { get; } = settings.Integer("rounds");

    public IReadOnlyList<StateTensor> StateAt(NormalizationSite site) => _training.StateAt(site);

    public void Initialize(NormalizationSite site, SiteSeed seed, Span<float> state) => AffineTraining.Initialize(site, state);

    public void InitializeStream(Span<float> state) => state.Clear();

    public string? Refuses(int frames) => frames >= _minFrames
        ? null
        : $"tent needs steps of at least {_minFrames} frames (min_frames), this one has {frames}; send larger steps or use another method";

    public double? TestWeight(NormalizationSite site, ReadOnlySpan<float> state) => _testWeight;

    public void Forward(in SiteStep step)
    {
        var mean = step.Mean[..step.Channels];
        var variance = step.Variance[..step.Channels];
        var hasVariance = BatchStatistics.Compute(step, unbiased: false, mean, variance);
        BatchStatistics.Mix(step.Site.Mean, mean, _testWeight, mean);
        BatchStatistics.Mix(step.Site.Variance, hasVariance ? variance : step.Site.Variance, _testWeight, variance);
        step.ShareFirstRow();
        step.State.CopyTo(step.NextState);
    }

    public (Tensor Mean, Tensor Variance) Forward(SiteTensors steps)
    {
        if (_testWeight < 1)
        {
            return steps.MixWithSource(unbiased: false, _testWeight);
        }

        var (mean, variance) = steps.BatchStatistics(unbiased: false);
        return (mean, variance ?? steps.SourceVariance);
    }

    public void Weigh(in AffineStep step, ReadOnlySpan<float> probabilities, Span<float> weights) => weights.Fill(1f / step.Frames);

    public void Learn(in AffineStep step, ReadOnlySpan<float> gradient) => _training.Learn(step, gradient);
}

using Tensor = TorchSharp.torch.Tensor;

namespace TtaService.Engine.Normalization.Affine;

/// <summary>What methods that make predictions surer have in common: the statistics of the step, perhaps with a share of the source's, and an optimizer over all scales and
/// biases. They differ in how they weigh a step's frames.</summary>
internal abstract class EntropyMethod(MethodSettings settings) : IAffineMethod
{
    private readonly AffineTraining _training = new(AffineOptimizer.Of(settings));
    private readonly string _name = settings.Name;
    private readonly float _testWeight = settings.Number("test_weight");
    private readonly int _minFrames = settings.Integer("min_frames");

    /// <summary>What every such method can be set to.</summary>
    protected static IReadOnlyList<Hyperparameter> Shared { get; } =
    [
        .. AffineOptimizer.Hyperparameters,
        Hyperparameter.Integer("rounds", 1, 1, 16, "Gradient steps a step of frames, each a pass forward and back; the answer is the last pass's."),
        Hyperparameter.Number("test_weight", 1, 0, 1, "Weight of the step's own statistics in what normalizes it; the rest is the source's."),
        Hyperparameter.Integer("min_frames", 4, 1, 4096, "Fewest frames a step may have; smaller steps are refused."),
    ];

    public bool ReadsFrames => true;

    public bool UsesStepStatistics => _testWeight == 1;

    public int Rounds { get; } = settings.Integer("rounds");

    public virtual IReadOnlyList<StateTensor> StreamState => _training.StreamState;

    public IReadOnlyList<StateTensor> StateAt(NormalizationSite site) => _training.StateAt(site);

    public void Initialize(NormalizationSite site, SiteSeed seed, Span<float> state) => AffineTraining.Initialize(site, state);

    public void InitializeStream(Span<float> state) => state.Clear();

    public string? Refuses(int frames) => frames >= _minFrames
        ? null
        : $"{_name} needs steps of at least {_minFrames} frames (min_frames), this one has {frames}; send larger steps or use another method";

    public double? TestWeight(NormalizationSite site, ReadOnlySpan<float> state) => _testWeight;

    public (Tensor Mean, Tensor Variance) Forward(SiteTensors steps)
    {
        if (_testWeight < 1)
        {
            return steps.MixWithSource(unbiased: false, _testWeight);
        }

        var (mean, variance) = steps.BatchStatistics(unbiased: false);
        return (mean, variance ?? steps.SourceVariance);
    }

    public abstract void Weigh(in AffineStep step, ReadOnlySpan<float> probabilities, Span<float> weights);

    public void Learn(in AffineStep step, ReadOnlySpan<float> gradient) => _training.Learn(step, gradient);
}

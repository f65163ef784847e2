using TtaService.Engine.Normalization;
using TtaService.Engine.Tensors;
using static TorchSharp.torch;

namespace TtaService.SampleMethods;

/// <summary>Running statistics that no step moves further than some deviations of the source: a method as somebody else would write it, in its torch form alone.</summary>
internal sealed class ClippedEma(MethodSettings settings) : INormalizationMethod
{
    private readonly float _momentum = settings.Number("momentum");
    private readonly float _deviations = settings.Number("deviations");

    public static MethodDefinition Definition { get; } = new(
        "clipped_ema",
        "Running statistics that no step moves further than some deviations of the source.",
        "a sample of how to write a method",
        [
            Hyperparameter.Number("momentum", 0.1, 0, 1, "Weight of a step's statistics."),
            Hyperparameter.Number("deviations", 3, 0.1, 100, "How far a step's mean may lie from the source's, in its deviations."),
        ],
        settings => new ClippedEma(settings));

    public IReadOnlyList<StateTensor> StateAt(NormalizationSite site) => [new("clipped_mean", [site.Channels]), new("clipped_var", [site.Channels])];

    public void Initialize(NormalizationSite site, SiteSeed seed, Span<float> state)
    {
        site.Mean.CopyTo(state);
        site.Variance.CopyTo(state[site.Channels..]);
    }

    public (Tensor Mean, Tensor Variance) Forward(SiteTensors steps)
    {
        var c = steps.Channels;
        var (mean, variance) = steps.BatchStatistics(unbiased: false);                                       // [S,1,C]
        var most = steps.SourceVariance.Plus(steps.Site.Epsilon).sqrt().Times(_deviations);                  // [C]
        mean = mean.maximum(steps.SourceMean - most).minimum(steps.SourceMean.Plus(most));
        var runningMean = SiteTensors.Mix(steps.StateAt(0, 1, c), mean, _momentum);
        var runningVariance = variance is null ? steps.StateAt(c, 1, c) : SiteTensors.Mix(steps.StateAt(c, 1, c), variance, _momentum);
        steps.Propose(0, 1, c, runningMean);
        steps.Propose(c, 1, c, runningVariance);
        return (runningMean, runningVariance);
    }
}

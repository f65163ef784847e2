using Tensor = TorchSharp.torch.Tensor;

namespace TtaService.Engine.Normalization;

/// <summary>Running test statistics that start at the source: RoTTA's robust BN. The step is folded in first, then used.</summary>
/// <remarks>Yuan et al., CVPR 2023 (RoTTA), code core/utils/bn_layers.py: M = (1-a) M + a bm; V = (1-a) V + a bv; biased variance; normalize with
/// the updated M, V. State per site: ema_mean [C], ema_var [C], float32.</remarks>
internal sealed class Ema(MethodSettings settings) : ISpanMethod
{
    public static MethodDefinition Definition { get; } = new(
        "ema",
        "A running average of the stream's statistics, updated and then used.",
        "Yuan et al., CVPR 2023 (RoTTA's robust BN)",
        [
            Hyperparameter.Number("momentum", 0.05, 0, 1, "Weight of new statistics, per reference_frames frames."),
            Hyperparameter.Integer("reference_frames", 64, 0, 1 << 20, "Frames that the momentum is meant for, so that a stream adapts by frames and not by calls; 0 "
                + "applies it per step, as the published code does."),
            Hyperparameter.Choice("variance", "The step's variance: biased as in RoTTA, or unbiased as in torch's BatchNorm.", "biased", "unbiased"),
        ],
        settings => new Ema(settings));

    private readonly float _momentum = settings.Number("momentum");
    private readonly int _referenceFrames = settings.Integer("reference_frames");
    private readonly bool _unbiased = settings.Text("variance") == "unbiased";

    public bool ReadsFrames => true;

    public IReadOnlyList<StateTensor> StateAt(NormalizationSite site) =>
        [new("ema_mean", [site.Channels]), new("ema_var", [site.Channels])];

    public void Initialize(NormalizationSite site, SiteSeed seed, Span<float> state)
    {
        site.Mean.CopyTo(state);
        site.Variance.CopyTo(state[site.Channels..]);
    }

    public void Forward(in SiteStep step)
    {
        var c = step.Channels;
        var mean = step.Mean[..c];
        var variance = step.Variance[..c];
        var rate = BatchStatistics.RateOfStep(_momentum, step.Frames, _referenceFrames);
        var hasVariance = BatchStatistics.Compute(step, _unbiased, mean, variance);
        BatchStatistics.Mix(step.State[..c], mean, rate, mean);
        // A step of one value per channel has no variance: the stored one stays.
        BatchStatistics.Mix(step.State[c..], hasVariance ? variance : step.State[c..], rate, variance);
        mean.CopyTo(step.NextState);
        variance.CopyTo(step.NextState[c..]);
        step.ShareFirstRow();
    }

    public (Tensor Mean, Tensor Variance) Forward(SiteTensors steps)
    {
        var c = steps.Channels;
        var rate = BatchStatistics.RateOfStep(_momentum, steps.Frames, _referenceFrames);
        var (batchMean, batchVariance) = steps.BatchStatistics(_unbiased);
        var mean = SiteTensors.Mix(steps.StateAt(0, 1, c), batchMean, rate);
        var oldVariance = steps.StateAt(c, 1, c);
        var variance = batchVariance is null ? oldVariance : SiteTensors.Mix(oldVariance, batchVariance, rate);
        steps.Propose(0, 1, c, mean);
        steps.Propose(c, 1, c, variance);
        return (mean, variance);
    }
}

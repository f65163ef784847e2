using System.Buffers;
using TtaService.Engine.Tensors;
using Tensor = TorchSharp.torch.Tensor;

namespace TtaService.Engine.Normalization;

/// <summary>Running statistics on AdaB2N's momentum clock: fast at first, slower as frames come in, never below a floor; used before they are updated.</summary>
/// <remarks>The clock is the recursion of Lyu et al., NeurIPS 2023 (AdaB2N, a training-time layer): eta_1 = m^kappa, eta_t = eta_(t-1) / (eta_(t-1) + (1-m)^kappa), run
/// online (methods.md 1.7): t counts <c>reference_frames</c> frames and is continuous, the source statistics seed the average and count as <c>prior_frames</c>, and eta
/// stays above <c>floor</c>.
/// In u = 1/eta the recursion is linear, u_t = 1 + a u_(t-1) with a = (1-m)^kappa, so that eta follows from the frame count alone and needs no state.
/// The gate (methods.md 4.4) trusts the running statistics by how far they moved: D = mean_c[((M-mu_s)^2 + (sd-sd_s)^2)/var_s], w = D/(D + gate).
/// The frame's own statistics enter with <c>instance_weight</c>. State per site: adaptive_mean [C], adaptive_var [C], float32.</remarks>
internal sealed class Adaptive(MethodSettings settings) : ISpanMethod
{
    public static MethodDefinition Definition { get; } = new(
        "adaptive",
        "Running statistics with a rate that starts fast and settles, trusted as far as they left the source.",
        "AdaB2N's momentum recursion (Lyu et al., NeurIPS 2023) run online, with a drift gate of our own",
        [
            Hyperparameter.Number("momentum", 0.1, 1e-4, 0.9999, "m of the recursion."),
            Hyperparameter.Number("kappa", 0.4, 0, 1, "0: cumulative average; 1: constant momentum."),
            Hyperparameter.Integer("reference_frames", 64, 1, 1 << 20, "Frames a tick of the clock stands for."),
            Hyperparameter.Number("prior_frames", 16, 0, 1e6, "How many frames the source statistics are worth."),
            Hyperparameter.Number("floor", 0.05, 0, 1, "Smallest eta, per reference_frames frames."),
            Hyperparameter.Number("gate", 0.05, 0, 1e6, "Drift at which running and source statistics weigh the same; 0 switches the gate off."),
            Hyperparameter.Number("instance_weight", 0.0625, 0, 1, "Weight of the frame's own statistics."),
        ],
        settings => new Adaptive(settings));

    private readonly double _momentum = settings.Number("momentum");
    private readonly double _kappa = settings.Number("kappa");
    private readonly int _referenceFrames = settings.Integer("reference_frames");
    private readonly double _priorFrames = settings.Number("prior_frames");
    private readonly double _floor = settings.Number("floor");
    private readonly float _gate = settings.Number("gate");
    private readonly float _instanceWeight = settings.Number("instance_weight");

    public bool ReadsFrames => true;

    public IReadOnlyList<StateTensor> StateAt(NormalizationSite site) =>
        [new("adaptive_mean", [site.Channels]), new("adaptive_var", [site.Channels])];

    public void Initialize(NormalizationSite site, SiteSeed seed, Span<float> state)
    {
        site.Mean.CopyTo(state);
        site.Variance.CopyTo(state[site.Channels..]);
    }

    public double? TestWeight(NormalizationSite site, ReadOnlySpan<float> state) =>
        1 - ((1 - _instanceWeight) * (1 - Trust(site, state[..site.Channels], state[site.Channels..])));

    public void Forward(in SiteStep step)
    {
        var c = step.Channels;
        var oldMean = step.State[..c];
        var oldVariance = step.State[c..];
        Normalize(step, oldMean, oldVariance);

        var rented = ArrayPool<float>.Shared.Rent(2 * c);
        try
        {
            var mean = rented.AsSpan(0, c);
            var variance = rented.AsSpan(c, c);
            var hasVariance = BatchStatistics.Compute(step, unbiased: false, mean, variance);
            var rate = Rate(step.Frames, step.FramesBefore);
            BatchStatistics.Mix(oldMean, mean, rate, step.NextState[..c]);
            BatchStatistics.Mix(oldVariance, hasVariance ? variance : oldVariance, rate, step.NextState[c..]);
        }
        finally
        {
            ArrayPool<float>.Shared.Return(rented);
        }
    }

    public float[] StepFigures(int frames, long framesBefore) => [Rate(frames, framesBefore)];

    public (Tensor Mean, Tensor Variance) Forward(SiteTensors steps)
    {
        var c = steps.Channels;
        var (runningMean, runningVariance) = (steps.StateAt(0, 1, c), steps.StateAt(c, 1, c));
        var (mean, variance) = (runningMean, runningVariance);
        if (_gate > 0)
        {
            var source = steps.SourceVariance.Plus(steps.Site.Epsilon);
            var spread = runningVariance.Plus(steps.Site.Epsilon).sqrt() - source.sqrt();
            var drift = ((runningMean - steps.SourceMean).Squared().Plus(spread.Squared()) / source).mean([2L], keepdim: true);
            var trust = drift / drift.Plus(_gate);
            mean = steps.SourceMean.Plus(trust * (runningMean - steps.SourceMean));
            variance = steps.SourceVariance.Plus(trust * (runningVariance - steps.SourceVariance));
        }

        var rate = steps.Figure(0);
        var (batchMean, batchVariance) = steps.BatchStatistics(unbiased: false);
        steps.Propose(0, 1, c, runningMean.lerp(batchMean, rate));
        if (batchVariance is not null)
        {
            steps.Propose(c, 1, c, runningVariance.lerp(batchVariance, rate));
        }

        var w = steps.Spatial && steps.Pixels > 1 ? _instanceWeight : 0;
        if (w == 0)
        {
            return (mean, variance);
        }

        var distance = steps.InstanceMean - mean;
        return (mean.AddScaled(distance, w), variance.Times(1 - w).AddScaled(steps.InstanceVariance, w).AddScaled(distance.Squared(), w * (1 - w)));
    }

    /// <summary>eta at the tick that starts after so many frames.</summary>
    internal double Eta(long frames)
    {
        var ticks = (_priorFrames + frames) / _referenceFrames;                              // t - 1
        var a = Math.Pow(1 - _momentum, _kappa);
        var first = Math.Pow(_momentum, -_kappa);                                            // u_1
        var u = a < 1 ? (1 / (1 - a)) + ((first - (1 / (1 - a))) * Math.Pow(a, ticks)) : first + ticks;
        return Math.Clamp(1 / u, _floor, 1);
    }

    private float Rate(int frames, long framesBefore) => (float)(1 - Math.Pow(1 - Eta(framesBefore), (double)frames / _referenceFrames));

    private void Normalize(in SiteStep step, ReadOnlySpan<float> runningMean, ReadOnlySpan<float> runningVariance)
    {
        var site = step.Site;
        var trust = Trust(site, runningMean, runningVariance);
        var w = step.Spatial && step.Pixels > 1 ? _instanceWeight : 0;                       // one value has no variance of its own
        for (var i = 0; i < step.Frames * step.Channels; i++)
        {
            var c = i % step.Channels;
            var mean = site.Mean[c] + (trust * (runningMean[c] - site.Mean[c]));
            var variance = site.Variance[c] + (trust * (runningVariance[c] - site.Variance[c]));
            var distance = step.InstanceMean[i] - mean;
            step.Mean[i] = mean + (w * distance);
            step.Variance[i] = ((1 - w) * variance) + (w * step.InstanceVariance[i]) + (w * (1 - w) * distance * distance);
        }
    }

    private float Trust(NormalizationSite site, ReadOnlySpan<float> runningMean, ReadOnlySpan<float> runningVariance)
    {
        if (_gate == 0)
        {
            return 1;
        }

        var drift = Drift(site, runningMean, runningVariance);
        return drift / (drift + _gate);
    }

    // Squared Wasserstein-2 distance between the diagonal Gaussians, in units of the source variance, over channels that live.
    private static float Drift(NormalizationSite site, ReadOnlySpan<float> mean, ReadOnlySpan<float> variance)
    {
        double sum = 0;
        for (var c = 0; c < site.Channels; c++)
        {
            var d = mean[c] - site.Mean[c];
            var s = MathF.Sqrt(variance[c] + site.Epsilon) - MathF.Sqrt(site.Variance[c] + site.Epsilon);
            sum += ((d * d) + (s * s)) / (site.Variance[c] + site.Epsilon);
        }

        return (float)(sum / site.Channels);
    }
}

using System.Buffers;
using TtaService.Engine.Tensors;
using static TorchSharp.torch;
using Tensor = TorchSharp.torch.Tensor;

namespace TtaService.Engine.Normalization;

/// <summary>DELTA's test-time batch renormalization without gradients: running mean and standard deviation, used before they are updated.</summary>
/// <remarks>Zhao et al., ICLR 2023 (DELTA), code algorithms/delta.py: y = (x - M)/Sd; then M = p M + (1-p) bm, Sd = p Sd + (1-p) sqrt(bv + eps).
/// There the first step seeds M and Sd, so it equals <c>tbn</c>; <c>initial = source</c> starts from the source statistics instead.
/// State per site: tbr_mean [C], tbr_std [C], float32.</remarks>
internal sealed class Tbr(MethodSettings settings) : ISpanMethod
{
    public static MethodDefinition Definition { get; } = new(
        "tbr",
        "Running mean and standard deviation of the stream, used and then updated; the first step seeds them.",
        "Zhao et al., ICLR 2023 (DELTA's test-time batch renormalization)",
        [
            Hyperparameter.Number("momentum", 0.95, 0, 1, "p: weight of the old statistics, per reference_frames frames."),
            Hyperparameter.Integer("reference_frames", 64, 0, 1 << 20, "Frames that p is meant for; 0 applies it per step, as the published code does."),
            Hyperparameter.Choice("initial", "What seeds the statistics: the first step as published, or the source.", "first", "source"),
        ],
        settings => new Tbr(settings));

    private readonly float _rate = 1 - settings.Number("momentum");
    private readonly int _referenceFrames = settings.Integer("reference_frames");
    private readonly bool _firstSeeds = settings.Text("initial") == "first";

    public bool ReadsFrames => true;

    public IReadOnlyList<StateTensor> StateAt(NormalizationSite site) =>
        [new("tbr_mean", [site.Channels]), new("tbr_std", [site.Channels])];

    public void Initialize(NormalizationSite site, SiteSeed seed, Span<float> state)
    {
        site.Mean.CopyTo(state);
        for (var c = 0; c < site.Channels; c++)
        {
            state[site.Channels + c] = MathF.Sqrt(site.Variance[c] + site.Epsilon);
        }
    }

    public void Forward(in SiteStep step)
    {
        var channels = step.Channels;
        var rate = BatchStatistics.RateOfStep(_rate, step.Frames, _referenceFrames);
        var scratch = ArrayPool<float>.Shared.Rent(2 * channels);
        try
        {
            var batchMean = scratch.AsSpan(0, channels);
            var batchStd = scratch.AsSpan(channels, channels);
            var oldMean = step.State[..channels];
            var oldStd = step.State[channels..];
            var hasVariance = BatchStatistics.Compute(step, unbiased: false, batchMean, batchStd);
            for (var c = 0; c < channels; c++)
            {
                batchStd[c] = hasVariance ? MathF.Sqrt(batchStd[c] + step.Site.Epsilon) : oldStd[c];
            }

            if (_firstSeeds && step.FramesBefore == 0)
            {
                batchMean.CopyTo(step.NextState);
                batchStd.CopyTo(step.NextState[channels..]);
                UseStandardDeviation(step, batchMean, batchStd);
                return;
            }

            UseStandardDeviation(step, oldMean, oldStd);
            BatchStatistics.Mix(oldMean, batchMean, rate, step.NextState[..channels]);
            BatchStatistics.Mix(oldStd, batchStd, rate, step.NextState[channels..]);
        }
        finally
        {
            ArrayPool<float>.Shared.Return(scratch);
        }
    }

    public float[] StepFigures(int frames, long framesBefore) => [_firstSeeds && framesBefore == 0 ? 1 : 0];

    public (Tensor Mean, Tensor Variance) Forward(SiteTensors steps)
    {
        var c = steps.Channels;
        var rate = BatchStatistics.RateOfStep(_rate, steps.Frames, _referenceFrames);
        var (oldMean, oldStd) = (steps.StateAt(0, 1, c), steps.StateAt(c, 1, c));
        var (batchMean, batchVariance) = steps.BatchStatistics(unbiased: false);
        var batchStd = batchVariance is null ? oldStd : batchVariance.Plus(steps.Site.Epsilon).sqrt();
        var first = steps.Figure(0).IsGreater(0);
        var (mean, std) = (where(first, batchMean, oldMean), where(first, batchStd, oldStd));
        // From the statistics that the first step seeded, the mix is those again.
        steps.Propose(0, 1, c, SiteTensors.Mix(mean, batchMean, rate));
        steps.Propose(c, 1, c, SiteTensors.Mix(std, batchStd, rate));
        return (mean, std.Squared().Minus(steps.Site.Epsilon));
    }

    // Sd holds eps already; the pass adds it again inside the root.
    private static void UseStandardDeviation(in SiteStep step, ReadOnlySpan<float> mean, ReadOnlySpan<float> std)
    {
        mean.CopyTo(step.Mean);
        for (var c = 0; c < step.Channels; c++)
        {
            step.Variance[c] = (std[c] * std[c]) - step.Site.Epsilon;
        }

        step.ShareFirstRow();
    }
}

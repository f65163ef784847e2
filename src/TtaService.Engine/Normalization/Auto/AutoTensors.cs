using TorchSharp;
using TtaService.Engine.Tensors;
using static TorchSharp.torch;
using Tensor = TorchSharp.torch.Tensor;

namespace TtaService.Engine.Normalization.Auto;

/// <summary>What <see cref="AutoSite"/> does, in torch operators for S steps of n frames at once.</summary>
internal sealed class AutoTensors(SiteNormal normal, Device device) : IDisposable
{
    private readonly Tensor _constants = stack(
        new[] { normal.Mean, normal.Variance, normal.MeanVariance, normal.InverseMeanVariance, normal.InverseVarianceVariance, normal.InverseSpread, normal.SourceRatio }
            .Select(values => tensor(values)))
        .to(device).DetachFromDisposeScope();

    // cm and cv, [2,Q,C].
    private readonly Tensor? _classes = normal.ClassMean.Length == 0
        ? null
        : stack(new[] { normal.ClassMean, normal.ClassVariance }.Select(values => tensor(values).view(-1, normal.Site.Channels))).to(device).DetachFromDisposeScope();

    private readonly Tensor _one = ones([1], device: device).DetachFromDisposeScope();

    /// <summary>Of which site's normal moments the constants are.</summary>
    public SiteNormal Normal => normal;

    /// <summary>What normalizes each frame, [S,n,C] each; keeps the frames' and the steps' moments.</summary>
    public (Tensor Mean, Tensor Variance) Normalize(SiteTensors steps, AutoPassLayout layout, int slot)
    {
        var (n, c) = (steps.Frames, steps.Channels);
        var (m, v) = (steps.InstanceMean, steps.InstanceVariance);
        var begun = steps.Begun!;
        var (mu, spread, meanVariance) = (_constants[0], _constants[1], _constants[2]);
        var (byMean, byVariance, bySpread, ratio) = (_constants[3], _constants[4], _constants[5], _constants[6]);
        var at = layout.BegunOffset(slot);
        var (mean, variance) = (begun.narrow(1, at, c).unsqueeze(1), begun.narrow(1, at + c, c).unsqueeze(1));
        var (stepMean, stepWithin) = (m.mean([1L], keepdim: true), v.mean([1L], keepdim: true));
        var between = (m - stepMean).Squared().mean([1L], keepdim: true);
        var stepVariance = stepWithin.Plus(between);
        Keep();
        if (n > 1)
        {
            var (correlation, imbalance) = (Correlation(), Header(AutoPassLayout.Imbalance));
            var one = 1f / n;
            var noise = maximum(correlation.Times(1 - one).Plus((double)one), imbalance).Times(normal.ClassNoise).Plus((double)((1 - normal.ClassShare) * one));
            var uncertainty = begun.narrow(1, layout.UncertaintyAt(slot), 1).unsqueeze(2);
            var (meanShift, varianceShift) = (stepMean - mean, stepWithin - (variance - meanVariance));
            var apart = Distance(meanShift, varianceShift);
            var pastClasses = minimum(apart - (imbalance.Plus(1.0) * noise), Unexplained(apart, meanShift, varianceShift).Minus(StepGate.NoiseOfClass(normal, n)));
            var signal = maximum(correlation.OneMinus() * uncertainty, pastClasses).AtLeast(0);
            (mean, variance) = Pool(mean, variance, stepMean, stepVariance, signal / signal.Plus(noise));
        }

        var distance = Distance(m - mean, v - (variance - meanVariance));
        if (n > 1)
        {
            distance = minimum(distance, Distance(m - stepMean, v - stepWithin).Times((float)n / (n - 1)));
        }

        var excess = (distance - Header(AutoPassLayout.FrameTolerance).Times(normal.FrameDistance)).AtLeast(0);
        (mean, variance) = Pool(mean, variance, m, v, excess / excess.Plus(1.0));
        var trust = Header(AutoPassLayout.Trust);
        variance = spread.Plus(trust * (variance - spread));
        return (steps.SourceMean.Plus(trust * (mean - mu)), (ratio * variance.Plus((double)steps.Site.Epsilon)).Minus(steps.Site.Epsilon));

        Tensor Header(int index) => begun.narrow(1, index, 1).unsqueeze(2);

        Tensor Distance(Tensor means, Tensor variances) => (means.Squared() * byMean).Plus(variances.Squared() * byVariance).mean([2L], keepdim: true).Times(0.5);

        // From the nearest class, of which S steps have their own: [S,Q,C].
        Tensor Unexplained(Tensor apart, Tensor meanShift, Tensor varianceShift)
        {
            if (_classes is null)
            {
                return apart.Minus(normal.FurthestClass);
            }

            var scale = variance.Plus((double)steps.Site.Epsilon) * bySpread;
            return minimum(apart, Distance(meanShift - (_classes[0] * scale.sqrt()), varianceShift - (_classes[1] * scale)).amin([1L], keepdim: true));
        }

        Tensor Correlation()
        {
            var carried = Header(AutoPassLayout.Correlation);
            if (n < ClassCorrelation.LeastFrames)
            {
                return carried;
            }

            var scale = stepVariance.Plus((double)steps.Site.Epsilon) * bySpread;
            var variety = (between * byMean / scale).mean([2L], keepdim: true).Times((float)n / (n - 1));
            var inStep = variety.OneMinus().Over((double)Math.Max(normal.ClassShare, ClassCorrelation.LeastShare)).ClampInPlace(ClassCorrelation.LeastInStep, 1);
            return where(Header(AutoPassLayout.IsFirst).IsGreater(0), minimum(carried, inStep), carried);
        }

        void Keep()
        {
            var kept = steps.Kept!.narrow(1, layout.KeptOffset(slot, n), 1 + (((2L * n) + 2) * c));
            kept.narrow(1, 0, 1).copy_(_one);
            Part(0, n).copy_(m);
            Part(n, n).copy_(v);
            Part(2 * n, 1).copy_(stepMean);
            Part((2 * n) + 1, 1).copy_(stepVariance);

            Tensor Part(int row, int rows) => kept.narrow(1, 1 + ((long)row * c), (long)rows * c).view(-1, rows, c);
        }
    }

    public void Dispose()
    {
        _constants.Dispose();
        _classes?.Dispose();
        _one.Dispose();
    }

    private static (Tensor Mean, Tensor Variance) Pool(Tensor mean, Tensor variance, Tensor otherMean, Tensor otherVariance, Tensor weight)
    {
        var difference = otherMean - mean;
        var rest = weight.OneMinus();
        return (mean.Plus(weight * difference), (rest * variance).Plus(weight * otherVariance).Plus(weight * rest * difference.Squared()));
    }
}

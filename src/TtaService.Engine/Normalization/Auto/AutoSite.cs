using System.Buffers;
using System.Numerics.Tensors;

namespace TtaService.Engine.Normalization.Auto;

/// <summary>What <see cref="AutoMethod"/> does at one site, on the host.</summary>
internal static class AutoSite
{
    /// <summary>Writes what normalizes each frame, and keeps the frames' and the step's moments.</summary>
    /// <param name="step">The step at the site.</param>
    /// <param name="normal">What is normal there.</param>
    /// <param name="header">kappa, imbalance, trust, whether it is the first step, how far frames may lie.</param>
    /// <param name="begun">e [C], s [C], w/(W+1).</param>
    /// <param name="kept">The mark, then m [n,C], v [n,C], bm [C], bv [C].</param>
    public static void Normalize(in SiteStep step, SiteNormal normal, ReadOnlySpan<float> header, ReadOnlySpan<float> begun, Span<float> kept)
    {
        var (n, c) = (step.Frames, step.Channels);
        step.InstanceMean.CopyTo(kept[1..]);
        step.InstanceVariance.CopyTo(kept[(1 + (n * c))..]);
        var stepMean = kept.Slice(1 + (2 * n * c), c);
        var stepVariance = kept.Slice(1 + (((2 * n) + 1) * c), c);
        BatchStatistics.Compute(step, unbiased: false, stepMean, stepVariance);

        var rented = ArrayPool<float>.Shared.Rent(5 * c);
        try
        {
            var mean = rented.AsSpan(0, c);
            var variance = rented.AsSpan(c, c);
            var within = rented.AsSpan(2 * c, c);
            var stepWithin = rented.AsSpan(3 * c, c);
            var scratch = rented.AsSpan(4 * c, c);
            begun[..c].CopyTo(mean);
            begun.Slice(c, c).CopyTo(variance);
            Within(normal, variance, within);
            if (n > 1)
            {
                MeanOfRows(step.InstanceVariance, c, stepWithin);
                var (imbalance, correlation) = (header[AutoPassLayout.Imbalance], Correlation(normal, header, n, stepVariance, stepWithin, scratch));
                var noise = StepGate.Noise(normal.ClassShare, normal.ClassNoise, n, correlation, imbalance);
                var distance = normal.Distance(stepMean, mean, stepWithin, within);
                var excess = StepGate.Excess(distance, noise, imbalance);
                if (excess > 0)
                {
                    TensorPrimitives.Subtract(stepMean, mean, scratch);
                    TensorPrimitives.Subtract(stepWithin, within, within);
                    excess = Math.Min(excess, normal.Unexplained(distance, scratch, within, variance) - StepGate.NoiseOfClass(normal, n));
                    Within(normal, variance, within);
                }

                var weight = StepGate.StepWeight(excess, noise, correlation, begun[2 * c]);
                if (weight > 0)
                {
                    Pool(mean, variance, stepMean, stepVariance, weight, mean, variance, scratch);
                    Within(normal, variance, within);
                }
            }

            NormalizeFrames(step, normal, header, mean, variance, within, stepMean, stepWithin, scratch);
        }
        finally
        {
            ArrayPool<float>.Shared.Return(rented);
        }
    }

    /// <summary>Moves the running moments M, V and the variety U over a step; returns how far the site is from the source, in class units.</summary>
    /// <param name="normal">What is normal at the site.</param>
    /// <param name="kept">What it kept.</param>
    /// <param name="frames">Frames n of the step.</param>
    /// <param name="rate">rho.</param>
    /// <param name="clock">W, with the step.</param>
    /// <param name="own">M [C], V [C].</param>
    /// <param name="variety">U.</param>
    public static float Move(SiteNormal normal, ReadOnlySpan<float> kept, int frames, float rate, float clock, Span<float> own, ref float variety)
    {
        var c = normal.Site.Channels;
        var stepMean = kept.Slice(1 + (2 * frames * c), c);
        var stepVariance = kept.Slice(1 + (((2 * frames) + 1) * c), c);
        var mean = own[..c];
        var variance = own.Slice(c, c);
        var rented = ArrayPool<float>.Shared.Rent(c);
        try
        {
            var scratch = rented.AsSpan(0, c);
            Pool(mean, variance, stepMean, stepVariance, rate, mean, variance, scratch);

            // 1 / (fv sc): frames of a shifted stream lie as much further apart as its pixels do.
            TensorPrimitives.Add(variance, normal.Site.Epsilon, scratch);
            TensorPrimitives.Multiply(scratch, normal.InverseSpread, scratch);
            TensorPrimitives.Divide(normal.InverseMeanVariance, scratch, scratch);
            var sum = 0f;
            for (var frame = 0; frame < frames; frame++)
            {
                sum += CompositionTrust.FrameVariety(SiteNormal.WeightedSquares(AutoPassLayout.Mean(kept, c, frame), mean, scratch) / c);
            }

            variety += rate * ((sum / frames / (1 - (1 / (clock + 1)))) - variety);
        }
        finally
        {
            ArrayPool<float>.Shared.Return(rented);
        }

        var ofStream = normal.Distance(mean, normal.Mean, variance, normal.Variance);
        var ofStep = normal.Distance(stepMean, normal.Mean, stepVariance, normal.Variance) - (2f / frames);
        return CompositionTrust.InClassUnits(Math.Max(ofStream, ofStep), normal.ClassDistance);
    }

    private static void NormalizeFrames(
        in SiteStep step,
        SiteNormal normal,
        ReadOnlySpan<float> header,
        ReadOnlySpan<float> mean,
        ReadOnlySpan<float> variance,
        ReadOnlySpan<float> within,
        ReadOnlySpan<float> stepMean,
        ReadOnlySpan<float> stepWithin,
        Span<float> scratch)
    {
        var (n, c) = (step.Frames, step.Channels);
        var shared = -1;
        var usual = header[AutoPassLayout.FrameTolerance] * normal.FrameDistance;
        for (var frame = 0; frame < n; frame++)
        {
            var m = step.InstanceMean.Slice(frame * c, c);
            var v = step.InstanceVariance.Slice(frame * c, c);
            var toMean = step.Mean.Slice(frame * c, c);
            var toVariance = step.Variance.Slice(frame * c, c);
            var distance = normal.Distance(m, mean, v, within);
            if (n > 1 && distance > usual)
            {
                // Only a frame that differs from its own step, too.
                distance = Math.Min(distance, normal.Distance(m, stepMean, v, stepWithin) * n / (n - 1));
            }

            var weight = StepGate.FrameWeight(distance, usual);
            if (weight == 0 && shared >= 0)
            {
                step.Mean.Slice(shared * c, c).CopyTo(toMean);
                step.Variance.Slice(shared * c, c).CopyTo(toVariance);
                continue;
            }

            if (weight == 0)
            {
                shared = frame;
                mean.CopyTo(toMean);
                variance.CopyTo(toVariance);
            }
            else
            {
                Pool(mean, variance, m, v, weight, toMean, toVariance, scratch);
            }

            ToSource(normal, header[AutoPassLayout.Trust], toMean, toVariance);
        }
    }

    // T, then from calibrated moments to the site's source statistics.
    private static void ToSource(SiteNormal normal, float trust, Span<float> mean, Span<float> variance)
    {
        var site = normal.Site;
        TensorPrimitives.Subtract(mean, normal.Mean, mean);
        TensorPrimitives.MultiplyAdd(mean, trust, site.Mean, mean);
        if (trust != 1)
        {
            TensorPrimitives.Subtract(variance, normal.Variance, variance);
            TensorPrimitives.MultiplyAdd(variance, trust, normal.Variance, variance);
        }

        TensorPrimitives.Add(variance, site.Epsilon, variance);
        TensorPrimitives.Multiply(variance, normal.SourceRatio, variance);
        TensorPrimitives.Subtract(variance, site.Epsilon, variance);
    }

    // (1-r) of a and r of b as one set of pixels: means mix, variances mix and gain r (1-r) (b - a)^2. The result may lie on a.
    private static void Pool(
        ReadOnlySpan<float> mean,
        ReadOnlySpan<float> variance,
        ReadOnlySpan<float> otherMean,
        ReadOnlySpan<float> otherVariance,
        float weight,
        Span<float> toMean,
        Span<float> toVariance,
        Span<float> difference)
    {
        TensorPrimitives.Subtract(otherMean, mean, difference);
        TensorPrimitives.MultiplyAdd(difference, weight, mean, toMean);
        TensorPrimitives.Multiply(difference, difference, difference);
        TensorPrimitives.Multiply(difference, weight * (1 - weight), difference);
        TensorPrimitives.MultiplyAdd(otherVariance, weight, difference, difference);
        TensorPrimitives.MultiplyAdd(variance, 1 - weight, difference, toVariance);
    }

    // Of the expected pixels' variance the part within a frame: s - fv.
    private static void Within(SiteNormal normal, ReadOnlySpan<float> variance, Span<float> within) => TensorPrimitives.Subtract(variance, normal.MeanVariance, within);

    private static void MeanOfRows(ReadOnlySpan<float> rows, int channels, Span<float> mean)
    {
        rows[..channels].CopyTo(mean);
        for (var at = channels; at < rows.Length; at += channels)
        {
            TensorPrimitives.Add(mean, rows.Slice(at, channels), mean);
        }

        TensorPrimitives.Divide(mean, rows.Length / channels, mean);
    }

    private static float Correlation(
        SiteNormal normal,
        ReadOnlySpan<float> header,
        int frames,
        ReadOnlySpan<float> stepVariance,
        ReadOnlySpan<float> stepWithin,
        Span<float> scratch)
    {
        var correlation = header[AutoPassLayout.Correlation];
        if (header[AutoPassLayout.IsFirst] == 0 || frames < ClassCorrelation.LeastFrames)
        {
            return correlation;
        }

        // Unbiased variance of the frames' means, in units of fv (bv + eps) / (V0 + eps).
        TensorPrimitives.Subtract(stepVariance, stepWithin, scratch);
        var sum = 0f;
        for (var c = 0; c < scratch.Length; c++)
        {
            sum += scratch[c] * normal.InverseMeanVariance[c] / ((stepVariance[c] + normal.Site.Epsilon) * normal.InverseSpread[c]);
        }

        var variety = sum / scratch.Length * frames / (frames - 1);
        return Math.Min(correlation, ClassCorrelation.InFirstStep(variety, normal.ClassShare));
    }
}

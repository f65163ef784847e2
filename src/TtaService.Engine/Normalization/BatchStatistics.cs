using System.Numerics.Tensors;

namespace TtaService.Engine.Normalization;

/// <summary>The statistics of all frames of a step together, from their instance statistics (methods.md section 0: bm = mean m, bv = mean v + var m).</summary>
internal static class BatchStatistics
{
    /// <summary>Writes the step's mean and variance, [C] each.</summary>
    /// <param name="step">The step.</param>
    /// <param name="unbiased">Divide by n*L - 1 instead of n*L, as torch's running statistics do.</param>
    /// <param name="mean">bm, [C].</param>
    /// <param name="variance">bv, [C].</param>
    /// <returns>False when the step holds one value per channel: there is no variance then, and <paramref name="variance"/> is 0.</returns>
    public static bool Compute(in SiteStep step, bool unbiased, Span<float> mean, Span<float> variance)
    {
        var channels = step.Channels;
        mean = mean[..channels];
        variance = variance[..channels];
        var means = step.InstanceMean;
        means[..channels].CopyTo(mean);
        step.InstanceVariance[..channels].CopyTo(variance);
        if (step.Frames > 1)
        {
            for (var frame = 1; frame < step.Frames; frame++)
            {
                TensorPrimitives.Add(mean, means.Slice(frame * channels, channels), mean);
                TensorPrimitives.Add(variance, step.InstanceVariance.Slice(frame * channels, channels), variance);
            }

            TensorPrimitives.Divide(mean, step.Frames, mean);
            for (var frame = 0; frame < step.Frames; frame++)
            {
                var instance = means.Slice(frame * channels, channels);
                for (var c = 0; c < channels; c++)
                {
                    var distance = instance[c] - mean[c];
                    variance[c] += distance * distance;
                }
            }

            TensorPrimitives.Divide(variance, step.Frames, variance);
        }

        var count = (double)step.Frames * step.Pixels;
        if (count < 2)
        {
            return false;
        }

        if (unbiased)
        {
            TensorPrimitives.Multiply(variance, (float)(count / (count - 1)), variance);
        }

        return true;
    }

    /// <summary>destination = (1 - weight) * a + weight * b.</summary>
    public static void Mix(ReadOnlySpan<float> a, ReadOnlySpan<float> b, float weight, Span<float> destination)
    {
        for (var c = 0; c < a.Length; c++)
        {
            destination[c] = ((1 - weight) * a[c]) + (weight * b[c]);
        }
    }

    /// <summary>A rate given per <paramref name="referenceFrames"/> frames, for a step of <paramref name="frames"/>: 1 - (1 - rate)^(n/reference), so that a stream
    /// adapts by frames, not by calls. A reference of 0 keeps the rate per step, as the published code does.</summary>
    public static float RateOfStep(float rate, int frames, int referenceFrames) =>
        referenceFrames == 0 ? rate : (float)(1 - Math.Pow(1 - (double)rate, (double)frames / referenceFrames));
}

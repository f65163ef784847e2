using System.Numerics.Tensors;

namespace TtaService.Engine.Normalization.Auto;

/// <summary>What the predicted classes explain of a shift: a stream that shows other classes than the calibration has other moments, without any change of the camera.</summary>
internal static class Composition
{
    // A little is left of the bias: predictions under a shift are surer than they are right.
    private const float Believed = 0.9f;
    private const float LeastVarianceShare = 0.25f;

    /// <summary>chi: how unlike two class frequencies are, mean of (q - pi)^2/pi over Q - 1 degrees; about 1/n for n independent frames.</summary>
    public static float Imbalance(ReadOnlySpan<float> frequencies, ReadOnlySpan<float> prior)
    {
        var sum = 0f;
        for (var k = 0; k < prior.Length; k++)
        {
            var difference = frequencies[k] - prior[k];
            sum += difference * difference / prior[k];
        }

        return sum / (prior.Length - 1);
    }

    /// <summary>Running moments without what their classes explain.</summary>
    /// <param name="normal">The site's class moments.</param>
    /// <param name="shift">The composition less the prior, [Q].</param>
    /// <param name="mean">M, [C].</param>
    /// <param name="variance">V, [C].</param>
    /// <param name="ownMean">Mc, [C].</param>
    /// <param name="ownVariance">Vc, [C].</param>
    /// <param name="scratch">[C].</param>
    public static void Remove(
        SiteNormal normal,
        ReadOnlySpan<float> shift,
        ReadOnlySpan<float> mean,
        ReadOnlySpan<float> variance,
        Span<float> ownMean,
        Span<float> ownVariance,
        Span<float> scratch)
    {
        if (normal.ClassMean.Length == 0 || !shift.ContainsAnyExcept(0))
        {
            mean.CopyTo(ownMean);
            variance.CopyTo(ownVariance);
            return;
        }

        // b = (qc - pi) cm;  bv = (qc - pi)(cv + cm^2) - b^2: between the classes the prior's share is 0 by definition of cm.
        var channels = mean.Length;
        ownMean.Clear();
        ownVariance.Clear();
        for (var k = 0; k < shift.Length; k++)
        {
            TensorPrimitives.MultiplyAdd(normal.ClassMean.AsSpan(k * channels, channels), shift[k], ownMean, ownMean);
            TensorPrimitives.MultiplyAdd(normal.ClassSpread.AsSpan(k * channels, channels), shift[k], ownVariance, ownVariance);
        }

        TensorPrimitives.Multiply(ownMean, ownMean, scratch);
        TensorPrimitives.Subtract(ownVariance, scratch, ownVariance);

        // A shifted stream's classes lie as much further apart as its pixels do.
        TensorPrimitives.Add(variance, normal.Site.Epsilon, scratch);
        TensorPrimitives.Multiply(scratch, normal.InverseSpread, scratch);
        TensorPrimitives.Multiply(ownVariance, scratch, ownVariance);
        TensorPrimitives.Sqrt(scratch, scratch);
        TensorPrimitives.Multiply(ownMean, scratch, ownMean);
        TensorPrimitives.MultiplyAdd(ownMean, -Believed, mean, ownMean);
        TensorPrimitives.MultiplyAdd(ownVariance, -Believed, variance, ownVariance);
        TensorPrimitives.Multiply(variance, LeastVarianceShare, scratch);
        TensorPrimitives.Max(ownVariance, scratch, ownVariance);
    }
}

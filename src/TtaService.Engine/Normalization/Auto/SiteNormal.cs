using System.Buffers;
using System.Numerics;
using System.Numerics.Tensors;
using System.Runtime.InteropServices;
using TtaService.Engine.Calibration;

namespace TtaService.Engine.Normalization.Auto;

/// <summary>What is normal at a site, ready to be compared with.</summary>
internal sealed class SiteNormal
{
    // Where a frame's mean comes from few pixels, late in a network, it varies more.
    private const float AssumedMeanShare = 0.08f;
    private const float AssumedCoarseMeanShare = 0.3f;
    private const float AssumedVarianceSpread = 0.15f;
    private const float AssumedClassShare = 0.6f;
    private const float AssumedClassDistance = 0.6f;

    // The last sites before the classifier hardly see anything but the class.
    private const float AssumedLastClassDistance = 3;
    private const int AssumedLastSites = 2;
    private const float LeastFrameDistance = 2;

    // Measured on networks whose classes' moments are known: the furthest class lies two to three times as far as classes do on average.
    private const float FurthestFactor = 2.5f;

    // Of a channel that hardly changed while calibrating, a change that the next layer hardly sees must not count as a large one.
    private const float LeastSpread = 1e-5f;

    private SiteNormal(NormalizationSite site, float[] mean, float[] variance, float[] meanVariance, float[] varianceVariance)
    {
        (Site, Mean, Variance, MeanVariance) = (site, mean, variance, meanVariance);
        InverseMeanVariance = [.. meanVariance.Select((value, c) => 1 / Math.Max(value, LeastSpread * (variance[c] + site.Epsilon)))];
        InverseVarianceVariance = [.. varianceVariance.Select((value, c) => 1 / Math.Max(value, LeastSpread * (variance[c] + site.Epsilon) * (variance[c] + site.Epsilon)))];
        InverseSpread = Array.ConvertAll(variance, value => 1 / (value + site.Epsilon));
        SourceRatio = [.. site.Variance.Select((value, c) => (value + site.Epsilon) * InverseSpread[c])];
    }

    public NormalizationSite Site { get; }

    /// <summary>mu: mean of frames' means, [C].</summary>
    public float[] Mean { get; }

    /// <summary>V0: variance of pixels over all frames, [C].</summary>
    public float[] Variance { get; }

    /// <summary>fv: variance of frames' means, [C].</summary>
    public float[] MeanVariance { get; }

    public float[] InverseMeanVariance { get; }

    public float[] InverseVarianceVariance { get; }

    /// <summary>1 / (V0 + eps), [C].</summary>
    public float[] InverseSpread { get; }

    /// <summary>(source variance + eps) / (V0 + eps), [C]: a normal stream is normalized exactly as the source was.</summary>
    public float[] SourceRatio { get; }

    /// <summary>cm, [Q*C]; empty where the moments of classes are not known.</summary>
    public float[] ClassMean { get; private init; } = [];

    /// <summary>cv, [Q*C]; empty where the moments of classes are not known.</summary>
    public float[] ClassVariance { get; private init; } = [];

    /// <summary>cv + cm^2, [Q*C]; empty where the moments of classes are not known.</summary>
    public float[] ClassSpread { get; private init; } = [];

    /// <summary>Share of the frames' variance that classes explain.</summary>
    public float ClassShare { get; private init; } = AssumedClassShare;

    /// <summary>How far frames of one class are from all frames.</summary>
    public float ClassDistance { get; private init; } = AssumedClassDistance;

    /// <summary>The distance past which a frame is taken to differ from its stream.</summary>
    public float FrameDistance { get; private init; } = LeastFrameDistance;

    /// <summary>What classes alone can move the site's moments by.</summary>
    public float ClassNoise => Math.Max(ClassShare, ClassDistance);

    /// <summary>How far the furthest class is taken to be from all frames where the moments of classes are not known.</summary>
    public float FurthestClass { get; private init; }

    /// <summary>As calibrated.</summary>
    public static SiteNormal Calibrated(NormalizationSite site, SiteCalibration calibration)
    {
        var spread = new float[calibration.ClassMean.Length];
        for (var i = 0; i < spread.Length; i++)
        {
            spread[i] = calibration.ClassVariance[i] + (calibration.ClassMean[i] * calibration.ClassMean[i]);
        }

        // A model that answers no classes still sees different things, as much as classes usually are.
        var knowsClasses = calibration.ClassShare > 0 || calibration.ClassDistance > 0;
        float[] variance = [.. calibration.Variance.Zip(calibration.MeanVariance, (ev, fv) => ev + fv)];
        return new SiteNormal(site, calibration.Mean, variance, calibration.MeanVariance, calibration.VarianceVariance)
        {
            ClassMean = calibration.ClassMean,
            ClassVariance = calibration.ClassVariance,
            ClassSpread = spread,
            ClassShare = knowsClasses ? calibration.ClassShare : AssumedClassShare,
            ClassDistance = knowsClasses ? calibration.ClassDistance : AssumedClassDistance,
            FurthestClass = FurthestFactor * (knowsClasses ? calibration.ClassDistance : AssumedClassDistance),
            FrameDistance = Math.Max(LeastFrameDistance, calibration.FrameDistance),
        };
    }

    /// <summary>Without a calibration: the source statistics, and what is usual around them.</summary>
    /// <param name="site">The site.</param>
    /// <param name="place">Its place among the method's sites.</param>
    /// <param name="sites">How many those are.</param>
    /// <param name="isCoarse">Whether it sees so few pixels that frames' means vary more.</param>
    public static SiteNormal Assumed(NormalizationSite site, int place, int sites, bool isCoarse)
    {
        var share = isCoarse && place >= sites / 2 ? AssumedCoarseMeanShare : AssumedMeanShare;
        return new SiteNormal(
            site,
            site.Mean,
            site.Variance,
            Array.ConvertAll(site.Variance, value => share * (value + site.Epsilon)),
            Array.ConvertAll(site.Variance, value => AssumedVarianceSpread * (value + site.Epsilon) * (value + site.Epsilon)))
        {
            ClassDistance = place < sites - AssumedLastSites ? AssumedClassDistance : AssumedLastClassDistance,
        };
    }

    /// <summary>D: how far moments are from others, in units of how far frames are from each other.</summary>
    public float Distance(ReadOnlySpan<float> mean, ReadOnlySpan<float> otherMean, ReadOnlySpan<float> variance, ReadOnlySpan<float> otherVariance) =>
        (WeightedSquares(mean, otherMean, InverseMeanVariance) + WeightedSquares(variance, otherVariance, InverseVarianceVariance)) / (2 * mean.Length);

    /// <summary>D less what one class explains: the distance from the class that is nearest, or from the furthest as far as that may be where classes' moments are not
    /// known.</summary>
    /// <param name="distance">D.</param>
    /// <param name="meanShift">Of the means, [C].</param>
    /// <param name="varianceShift">Of the variances within frames, [C].</param>
    /// <param name="variance">The stream's expected variance s, [C]: its classes lie as much further apart as its pixels do.</param>
    public float Unexplained(float distance, ReadOnlySpan<float> meanShift, ReadOnlySpan<float> varianceShift, ReadOnlySpan<float> variance)
    {
        if (ClassMean.Length == 0)
        {
            return distance - FurthestClass;
        }

        var channels = Site.Channels;
        var rented = ArrayPool<float>.Shared.Rent(3 * channels);
        var spread = rented.AsSpan(0, channels);
        var root = rented.AsSpan(channels, channels);
        var expected = rented.AsSpan(2 * channels, channels);
        TensorPrimitives.Add(variance, Site.Epsilon, spread);
        TensorPrimitives.Multiply(spread, InverseSpread, spread);
        TensorPrimitives.Sqrt(spread, root);
        var least = 2 * channels * distance;
        for (var at = 0; at < ClassMean.Length; at += channels)
        {
            TensorPrimitives.Multiply(ClassMean.AsSpan(at, channels), root, expected);
            var ofMean = WeightedSquares(meanShift, expected, InverseMeanVariance);
            if (ofMean < least)
            {
                TensorPrimitives.Multiply(ClassVariance.AsSpan(at, channels), spread, expected);
                least = Math.Min(least, ofMean + WeightedSquares(varianceShift, expected, InverseVarianceVariance));
            }
        }

        ArrayPool<float>.Shared.Return(rented);
        return least / (2 * channels);
    }

    /// <summary>sum_c (a - b)^2 weight.</summary>
    public static float WeightedSquares(ReadOnlySpan<float> a, ReadOnlySpan<float> b, ReadOnlySpan<float> weights)
    {
        var lanes = Vector<float>.Count;
        var (sums, i) = (Vector<float>.Zero, 0);
        ref var left = ref MemoryMarshal.GetReference(a);
        ref var right = ref MemoryMarshal.GetReference(b[..a.Length]);
        ref var weight = ref MemoryMarshal.GetReference(weights[..a.Length]);
        for (; i + lanes <= a.Length; i += lanes)
        {
            var difference = Vector.LoadUnsafe(ref left, (nuint)i) - Vector.LoadUnsafe(ref right, (nuint)i);
            sums += difference * difference * Vector.LoadUnsafe(ref weight, (nuint)i);
        }

        var sum = Vector.Sum(sums);
        for (; i < a.Length; i++)
        {
            sum += (a[i] - b[i]) * (a[i] - b[i]) * weights[i];
        }

        return sum;
    }
}

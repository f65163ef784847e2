using System.Numerics;

namespace TtaService.Engine.Normalization;

/// <summary>What a site knows of its input, and how far a frame may lie from it before it teaches nothing.</summary>
/// <remarks>A channel's spread is the source's deviation, at least a tenth of the site's: a channel that is dead in the source has none of its own.</remarks>
internal sealed class SiteRange
{
    // Of the site's mean variance.
    private const float LeastShare = 0.01f;

    private const float LeastScale = 1e-3f;

    private readonly float[] _center;
    private readonly float[] _inverse;
    private readonly float[] _low;
    private readonly float[] _high;
    private readonly float[] _most;

    public SiteRange(NormalizationSite site, double range)
    {
        Site = site;
        LeastVariance = Math.Max(site.Epsilon, LeastShare * site.Variance.Average());
        _center = site.Mean;
        var spread = Array.ConvertAll(site.Variance, variance => Math.Max(variance + site.Epsilon, LeastVariance));
        _inverse = Array.ConvertAll(spread, value => 1 / value);
        _low = [.. spread.Select((value, c) => site.Mean[c] - (float)(range * Math.Sqrt(value)))];
        _high = [.. spread.Select((value, c) => site.Mean[c] + (float)(range * Math.Sqrt(value)))];
        _most = Array.ConvertAll(spread, value => (float)Math.Min(range * range * value, float.MaxValue));
        EnergyLimit = (float)(range * range / 2);
        // The site's output has a deviation of |scale|; a channel that the source switched off may still be learned.
        var typical = Math.Max(LeastScale, site.Weight.Average(Math.Abs));
        var reach = Array.ConvertAll(site.Weight, weight => (float)(range * Math.Max(Math.Abs(weight), typical)));
        AffineReach = [.. reach, .. reach];
    }

    /// <summary>The site.</summary>
    public NormalizationSite Site { get; }

    /// <summary>Below this a variance says nothing.</summary>
    public float LeastVariance { get; }

    /// <summary>The energy above which a frame lies outside at this site.</summary>
    public float EnergyLimit { get; }

    /// <summary>One over the squared spread, [C].</summary>
    public float[] Inverse => _inverse;

    /// <summary>The least mean that is taken, [C].</summary>
    public float[] Low => _low;

    /// <summary>The largest mean that is taken, [C].</summary>
    public float[] High => _high;

    /// <summary>The largest variance that is taken, [C].</summary>
    public float[] Most => _most;

    /// <summary>How far a stream's own scale and bias may go from the source's, [2C]: as many deviations of the site's output.</summary>
    public float[] AffineReach { get; }

    /// <summary>Mean over channels of (v + (m - M)^2) / V: 1 on the data that the source was trained with. Not a number where the frame's statistics are none.</summary>
    public float Energy(ReadOnlySpan<float> mean, ReadOnlySpan<float> variance)
    {
        var total = Vector<float>.Zero;
        var c = 0;
        for (; c + Vector<float>.Count <= _center.Length; c += Vector<float>.Count)
        {
            var d = new Vector<float>(mean[c..]) - new Vector<float>(_center, c);
            total += (new Vector<float>(variance[c..]) + (d * d)) * new Vector<float>(_inverse, c);
        }

        var sum = Vector.Sum(total);
        for (; c < _center.Length; c++)
        {
            var d = mean[c] - _center[c];
            sum += (variance[c] + (d * d)) * _inverse[c];
        }

        return sum / _center.Length;
    }

    /// <summary>Brings a frame's statistics into the range; what is no number becomes the source's mean and the largest variance.</summary>
    public void Clip(Span<float> mean, Span<float> variance)
    {
        for (var c = 0; c < _center.Length; c++)
        {
            mean[c] = float.IsNaN(mean[c]) ? _center[c] : Math.Clamp(mean[c], _low[c], _high[c]);
            variance[c] = variance[c] <= _most[c] ? variance[c] : _most[c];
        }
    }

    /// <summary>How badly statistics describe a frame: twice the Kullback-Leibler divergence of the frame's Gaussians from theirs, mean over the channels.</summary>
    public double Misfit(ReadOnlySpan<float> instanceMean, ReadOnlySpan<float> instanceVariance, ReadOnlySpan<float> mean, ReadOnlySpan<float> variance)
    {
        double sum = 0;
        for (var c = 0; c < _center.Length; c++)
        {
            var d = instanceMean[c] - mean[c];
            var (own, used) = ((double)instanceVariance[c] + LeastVariance, (double)variance[c] + LeastVariance);
            sum += ((own + ((double)d * d)) / used) - 1 - Math.Log(own / used);
        }

        return sum / _center.Length;
    }
}

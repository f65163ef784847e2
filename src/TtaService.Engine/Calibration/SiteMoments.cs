using TtaService.Engine.Normalization;

namespace TtaService.Engine.Calibration;

/// <summary>Sums over frames at one site, in float64 and around the source statistics, so that nothing cancels.</summary>
internal sealed class SiteMoments
{
    // With too many classes to keep their moments, the share that they explain is taken from so many channels.
    private const int SampledChannels = 32;
    private const int Blocks = 64;
    private const int FirstBlockFrames = 4;

    private readonly NormalizationSite _site;
    private readonly int[] _classChannels;
    private readonly double[] _mean;
    private readonly double[] _meanSquare;
    private readonly double[] _variance;
    private readonly double[] _varianceSquare;
    private readonly double[] _classMean;
    private readonly double[] _classVariance;

    // Means of neighbouring frames: their spread shows how sure the mean is, also where neighbours are alike.
    private readonly double[] _blocks;
    private int _blockFrames = FirstBlockFrames;
    private long _frames;

    public SiteMoments(NormalizationSite site, int classes)
    {
        _site = site;
        var c = site.Channels;
        HasEveryClass = classes <= ModelCalibration.MaxClassMoments;
        _classChannels = HasEveryClass || c <= SampledChannels
            ? [.. Enumerable.Range(0, c)]
            : [.. Enumerable.Range(0, SampledChannels).Select(i => (int)((long)i * c / SampledChannels))];
        (_mean, _meanSquare, _variance, _varianceSquare, _blocks) = (new double[c], new double[c], new double[c], new double[c], new double[Blocks * c]);
        (_classMean, _classVariance) = (new double[classes * _classChannels.Length], new double[classes * _classChannels.Length]);
    }

    public NormalizationSite Site => _site;

    /// <summary>Whether the moments of each class are kept for every channel.</summary>
    public bool HasEveryClass { get; }

    /// <summary>Takes a frame's moments, [C] each, and its class probabilities, [Q].</summary>
    public void Add(ReadOnlySpan<float> mean, ReadOnlySpan<float> variance, ReadOnlySpan<float> probabilities)
    {
        var block = Block();
        for (var c = 0; c < mean.Length; c++)
        {
            var (dm, dv) = ((double)mean[c] - _site.Mean[c], (double)variance[c] - _site.Variance[c]);
            _mean[c] += dm;
            _meanSquare[c] += dm * dm;
            _variance[c] += dv;
            _varianceSquare[c] += dv * dv;
            block[c] += dm;
        }

        for (var k = 0; k < probabilities.Length; k++)
        {
            for (var i = 0; i < _classChannels.Length; i++)
            {
                var c = _classChannels[i];
                _classMean[(k * _classChannels.Length) + i] += probabilities[k] * ((double)mean[c] - _site.Mean[c]);
                _classVariance[(k * _classChannels.Length) + i] += probabilities[k] * ((double)variance[c] - _site.Variance[c]);
            }
        }
    }

    /// <summary>The standard error of the channels' means, in deviations of a frame's: the root of their mean square.</summary>
    public double StandardError()
    {
        var (complete, channels) = ((int)(_frames / _blockFrames), _mean.Length);
        if (complete < 2)
        {
            return 1 / Math.Sqrt(Math.Max(1, _frames));
        }

        var sum = 0.0;
        for (var c = 0; c < channels; c++)
        {
            var (mean, square) = (0.0, 0.0);
            for (var b = 0; b < complete; b++)
            {
                var value = _blocks[(b * channels) + c] / _blockFrames;
                mean += value / complete;
                square += value * value / complete;
            }

            sum += Math.Max(0, square - (mean * mean)) / (complete - 1) / Spread(_mean[c], _meanSquare[c]);
        }

        return Math.Sqrt(sum / channels);
    }

    /// <summary>What is normal, of all frames so far.</summary>
    /// <param name="mass">Sum of each class's probabilities, [Q].</param>
    /// <param name="massSquare">Sum of their squares, [Q].</param>
    /// <param name="sample">Moments of some of the frames, [C] each.</param>
    public SiteCalibration Complete(double[] mass, double[] massSquare, IEnumerable<(ArraySegment<float> Mean, ArraySegment<float> Variance)> sample)
    {
        var channels = _mean.Length;
        var (mean, variance) = (new float[channels], new float[channels]);
        var (meanVariance, varianceVariance) = (new float[channels], new float[channels]);
        for (var c = 0; c < channels; c++)
        {
            mean[c] = (float)(_site.Mean[c] + (_mean[c] / _frames));
            variance[c] = (float)(_site.Variance[c] + (_variance[c] / _frames));
            meanVariance[c] = (float)Spread(_mean[c], _meanSquare[c]);
            varianceVariance[c] = (float)Spread(_variance[c], _varianceSquare[c]);
        }

        var (classMean, classVariance) = (Centred(_classMean, _mean, mass), Centred(_classVariance, _variance, mass));
        var (share, distance) = Explained(classMean, classVariance, meanVariance, varianceVariance, mass, massSquare);
        var distances = sample.Select(frame => Distance(frame.Mean, frame.Variance, mean, variance, meanVariance, varianceVariance)).Order().ToArray();
        return new SiteCalibration
        {
            Mean = mean,
            MeanVariance = meanVariance,
            Variance = variance,
            VarianceVariance = varianceVariance,
            ClassMean = HasEveryClass ? classMean : [],
            ClassVariance = HasEveryClass ? classVariance : [],
            ClassShare = share,
            ClassDistance = distance,
            FrameDistance = (float)Quantile(distances, 0.95),
        };
    }

    /// <summary>A quantile of ascending values, between two of them in proportion.</summary>
    internal static double Quantile(double[] ascending, double share)
    {
        var at = share * (ascending.Length - 1);
        var below = (int)at;
        return below + 1 < ascending.Length ? ascending[below] + ((at - below) * (ascending[below + 1] - ascending[below])) : ascending[below];
    }

    private Span<double> Block()
    {
        var channels = _mean.Length;
        if (_frames == (long)Blocks * _blockFrames)
        {
            for (var b = 0; b < Blocks; b++)
            {
                for (var c = 0; c < channels; c++)
                {
                    _blocks[(b * channels) + c] = b < Blocks / 2 ? _blocks[(2 * b * channels) + c] + _blocks[(((2 * b) + 1) * channels) + c] : 0;
                }
            }

            _blockFrames *= 2;
        }

        return _blocks.AsSpan((int)(_frames++ / _blockFrames) * channels, channels);
    }

    private double Spread(double sum, double squares) => Math.Max((squares / _frames) - (sum / _frames * (sum / _frames)), SiteCalibration.LeastVariance);

    // (sum p x) / (sum p) - mean x; 0 for a class that was never predicted.
    private float[] Centred(double[] sums, double[] all, double[] mass)
    {
        var width = _classChannels.Length;
        var centred = new float[sums.Length];
        for (var i = 0; i < sums.Length; i++)
        {
            var k = i / width;
            centred[i] = (float)((sums[i] - (mass[k] * all[_classChannels[i % width]] / _frames)) / Math.Max(mass[k], 1e-6));
        }

        return centred;
    }

    // Less what classes of so few frames would explain by chance.
    private (float Share, float Distance) Explained(float[] classMean, float[] classVariance, float[] meanVariance, float[] varianceVariance, double[] mass, double[] massSquare)
    {
        var (share, distance, chance, width) = (0.0, 0.0, -1.0 / _frames, _classChannels.Length);
        for (var k = 0; k < mass.Length; k++)
        {
            var (byMean, byVariance) = (0.0, 0.0);
            for (var i = 0; i < width; i++)
            {
                var (c, dm) = (_classChannels[i], (double)classMean[(k * width) + i]);
                var dv = classVariance[(k * width) + i] + (dm * dm);
                byMean += dm * dm / meanVariance[c] / width;
                byVariance += dv * dv / varianceVariance[c] / width;
            }

            var prior = mass[k] / _frames;
            share += prior * byMean;
            distance += prior * (byMean + byVariance) / 2;
            chance += mass[k] > 0 ? prior * massSquare[k] / (mass[k] * mass[k]) : 0;
        }

        return mass.Length == 0 ? (0, 0) : ((float)Math.Clamp((share - chance) / (1 - chance), 0, 1), (float)Math.Max(distance - chance, 0));
    }

    private static double Distance(ReadOnlySpan<float> m, ReadOnlySpan<float> v, float[] mean, float[] variance, float[] meanVariance, float[] varianceVariance)
    {
        var sum = 0.0;
        for (var c = 0; c < mean.Length; c++)
        {
            var (dm, dv) = ((double)m[c] - mean[c], (double)v[c] - variance[c]);
            sum += (dm * dm / meanVariance[c]) + (dv * dv / varianceVariance[c]);
        }

        return sum / (2 * mean.Length);
    }
}

using System.Numerics;
using TtaService.Engine.Normalization;
using TtaService.Engine.Streams;

namespace TtaService.Engine.Drift;

/// <summary>What the sites of a model saw of each stream lately: a moving average of the instance statistics, the same for every method.</summary>
/// <remarks>With a frame's instance mean m and variance v and the weight w = 1/min(t, tau) of its t-th frame: d = m - M; V = (1-w)(V + w d^2) + w v; M += w d.
/// That is the average of v + m^2 less M^2, exactly, without the cancellation. State per site: observed_mean [C], observed_var [C]; at the last site also
/// feature_var [C], the spread of m between frames: B = (1-w)(B + w d^2). All float32.</remarks>
internal sealed class ObservedStatistics : IDisposable
{
    private const string MeanName = "observed_mean";
    private const string VarianceName = "observed_var";
    private const string FeatureName = "feature_var";

    private readonly ObservationOptions _options;
    private readonly ArenaPool _arenas;
    private readonly int _earlySites;
    private readonly int _lastSite;

    public ObservedStatistics(IReadOnlyList<NormalizationSite> sites, ObservationOptions options, ArenaPool arenas)
    {
        _options = options;
        Sites = sites;
        // Light, lens and weather show near the input, content does not.
        _earlySites = (sites.Count + 2) / 3;
        _lastSite = sites.Count - 1;
        Layout = new StateLayout(sites, TensorsAt);
        _arenas = arenas;
        Arena = arenas.Rent(Layout.RowFloats);
    }

    public IReadOnlyList<NormalizationSite> Sites { get; }

    public StateLayout Layout { get; }

    public StateArena Arena { get; }

    public ObservationOptions Options => _options;

    /// <summary>A site's part in a frame's novelty.</summary>
    public float NoveltyShare => 1f / _earlySites;

    /// <summary>Bytes of a stream's row.</summary>
    public long RowBytes => Arena.RowBytes;

    /// <summary>Whether a snapshot's tensor is an observation, which no method needs.</summary>
    public static bool IsTensor(string name) =>
        name.EndsWith("." + MeanName, StringComparison.Ordinal)
        || name.EndsWith("." + VarianceName, StringComparison.Ordinal)
        || name.EndsWith("." + FeatureName, StringComparison.Ordinal);

    /// <summary>Whether frames are told to be new by this site: one near the input.</summary>
    public bool ShowsNovelty(NormalizationSite site) => site.Index < _earlySites;

    /// <summary>Whether the spread between frames is kept at this site: the last one.</summary>
    public bool ShowsSpread(NormalizationSite site) => site.Index == _lastSite;

    /// <summary>The observed mean, [C].</summary>
    public ReadOnlySpan<float> Mean(NormalizationSite site, ReadOnlySpan<float> row) => row.Slice(Layout.At(site).Offset, site.Channels);

    /// <summary>The observed variance, [C].</summary>
    public ReadOnlySpan<float> Variance(NormalizationSite site, ReadOnlySpan<float> row) => row.Slice(Layout.At(site).Offset + site.Channels, site.Channels);

    /// <summary>The variance between frames of the last site's means, [C].</summary>
    public ReadOnlySpan<float> FeatureVariance(ReadOnlySpan<float> row)
    {
        var site = Sites[_lastSite];
        return row.Slice(Layout.At(site).Offset + (2 * site.Channels), site.Channels);
    }

    /// <summary>Folds the frames of a step in, one after another.</summary>
    /// <param name="site">The site.</param>
    /// <param name="framesBefore">Frames observed before the step.</param>
    /// <param name="instanceMean">m, [n,C].</param>
    /// <param name="instanceVariance">v, [n,C].</param>
    /// <param name="row">The observation before the step.</param>
    /// <param name="next">The proposed one.</param>
    /// <param name="novelty">[n]; gains how far each frame is from what was observed before it, at the sites near the input: mean over channels of d^2 / V.</param>
    public void Observe(
        NormalizationSite site,
        long framesBefore,
        ReadOnlySpan<float> instanceMean,
        ReadOnlySpan<float> instanceVariance,
        ReadOnlySpan<float> row,
        Span<float> next,
        Span<float> novelty)
    {
        var channels = site.Channels;
        var (offset, length) = Layout.At(site);
        var state = next.Slice(offset, length);
        row.Slice(offset, length).CopyTo(state);
        var mean = state[..channels];
        var variance = state.Slice(channels, channels);
        for (var frame = 0; frame < novelty.Length; frame++)
        {
            var m = instanceMean.Slice(frame * channels, channels);
            var weight = 1f / Math.Min(framesBefore + frame + 1, _options.Tau);
            if (ShowsNovelty(site) && framesBefore + frame > 0)
            {
                novelty[frame] += Novelty(m, mean, variance, site.Epsilon) * NoveltyShare;
            }

            if (ShowsSpread(site))
            {
                Spread(m, mean, weight, state[(2 * channels)..]);
            }

            Fold(m, instanceVariance.Slice(frame * channels, channels), weight, mean, variance);
        }
    }

    public void Dispose() => _arenas.Return(Arena);

    private StateTensor[] TensorsAt(NormalizationSite site)
    {
        StateTensor[] tensors = [new(MeanName, [site.Channels]), new(VarianceName, [site.Channels])];
        return site.Index == _lastSite ? [.. tensors, new(FeatureName, [site.Channels])] : tensors;
    }

    private static void Fold(ReadOnlySpan<float> m, ReadOnlySpan<float> v, float weight, Span<float> mean, Span<float> variance)
    {
        var rest = 1 - weight;
        var lanes = Vector<float>.Count;
        var c = 0;
        for (; c + lanes <= mean.Length; c += lanes)
        {
            var old = new Vector<float>(mean[c..]);
            var d = new Vector<float>(m[c..]) - old;
            ((new Vector<float>(variance[c..]) + (d * d * weight)) * rest + (new Vector<float>(v[c..]) * weight)).CopyTo(variance[c..]);
            (old + (d * weight)).CopyTo(mean[c..]);
        }

        for (; c < mean.Length; c++)
        {
            var d = m[c] - mean[c];
            variance[c] = ((variance[c] + (d * d * weight)) * rest) + (v[c] * weight);
            mean[c] += d * weight;
        }
    }

    private static void Spread(ReadOnlySpan<float> m, ReadOnlySpan<float> mean, float weight, Span<float> spread)
    {
        for (var c = 0; c < spread.Length; c++)
        {
            var d = m[c] - mean[c];
            spread[c] = (1 - weight) * (spread[c] + (weight * d * d));
        }
    }

    private static float Novelty(ReadOnlySpan<float> m, ReadOnlySpan<float> mean, ReadOnlySpan<float> variance, float epsilon)
    {
        var sum = 0f;
        for (var c = 0; c < m.Length; c++)
        {
            var d = m[c] - mean[c];
            sum += d * d / (variance[c] + epsilon);
        }

        return sum / m.Length;
    }
}

/// <summary>Where a step's observation is read and proposed.</summary>
internal readonly unsafe struct StepObservation(ObservedStatistics statistics, long framesBefore, float* row, float* nextRow, float* novelty)
{
    /// <summary>False when the step is not observed.</summary>
    public bool Observes => statistics is not null;

    public void At(NormalizationSite site, ReadOnlySpan<float> instanceMean, ReadOnlySpan<float> instanceVariance, int frames)
    {
        var floats = statistics.Layout.RowFloats;
        statistics.Observe(
            site,
            framesBefore,
            instanceMean,
            instanceVariance,
            new ReadOnlySpan<float>(row, floats),
            new Span<float>(nextRow, floats),
            new Span<float>(novelty, frames));
    }
}

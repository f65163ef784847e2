using System.Numerics;
using TtaService.Engine.Execution;
using TtaService.Engine.Normalization;
using TtaService.Engine.Streams;

namespace TtaService.Engine.Drift;

/// <summary>Compares the observed statistics of streams with the source's. Used on the model's thread.</summary>
/// <remarks>Per site, over live channels (source variance above 1e-5 of the site's median), variances + the site's epsilon, d = M_o - M_s:
/// gaussian_kl = mean_c[((V_o + d^2)/V_s + (V_s + d^2)/V_o)/4 - 1/2]; wasserstein = mean_c[sqrt(d^2 + (S_o - S_s)^2) / S_s];
/// score = the largest gaussian_kl / limit of the sites, over what that reaches on normal frames with the same method: what a site sees depends on how the sites before
/// it adapt.</remarks>
public sealed class DriftMonitor
{
    private const float DeadShare = 1e-5f;

    private readonly AdaptiveModel _model;
    private readonly ObservedStatistics _observed;
    private readonly SourceStatistics[] _sources;
    private readonly DriftReference? _reference;

    /// <param name="model">A model that observes.</param>
    /// <param name="reference">What is normal for it; null when it was not calibrated.</param>
    /// <exception cref="DriftReferenceException">The reference is of another model, or of another window.</exception>
    public DriftMonitor(AdaptiveModel model, DriftReference? reference)
    {
        _model = model;
        _observed = model.Pass.Observed ?? throw new ArgumentException("the model does not observe its streams", nameof(model));
        _sources = [.. model.Sites.Select(site => new SourceStatistics(site))];
        _reference = reference;
        if (reference is not null && WhyUnfit(model, reference) is { } reason)
        {
            throw new DriftReferenceException($"{reason}; make {DriftReference.FileName} again with tta calibrate");
        }
    }

    /// <summary>What is normal; null when the model was not calibrated.</summary>
    public DriftReference? Reference => _reference;

    /// <summary>The normalization sites, in execution order.</summary>
    public IReadOnlyList<NormalizationSite> Sites => _model.Sites;

    /// <summary>Reads a stream; null when it is not resident or nothing was observed of it yet.</summary>
    public DriftReading? TryRead(StreamState state) => state is { IsResident: true, ObservedFrames: > 0 } ? Read(state) : null;

    /// <summary>Reads one resident stream.</summary>
    public DriftReading Read(StreamState state)
    {
        if (!_model.Resident.Contains(state))
        {
            throw new ArgumentException("the stream's state is not resident here", nameof(state));
        }

        var normal = _reference?.Of(state.Method.Name);
        var row = _observed.Arena.Read(state.ObservedRow);
        var kl = new float[_sources.Length];
        var wasserstein = new float[_sources.Length];
        for (var i = 0; i < _sources.Length; i++)
        {
            var site = _model.Sites[i];
            (kl[i], wasserstein[i]) = _sources[i].Compare(_observed.Mean(site, row), _observed.Variance(site, row));
        }

        return new DriftReading
        {
            Frames = state.ObservedFrames,
            Steps = state.Steps,
            GaussianKl = kl,
            Wasserstein = wasserstein,
            Score = normal is null ? null : RawScore(normal.Sites, kl) / normal.ScoreLimit,
            FeatureSpread = _sources[^1].Spread(_observed.FeatureVariance(row)) / (normal?.FeatureSpread ?? 1),
            TestWeight = Mean(state, (method, site, tensors) => method.TestWeight(site, tensors)),
            OccupancyEntropy = Mean(state, (method, site, tensors) => method.OccupancyEntropy(site, tensors)),
            ChangedAtStep = state.Changes.ChangedAtStep,
        };
    }

    private delegate double? SiteFigure(INormalizationMethod method, NormalizationSite site, ReadOnlySpan<float> state);

    // Over the sites where the method decides.
    private double? Mean(StreamState state, SiteFigure figure)
    {
        var (runtime, sum, count) = (state.Runtime!, 0.0, 0);
        ReadOnlySpan<float> row = runtime.Layout.RowFloats == 0 ? [] : runtime.Arena.Read(state.Row);
        foreach (var site in _model.Sites)
        {
            var (offset, length) = runtime.Layout.At(site);
            if (runtime.Adapts(site) && Figure(runtime, figure, site, row.Slice(offset, length)) is { } value)
            {
                sum += value;
                count++;
            }
        }

        return count == 0 ? null : sum / count;
    }

    // For watching only: a method that fails at it has no such figure.
    private static double? Figure(MethodRuntime runtime, SiteFigure figure, NormalizationSite site, ReadOnlySpan<float> state)
    {
        try
        {
            return figure(runtime.Method, site, state) is { } value && double.IsFinite(value) ? value : null;
        }
        catch (Exception fault) when (runtime.IsForeign && MethodFault.IsOwn(fault))
        {
            return null;
        }
    }

    /// <summary>How far a stream is from the source: the largest of its sites' Gaussian KL divergences, each divided by what is normal there; not yet divided by a method's
    /// limit.</summary>
    /// <remarks>The largest and not the mean: a fine corruption shows at a few sites, and a camera's content spreads over all of them alike.</remarks>
    /// <param name="sites">What is normal, in site order.</param>
    /// <param name="kl">A value a site.</param>
    public static double RawScore(IReadOnlyList<SiteReference> sites, ReadOnlySpan<float> kl)
    {
        var largest = 0.0;
        for (var i = 0; i < kl.Length; i++)
        {
            largest = Math.Max(largest, kl[i] / sites[i].Limit);
        }

        return largest;
    }

    private static string? WhyUnfit(AdaptiveModel model, DriftReference reference) =>
        reference.Model != model.Digest ? $"the drift reference belongs to model {reference.Model}, this model is {model.Digest}"
        : reference.Tau != model.Observation!.Tau ? $"the drift reference was made with a window of {reference.Tau} frames, this one is {model.Observation.Tau}"
        : reference.Methods.Values.Any(method => !method.Sites.Select(site => site.Name).SequenceEqual(model.Sites.Select(site => site.Name)))
            ? "the drift reference names other normalization sites than the model has"
        : null;

    /// <summary>A site's source statistics, ready to be compared with.</summary>
    private sealed class SourceStatistics
    {
        private readonly float _epsilon;
        private readonly float[] _mean;
        private readonly float[] _variance;
        private readonly float[] _deviation;

        // 1 / live channels, 0 for a dead one.
        private readonly float[] _weight;

        public SourceStatistics(NormalizationSite site)
        {
            _epsilon = site.Epsilon;
            _mean = site.Mean;
            _variance = Array.ConvertAll(site.Variance, value => value + site.Epsilon);
            _deviation = Array.ConvertAll(_variance, MathF.Sqrt);
            var median = site.Variance.Order().ElementAt(site.Channels / 2);
            var live = site.Variance.Count(value => value > DeadShare * median);
            _weight = Array.ConvertAll(site.Variance, value => value > DeadShare * median ? 1f / live : 0);
        }

        public (float GaussianKl, float Wasserstein) Compare(ReadOnlySpan<float> mean, ReadOnlySpan<float> variance)
        {
            var lanes = Vector<float>.Count;
            var kl = Vector<float>.Zero;
            var wasserstein = Vector<float>.Zero;
            var half = new Vector<float>(0.5f);
            var quarter = new Vector<float>(0.25f);
            var c = 0;
            for (; c + lanes <= _mean.Length; c += lanes)
            {
                var vs = new Vector<float>(_variance, c);
                var vo = new Vector<float>(variance[c..]) + new Vector<float>(_epsilon);
                var ss = new Vector<float>(_deviation, c);
                var weight = new Vector<float>(_weight, c);
                var d = new Vector<float>(mean[c..]) - new Vector<float>(_mean, c);
                var square = d * d;
                kl += weight * (((((vo + square) / vs) + ((vs + square) / vo)) * quarter) - half);
                var ds = Vector.SquareRoot(vo) - ss;
                wasserstein += weight * (Vector.SquareRoot(square + (ds * ds)) / ss);
            }

            var (klSum, wassersteinSum) = (Vector.Sum(kl), Vector.Sum(wasserstein));
            for (; c < _mean.Length; c++)
            {
                var (vs, vo, ss) = (_variance[c], variance[c] + _epsilon, _deviation[c]);
                var d = mean[c] - _mean[c];
                klSum += _weight[c] * (((((vo + (d * d)) / vs) + ((vs + (d * d)) / vo)) / 4) - 0.5f);
                var ds = MathF.Sqrt(vo) - ss;
                wassersteinSum += _weight[c] * MathF.Sqrt((d * d) + (ds * ds)) / ss;
            }

            return (klSum, wassersteinSum);
        }

        public float Spread(ReadOnlySpan<float> between)
        {
            var sum = 0f;
            for (var c = 0; c < between.Length; c++)
            {
                sum += _weight[c] * MathF.Sqrt(between[c]) / _deviation[c];
            }

            return sum;
        }
    }
}

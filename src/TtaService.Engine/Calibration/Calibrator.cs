using System.Numerics.Tensors;
using TtaService.Engine.Execution;
using TtaService.Engine.Normalization;
using TtaService.Engine.Onnx;

namespace TtaService.Engine.Calibration;

/// <summary>Measures a <see cref="ModelCalibration"/> from unlabelled frames, in blocks of any size. Not thread-safe; on the model's thread.</summary>
/// <param name="model">The model; its streams are not touched.</param>
public sealed class Calibrator(AdaptiveModel model)
{
    /// <summary>Least frames of a calibration.</summary>
    public const int MinFrames = 64;

    /// <summary>The standard error below which more frames would not help: a stream's own statistics, of at most 1,280 frames, are no surer.</summary>
    public const double EnoughError = 0.028;

    // Frames whose moments are kept for the quantile of their distances; a fair sample of them where there are more.
    private const int SampleBytes = 64 << 20;

    private readonly List<SiteMoments> _sites = [];
    private readonly List<double> _entropies = [];
    private readonly List<float[]> _sample = [];
    private readonly Random _random = new(0);
    private double[] _mass = [];
    private double[] _massSquare = [];

    /// <summary>Frames seen.</summary>
    public long Frames { get; private set; }

    /// <summary>The largest standard error over sites of the channels' means, in deviations of a frame's mean; infinite before the first frame.</summary>
    public double StandardError => _sites.Count == 0 ? double.PositiveInfinity : _sites.Max(site => site.StandardError());

    /// <summary>By site, in execution order, the standard error of its channels' means, in deviations of a frame's mean.</summary>
    public IReadOnlyList<(NormalizationSite Site, double Error)> StandardErrors => [.. _sites.Select(site => (site.Site, site.StandardError()))];

    /// <summary>Runs frames through the model as it was trained and takes their statistics.</summary>
    /// <exception cref="CalibrationException">The frames do not fit the model, or what it made of them is not finite.</exception>
    public void Observe(FrameBlock frames)
    {
        if (model.WhyUnfit(frames) is { } reason)
        {
            throw new CalibrationException(reason);
        }

        var clips = frames.AsClips(model.ClipFrames);
        foreach (var parts in PassSchedule.Of([clips.Count], model.Pass.Plan.FramesPerPass))
        {
            ObservePart(clips.Slice(parts[0].First, parts[0].Count));
        }
    }

    private void ObservePart(FrameBlock frames)
    {
        var filling = Enumerable.Repeat(frames.Slice(frames.Count - 1, 1), model.Pass.Filled(frames.Count));
        var computed = model.Pass.Plan.Computed(frames.Count);
        var pass = new CalibrationPass(computed, model.Pass.Plan.AtSource);
        OutputTensor[] outputs;
        try
        {
            outputs = model.Pass.Forward([frames, .. filling], computed, _ => pass);
        }
        catch (PassException impossible)
        {
            throw new CalibrationException(impossible.Message, impossible);
        }

        var scores = ClassScores.Of(outputs, computed, model.Scores);
        var classes = scores.Length / computed;
        scores = scores[..(frames.Count * classes)];
        if (Frames == 0)
        {
            Begin(pass, classes);
        }

        if (classes != _mass.Length || _sites.Exists(site => pass.At(site.Site) is null))
        {
            throw new CalibrationException("the model answers frames of this size in another shape than those before; calibrate with frames of one size");
        }

        // IsFiniteAll says no of nothing.
        var moments = _sites.ConvertAll(site => pass.At(site.Site)!.Value);
        var finite = (scores.IsEmpty || TensorPrimitives.IsFiniteAll<float>(scores))
            && moments.TrueForAll(at => TensorPrimitives.IsFiniteAll<float>(at.Mean) && TensorPrimitives.IsFiniteAll<float>(at.Variance));
        if (!finite)
        {
            throw new CalibrationException($"a frame after the first {Frames} gives values that are not finite; leave it out");
        }

        var all = new float[scores.Length];
        ClassScores.ToProbabilities(model.Scores?.Kind ?? OutputKind.Logits, scores, classes, all);
        for (var frame = 0; frame < frames.Count; frame++)
        {
            var probabilities = all.AsSpan(frame * classes, classes);
            if (classes > 0)
            {
                _entropies.Add(ClassScores.Entropy(probabilities));
            }

            for (var k = 0; k < classes; k++)
            {
                _mass[k] += probabilities[k];
                _massSquare[k] += (double)probabilities[k] * probabilities[k];
            }

            Take(pass, frame, probabilities);
        }
    }

    /// <summary>The calibration of the frames so far.</summary>
    /// <param name="created">The date to write.</param>
    /// <exception cref="CalibrationException">Too few frames.</exception>
    public ModelCalibration Complete(DateTimeOffset created)
    {
        if (Frames < MinFrames)
        {
            var what = model.ClipFrames == 1 ? "frames" : $"clips of {model.ClipFrames} frames";
            throw new CalibrationException($"a calibration needs {MinFrames} {what} and more, there are {Frames}; a few hundred of an ordinary day are good");
        }

        var entropies = _entropies.Order().ToArray();
        var (sites, at) = (new Dictionary<string, SiteCalibration>(StringComparer.Ordinal), 0);
        foreach (var site in _sites)
        {
            var (from, channels) = (at, site.Site.Channels);
            var moments = _sample.Select(frame => (new ArraySegment<float>(frame, from, channels), new ArraySegment<float>(frame, from + channels, channels)));
            sites[site.Site.Name] = site.Complete(_mass, _massSquare, moments);
            at += 2 * channels;
        }

        return new ModelCalibration
        {
            Model = model.Digest,
            Frames = Frames,
            Created = created,
            Prior = Array.ConvertAll(_mass, mass => (float)(mass / Frames)),
            Entropy = entropies.Length == 0
                ? []
                : [.. Enumerable.Range(0, ModelCalibration.EntropyQuantiles).Select(i => (float)SiteMoments.Quantile(entropies, i / (ModelCalibration.EntropyQuantiles - 1.0)))],
            Sites = sites,
        };
    }

    private void Begin(CalibrationPass pass, int classes)
    {
        _sites.AddRange(model.Sites.Where(site => pass.At(site) is not null).Select(site => new SiteMoments(site, classes)));
        (_mass, _massSquare) = (new double[classes], new double[classes]);
        if (_sites.Count == 0)
        {
            throw new CalibrationException("the model has no normalization site that sees more than one value a channel, so there is nothing to calibrate");
        }
    }

    private void Take(CalibrationPass pass, int frame, ReadOnlySpan<float> probabilities)
    {
        var floats = _sites.Sum(site => 2 * site.Site.Channels);
        var capacity = Math.Max(MinFrames, SampleBytes / (sizeof(float) * floats));
        var place = Frames < capacity ? Frames : _random.NextInt64(Frames + 1);
        float[]? kept = place >= capacity ? null : new float[floats];
        var at = 0;
        foreach (var site in _sites)
        {
            var channels = site.Site.Channels;
            var (means, variances) = pass.At(site.Site)!.Value;
            var mean = means.AsSpan(frame * channels, channels);
            var variance = variances.AsSpan(frame * channels, channels);
            site.Add(mean, variance, probabilities);
            if (kept is not null)
            {
                mean.CopyTo(kept.AsSpan(at));
                variance.CopyTo(kept.AsSpan(at + channels));
            }

            at += 2 * channels;
        }

        if (kept is not null && place == _sample.Count)
        {
            _sample.Add(kept);
        }
        else if (kept is not null)
        {
            _sample[(int)place] = kept;
        }

        Frames++;
    }
}

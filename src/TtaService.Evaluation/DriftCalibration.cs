using TtaService.Engine.Drift;
using TtaService.Engine.Execution;
using TtaService.Engine.Normalization;

namespace TtaService.Evaluation;

/// <summary>Makes a <see cref="DriftReference"/> from in-distribution frames in stream order.</summary>
/// <param name="model">A model that observes.</param>
/// <param name="frames">The frames.</param>
public sealed class DriftCalibration(AdaptiveModel model, EvaluationFrames frames)
{
    /// <summary>Observed frames between two readings of a stream.</summary>
    public const int ReadingInterval = 32;

    // Of the readings' largest kl / limit, the share that a score of 1 leaves below it.
    private const double Quantile = 0.99;

    /// <summary>Runs every stream with every method and takes what they showed after the warm-up.</summary>
    /// <param name="streams">In-distribution frames, each list one stream in its order.</param>
    /// <param name="methods">The methods that the model will be served with: what a site sees depends on the sites before it.</param>
    /// <param name="batchSize">Frames a step.</param>
    /// <param name="created">The date to write.</param>
    /// <param name="progress">Hears of the frames of each stream that has ended.</param>
    /// <param name="cancel">Stops between two steps.</param>
    /// <exception cref="DriftReferenceException">The streams are too short, or a method did not run on them.</exception>
    public DriftReference Run(
        IReadOnlyList<IReadOnlyList<EvaluationSample>> streams,
        IReadOnlyList<MethodSettings> methods,
        int batchSize,
        DateTimeOffset created,
        IProgress<int>? progress = null,
        CancellationToken cancel = default)
    {
        var longest = streams.Max(stream => stream.Count);
        if (longest < 2 * model.Observation!.Tau)
        {
            throw new DriftReferenceException($"the longest stream has {longest} frames, a calibration needs {2 * model.Observation.Tau} and more (twice the window); give "
                + "more data, or fewer and longer streams");
        }

        return new DriftReference
        {
            Model = model.Digest,
            Created = created,
            Frames = streams.Sum(stream => (long)stream.Count),
            Streams = streams.Count,
            Tau = model.Observation.Tau,
            Methods = methods.ToDictionary(method => method.Name, method => Run(streams, method, batchSize, progress, cancel), StringComparer.Ordinal),
        };
    }

    private MethodReference Run(IReadOnlyList<IReadOnlyList<EvaluationSample>> streams, MethodSettings method, int batchSize, IProgress<int>? progress, CancellationToken cancel)
    {
        var monitor = new DriftMonitor(model, null);
        var predictions = new PredictionStatistics(int.MaxValue, model.Scores?.Kind ?? OutputKind.Logits);
        var readings = new List<DriftReading>();
        foreach (var stream in streams)
        {
            readings.AddRange(Follow(model, frames, monitor, method, stream, batchSize, predictions, cancel: cancel).Where(reading => reading.Frames >= model.Observation!.Tau));
            progress?.Report(stream.Count);
        }

        if (readings.Count < 2)
        {
            throw new DriftReferenceException($"{method.Name} did not run on steps of {batchSize} frames; choose another batch size, or leave the method out");
        }

        var sites = model.Sites.Select(site => Site(site, readings)).ToList();
        var raw = readings.Select(reading => DriftMonitor.RawScore(sites, reading.GaussianKl)).Order().ToList();
        return new MethodReference
        {
            ScoreLimit = raw[(int)(Quantile * (raw.Count - 1))],
            FeatureSpread = readings.Average(reading => reading.FeatureSpread),
            Entropy = predictions.Frames > 0 ? predictions.Entropy : null,
            Classes = [.. predictions.Classes.Select(share => Math.Round(share, 6))],
            Sites = sites,
        };
    }

    /// <summary>Runs one stream from a fresh state and reads it now and then.</summary>
    /// <remarks>Every <paramref name="interval"/> observed frames; of a <c>source</c> stream, not every frame is observed.</remarks>
    internal static IEnumerable<DriftReading> Follow(
        AdaptiveModel model,
        EvaluationFrames frames,
        DriftMonitor monitor,
        MethodSettings method,
        IReadOnlyList<EvaluationSample> stream,
        int batchSize,
        PredictionStatistics? predictions = null,
        int interval = ReadingInterval,
        CancellationToken cancel = default)
    {
        var state = model.CreateState(method);
        try
        {
            var nextReading = (long)interval;
            foreach (var samples in stream.Chunk(batchSize))
            {
                cancel.ThrowIfCancellationRequested();
                var result = model.Run([new StreamStep(state, frames.Read(samples))])[0];
                if (result.Status == StepStatus.Ok && predictions is not null && model.Scores is { Classes: { } classes } scores)
                {
                    for (var i = 0; i < samples.Length; i++)
                    {
                        predictions.Observe(result.Outputs[scores.Index].Values.AsSpan(i * classes, classes));
                    }
                }

                if (state.ObservedFrames >= nextReading)
                {
                    nextReading = state.ObservedFrames + interval;
                    yield return monitor.Read(state);
                }
            }
        }
        finally
        {
            model.Release(state);
        }
    }

    private static SiteReference Site(NormalizationSite site, List<DriftReading> readings)
    {
        var (kl, klStd) = Moments(readings, reading => reading.GaussianKl[site.Index]);
        var (wasserstein, wassersteinStd) = Moments(readings, reading => reading.Wasserstein[site.Index]);
        return new SiteReference(site.Name, kl, klStd, wasserstein, wassersteinStd);
    }

    private static (double Mean, double Std) Moments(List<DriftReading> readings, Func<DriftReading, double> value)
    {
        var mean = readings.Average(value);
        return (mean, Math.Sqrt(readings.Average(reading => (value(reading) - mean) * (value(reading) - mean))));
    }
}

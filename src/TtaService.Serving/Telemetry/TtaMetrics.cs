using System.Collections.Concurrent;
using System.Diagnostics;
using System.Diagnostics.Metrics;
using Microsoft.Extensions.Options;
using TtaService.Engine.Execution;
using TtaService.Serving.Loops;
using TtaService.Serving.Streams;

namespace TtaService.Serving.Telemetry;

/// <summary>How full a model is, when somebody asks.</summary>
internal readonly record struct ModelLevels(string Model, long QueuedSteps, long QueueLimit, long ResidentStreams, long ArenaBytes, long ArenaLimit);

/// <summary>How a model's streams stand with the arena and the store, when somebody asks.</summary>
internal readonly record struct StreamLevels(string Model, long Cold, long Dirty, TimeSpan Lag);

/// <summary>All instruments of the service, a method an event. Thread-safe; what is recorded once a step does not allocate.</summary>
/// <remarks>
/// A stream's name is passed where an exemplar is to name it. It never becomes a label: the view of <see cref="MetricCatalogue"/>'s labels
/// leaves it out, and who reads the instruments in another way has to do the same.
/// </remarks>
internal sealed class TtaMetrics
{
    public const string MeterName = "TtaService";

    private const string WarmingUp = "warming_up";
    private const string Normal = "normal";
    private const string Warning = "warning";
    private const string Critical = "critical";

    private static readonly object[] Ranks = [.. Enumerable.Range(1, 10).Select(rank => rank.ToString(System.Globalization.CultureInfo.InvariantCulture))];

    private readonly Meter _meter;
    private readonly Histogram<double> _stepDuration;
    private readonly Histogram<double> _phaseDuration;
    private readonly Counter<long> _replayed;
    private readonly Histogram<long> _batchSize;
    private readonly Histogram<long> _batchSteps;
    private readonly Histogram<long> _frameSize;
    private readonly Counter<long> _frameRejected;
    private readonly Counter<long> _frameNotLearned;
    private readonly Counter<long> _transitions;
    private readonly Counter<long> _resets;
    private readonly Histogram<long> _stateAge;
    private readonly Histogram<double> _checkpointDuration;
    private readonly Histogram<long> _checkpointSize;
    private readonly Counter<long> _storeFailures;
    private readonly Counter<long> _storeDropped;
    private readonly Counter<long> _loopFailures;
    private readonly Histogram<double> _driftScore;
    private readonly Gauge<double> _driftRank;
    private readonly Gauge<double> _driftKl;
    private readonly Gauge<double> _driftWasserstein;
    private readonly Histogram<double> _occupancy;
    private readonly Histogram<double> _alpha;
    private readonly Histogram<double> _spread;
    private readonly Histogram<double> _sweepDuration;
    private readonly Gauge<double> _watchedDrift;
    private readonly Histogram<double> _entropy;
    private readonly Histogram<double> _labelShift;
    private readonly Histogram<double> _diversity;
    private readonly Counter<long> _shadowFrames;
    private readonly Histogram<double> _shadowEntropy;
    private readonly Counter<long> _skipped;
    private readonly Histogram<double> _rpcDuration;
    private readonly HashSet<string> _watched;
    private readonly ConcurrentDictionary<(string Model, string Method), long[]> _driftLevels = new();

    public TtaMetrics(IMeterFactory meters, IOptions<TelemetryOptions> options)
    {
        _watched = [.. TelemetryOptions.Names(options.Value.WatchedStreams)];
        _meter = meters.Create(MeterName);
        _stepDuration = Histogram<double>(MetricCatalogue.StepDuration);
        _phaseDuration = Histogram<double>(MetricCatalogue.StepPhaseDuration);
        _replayed = Counter(MetricCatalogue.StepReplayed);
        _batchSize = Histogram<long>(MetricCatalogue.BatchSize);
        _batchSteps = Histogram<long>(MetricCatalogue.BatchSteps);
        _frameSize = Histogram<long>(MetricCatalogue.FrameSize);
        _frameRejected = Counter(MetricCatalogue.FrameRejected);
        _frameNotLearned = Counter(MetricCatalogue.FrameNotLearned);
        _transitions = Counter(MetricCatalogue.StreamTransition);
        _resets = Counter(MetricCatalogue.StreamReset);
        _stateAge = Histogram<long>(MetricCatalogue.StreamStateAge);
        _checkpointDuration = Histogram<double>(MetricCatalogue.CheckpointDuration);
        _checkpointSize = Histogram<long>(MetricCatalogue.CheckpointSize);
        _storeFailures = Counter(MetricCatalogue.StoreFailure);
        _storeDropped = Counter(MetricCatalogue.StoreDropped);
        _loopFailures = Counter(MetricCatalogue.LoopFailure);
        _driftScore = Histogram<double>(MetricCatalogue.DriftScore);
        _driftRank = Gauge(MetricCatalogue.DriftRank);
        _driftKl = Gauge(MetricCatalogue.DriftGaussianKl);
        _driftWasserstein = Gauge(MetricCatalogue.DriftWasserstein);
        _occupancy = Histogram<double>(MetricCatalogue.OccupancyEntropy);
        _alpha = Histogram<double>(MetricCatalogue.AlphaEffective);
        _spread = Histogram<double>(MetricCatalogue.FeatureSpread);
        _sweepDuration = Histogram<double>(MetricCatalogue.DriftSweepDuration);
        _watchedDrift = Gauge(MetricCatalogue.WatchedDriftScore);
        _entropy = Histogram<double>(MetricCatalogue.PredictionEntropy);
        _labelShift = Histogram<double>(MetricCatalogue.LabelShift);
        _diversity = Histogram<double>(MetricCatalogue.Diversity);
        _shadowFrames = Counter(MetricCatalogue.ShadowFrame);
        _shadowEntropy = Histogram<double>(MetricCatalogue.ShadowEntropy);
        _skipped = Counter(MetricCatalogue.AdaptationSkipped);
        _rpcDuration = Histogram<double>(MetricCatalogue.RpcDuration);
        ObserveModels();
        ObserveStreams();
        ObserveLoops();
        Observe(MetricCatalogue.DriftStream, DriftLevels);
    }

    /// <summary>Reads how full the models are. Set once they are loaded.</summary>
    public Func<IEnumerable<ModelLevels>> ReadModels { get; set; } = static () => [];

    /// <summary>Reads how the streams stand with the arena and the store. Set once the models are loaded.</summary>
    public Func<IEnumerable<StreamLevels>> ReadStreams { get; set; } = static () => [];

    /// <summary>Reads how full the process is, 0 to 1. Set once the models are loaded.</summary>
    public Func<double>? ReadUtilization { get; set; }

    /// <summary>Reads how long ago the loops of the server got on, the longest of a kind.</summary>
    public Func<IEnumerable<(LoopKind Kind, TimeSpan Age, int Unwell)>> ReadLoops { get; set; } = static () => [];

    /// <summary>A step was answered or failed; <paramref name="failure"/> is null for an answer.</summary>
    public void StepCompleted(string model, string method, string stream, TimeSpan elapsed, FailureKind? failure)
    {
        if (!_stepDuration.Enabled)
        {
            return;
        }

        var tags = new TagList { { MetricCatalogue.Model, model }, { MetricCatalogue.Method, method } };
        if (failure is { } kind)
        {
            tags.Add(MetricCatalogue.ErrorType, Label<FailureKind>.Of(kind));
        }

        if (stream.Length > 0)
        {
            tags.Add(MetricCatalogue.Stream, stream);
        }

        _stepDuration.Record(Math.Max(0, elapsed.TotalSeconds), tags);
    }

    /// <summary>A step was answered from what the stream keeps.</summary>
    public void StepReplayed(string model) => _replayed.Add(1, new KeyValuePair<string, object?>(MetricCatalogue.Model, model));

    /// <summary>A step changed no state.</summary>
    public void AdaptationSkipped(string model, SkipCause cause) =>
        _skipped.Add(1, new KeyValuePair<string, object?>(MetricCatalogue.Model, model), new KeyValuePair<string, object?>(MetricCatalogue.SkipReason, Label<SkipCause>.Of(cause)));

    /// <summary>A forward pass ran. Decode and queue are the means of its steps.</summary>
    public void BatchCompleted(string model, int steps, int frames, TimeSpan decode, TimeSpan queue, PassTimes pass, TimeSpan postprocess)
    {
        var tag = new KeyValuePair<string, object?>(MetricCatalogue.Model, model);
        _batchSize.Record(frames, tag);
        _batchSteps.Record(steps, tag);
        if (_phaseDuration.Enabled)
        {
            PhaseTook(tag, StepPhase.Decode, decode);
            PhaseTook(tag, StepPhase.Queue, queue);
            PhaseTook(tag, StepPhase.Transfer, pass.Transfer);
            PhaseTook(tag, StepPhase.Forward, pass.Forward);
            PhaseTook(tag, StepPhase.Commit, pass.Commit);
            PhaseTook(tag, StepPhase.Postprocess, postprocess);
        }
    }

    /// <summary>An encoded frame came.</summary>
    public void FrameReceived(int bytes) => _frameSize.Record(bytes);

    /// <summary>A frame was refused.</summary>
    /// <param name="reason">The failure's reason.</param>
    public void FrameRefused(string reason) => _frameRejected.Add(1, new KeyValuePair<string, object?>(MetricCatalogue.RejectReason, RejectReasons.Of(reason)));

    /// <summary>A frame was answered and left state and observed statistics alone.</summary>
    public void FrameNotLearned(string model, NotLearnedReason reason) =>
        _frameNotLearned.Add(1, new KeyValuePair<string, object?>(MetricCatalogue.Model, model), new KeyValuePair<string, object?>(MetricCatalogue.NotLearnedReason, Label<NotLearnedReason>.Of(reason)));

    /// <summary>A stream came, went or moved.</summary>
    public void StreamMoved(string model, StreamTransition transition) =>
        _transitions.Add(1, new KeyValuePair<string, object?>(MetricCatalogue.Model, model), new KeyValuePair<string, object?>(MetricCatalogue.Transition, Label<StreamTransition>.Of(transition)));

    /// <summary>A stream went back to the source statistics.</summary>
    public void StreamReset(string model, string stream, ResetCause cause) => _resets.Add(
        1,
        new KeyValuePair<string, object?>(MetricCatalogue.Model, model),
        new KeyValuePair<string, object?>(MetricCatalogue.ResetReason, Label<ResetCause>.Of(cause)),
        new KeyValuePair<string, object?>(MetricCatalogue.Stream, stream));

    /// <summary>A sweep met a stream whose state is this many steps old.</summary>
    public void StateAged(string model, string method, long steps) => _stateAge.Record(Math.Max(0, steps), Of(model), By(method));

    /// <summary>A checkpoint was written.</summary>
    public void CheckpointWritten(string model, TimeSpan elapsed, long bytes)
    {
        _checkpointDuration.Record(Math.Max(0, elapsed.TotalSeconds), Of(model));
        _checkpointSize.Record(bytes, Of(model));
    }

    /// <summary>A checkpoint was not written.</summary>
    public void CheckpointFailed(string model, TimeSpan elapsed, FailureKind kind) =>
        _checkpointDuration.Record(Math.Max(0, elapsed.TotalSeconds), Of(model), new KeyValuePair<string, object?>(MetricCatalogue.ErrorType, Label<FailureKind>.Of(kind)));

    /// <summary>The store did not serve an operation.</summary>
    public void StoreFailed() => _storeFailures.Add(1);

    /// <summary>A stored stream was dropped to make room.</summary>
    public void StoreDroppedStream() => _storeDropped.Add(1);

    /// <summary>A loop failed on an item.</summary>
    public void LoopFailed(LoopKind loop) => _loopFailures.Add(1, new KeyValuePair<string, object?>(MetricCatalogue.Loop, Label<LoopKind>.Of(loop)));

    /// <summary>A sweep computed a stream's drift score.</summary>
    public void DriftSwept(string model, string method, string stream, double score)
    {
        Record(_driftScore, score, Of(model), By(method), stream);
        if (_watched.Contains(stream) && double.IsFinite(score))
        {
            _watchedDrift.Record(score, new KeyValuePair<string, object?>(MetricCatalogue.Stream, stream));
        }
    }

    /// <summary>A sweep counted a model's and method's streams by level. Counts stay until they are given anew.</summary>
    public void DriftLevelsSwept(string model, string method, long warmingUp, long normal, long warning, long critical) => _driftLevels[(model, method)] = [warmingUp, normal, warning, critical];

    /// <summary>A sweep put the streams in order: the scores of the worst, worst first; 0 for a rank that nobody takes.</summary>
    public void DriftRanked(string model, ReadOnlySpan<double> worst)
    {
        for (var i = 0; i < Ranks.Length; i++)
        {
            var score = i < worst.Length && double.IsFinite(worst[i]) ? worst[i] : 0;
            _driftRank.Record(score, Of(model), new KeyValuePair<string, object?>(MetricCatalogue.Rank, Ranks[i]));
        }
    }

    /// <summary>A sweep compared a site over the resident streams: median, 95th percentile and maximum of both distances.</summary>
    public void SiteSwept(string model, string method, string site, (double Median, double High, double Maximum) gaussianKl, (double Median, double High, double Maximum) wasserstein)
    {
        SetSite(_driftKl, model, method, site, gaussianKl);
        SetSite(_driftWasserstein, model, method, site, wasserstein);
    }

    /// <summary>A sweep read how evenly frames fall on a stream's statistics components, 0 to 1.</summary>
    public void OccupancySwept(string model, double entropy) => Record(_occupancy, entropy, Of(model));

    /// <summary>The weight of test statistics that a stream's method used, 0 to 1.</summary>
    public void AlphaUsed(string model, string method, double alpha) => Record(_alpha, alpha, Of(model), By(method));

    /// <summary>A sweep read the spread between a stream's frames at the last site, 1 is the reference's.</summary>
    public void FeatureSpreadSwept(string model, string method, double spread) => Record(_spread, spread, Of(model), By(method));

    /// <summary>A sweep over all streams of a model is over.</summary>
    public void SweepCompleted(string model, TimeSpan elapsed) => Record(_sweepDuration, elapsed.TotalSeconds, Of(model));

    /// <summary>A step was predicted with this entropy, 0 to 1, the mean of its frames.</summary>
    public void Predicted(string model, string method, string stream, double entropy) => Record(_entropy, entropy, Of(model), By(method), stream);

    /// <summary>A sweep compared a stream's predicted classes with the reference's, 0 to 1, and read which part of the classes they use.</summary>
    public void PredictionsSwept(string model, string method, double labelShift, double diversity)
    {
        Record(_labelShift, labelShift, Of(model), By(method));
        Record(_diversity, diversity, Of(model), By(method));
    }

    /// <summary>A sampled frame also ran through source.</summary>
    public void ShadowCompared(string model, string method, bool agrees, double sourceEntropy, double adaptedEntropy)
    {
        _shadowFrames.Add(1, Of(model), new KeyValuePair<string, object?>(MetricCatalogue.Agreement, agrees ? "true" : "false"));
        _shadowEntropy.Record(Math.Max(0, sourceEntropy), Of(model), By(method), new KeyValuePair<string, object?>(MetricCatalogue.Side, "source"));
        _shadowEntropy.Record(Math.Max(0, adaptedEntropy), Of(model), By(method), new KeyValuePair<string, object?>(MetricCatalogue.Side, "adapted"));
    }

    /// <summary>A unary call ended.</summary>
    /// <param name="method">Its name as it is mapped, not as the client wrote it.</param>
    /// <param name="elapsed">How long it took.</param>
    /// <param name="status">How it ended, in the protocol's words.</param>
    /// <param name="failed">Whether that is an error.</param>
    public void CallCompleted<TStatus>(string method, TimeSpan elapsed, TStatus status, bool failed)
        where TStatus : struct, Enum
    {
        var tags = new TagList { { MetricCatalogue.RpcMethod, method }, { MetricCatalogue.RpcStatus, Label<TStatus>.Of(status) } };
        if (failed)
        {
            tags.Add(MetricCatalogue.ErrorType, Label<TStatus>.Of(status));
        }

        _rpcDuration.Record(elapsed.TotalSeconds, tags);
    }

    private static KeyValuePair<string, object?> Of(string model) => new(MetricCatalogue.Model, model);

    private static KeyValuePair<string, object?> By(string method) => new(MetricCatalogue.Method, method);

    // A value below 0 or not finite would spoil the histogram's sum for good.
    private static void Record(Histogram<double> histogram, double value, KeyValuePair<string, object?> model)
    {
        if (double.IsFinite(value))
        {
            histogram.Record(Math.Max(0, value), model);
        }
    }

    private static void Record(Histogram<double> histogram, double value, KeyValuePair<string, object?> model, KeyValuePair<string, object?> method)
    {
        if (double.IsFinite(value))
        {
            histogram.Record(Math.Max(0, value), model, method);
        }
    }

    private static void Record(Histogram<double> histogram, double value, KeyValuePair<string, object?> model, KeyValuePair<string, object?> method, string stream)
    {
        if (double.IsFinite(value))
        {
            histogram.Record(Math.Max(0, value), model, method, new KeyValuePair<string, object?>(MetricCatalogue.Stream, stream));
        }
    }

    private static void SetSite(Gauge<double> gauge, string model, string method, string site, (double Median, double High, double Maximum) values)
    {
        Set("0.5", values.Median);
        Set("0.95", values.High);
        Set("1", values.Maximum);

        void Set(string quantile, double value)
        {
            if (double.IsFinite(value))
            {
                gauge.Record(value, new TagList { Of(model), By(method), { MetricCatalogue.Site, site }, { MetricCatalogue.Quantile, quantile } });
            }
        }
    }

    private void PhaseTook(KeyValuePair<string, object?> model, StepPhase phase, TimeSpan elapsed) =>
        _phaseDuration.Record(Math.Max(0, elapsed.TotalSeconds), model, new KeyValuePair<string, object?>(MetricCatalogue.Phase, Label<StepPhase>.Of(phase)));

    private void ObserveModels()
    {
        Observe(MetricCatalogue.QueueUsage, () => ReadModels().Select(levels => new Measurement<long>(levels.QueuedSteps, Of(levels.Model))));
        Observe(MetricCatalogue.QueueLimit, () => ReadModels().Select(levels => new Measurement<long>(levels.QueueLimit, Of(levels.Model))));
        Observe(MetricCatalogue.StreamResident, () => ReadModels().Select(levels => new Measurement<long>(levels.ResidentStreams, Of(levels.Model))));
        Observe(MetricCatalogue.ArenaUsage, () => ReadModels().Select(levels => new Measurement<long>(levels.ArenaBytes, Of(levels.Model))));
        Observe(MetricCatalogue.ArenaLimit, () => ReadModels().Select(levels => new Measurement<long>(levels.ArenaLimit, Of(levels.Model))));
        _meter.CreateObservableGauge(
            MetricCatalogue.StreamUtilization.Name,
            () => ReadUtilization is { } read ? [new Measurement<double>(read())] : Array.Empty<Measurement<double>>(),
            MetricCatalogue.StreamUtilization.Unit,
            MetricCatalogue.StreamUtilization.Description);
    }

    private void ObserveStreams()
    {
        Observe(MetricCatalogue.StreamCold, () => ReadStreams().Select(levels => new Measurement<long>(levels.Cold, Of(levels.Model))));
        Observe(MetricCatalogue.CheckpointDirty, () => ReadStreams().Select(levels => new Measurement<long>(levels.Dirty, Of(levels.Model))));
        _meter.CreateObservableGauge(
            MetricCatalogue.CheckpointLag.Name,
            () => ReadStreams().Select(levels => new Measurement<double>(levels.Lag.TotalSeconds, Of(levels.Model))),
            MetricCatalogue.CheckpointLag.Unit,
            MetricCatalogue.CheckpointLag.Description);
    }

    private void ObserveLoops()
    {
        _meter.CreateObservableGauge(
            MetricCatalogue.LoopLastTurn.Name,
            () => ReadLoops().Select(loop => new Measurement<double>(loop.Age.TotalSeconds, Of(loop.Kind))),
            MetricCatalogue.LoopLastTurn.Unit,
            MetricCatalogue.LoopLastTurn.Description);
        Observe(MetricCatalogue.LoopUnwell, () => ReadLoops().Select(loop => new Measurement<long>(loop.Unwell, Of(loop.Kind))));

        static KeyValuePair<string, object?> Of(LoopKind kind) => new(MetricCatalogue.Loop, Label<LoopKind>.Of(kind));
    }

    private IEnumerable<Measurement<long>> DriftLevels()
    {
        string[] levels = [WarmingUp, Normal, Warning, Critical];
        foreach (var ((model, method), counts) in _driftLevels)
        {
            for (var i = 0; i < levels.Length; i++)
            {
                yield return new Measurement<long>(counts[i], Of(model), By(method), new KeyValuePair<string, object?>(MetricCatalogue.DriftLevel, levels[i]));
            }
        }
    }

    private Histogram<T> Histogram<T>(MetricDefinition metric)
        where T : struct => _meter.CreateHistogram(metric.Name, metric.Unit, metric.Description, tags: null, new InstrumentAdvice<T> { HistogramBucketBoundaries = [.. metric.Boundaries!.Select(boundary => (T)Convert.ChangeType(boundary, typeof(T), System.Globalization.CultureInfo.InvariantCulture))] });

    private Counter<long> Counter(MetricDefinition metric) => _meter.CreateCounter<long>(metric.Name, metric.Unit, metric.Description);

    private Gauge<double> Gauge(MetricDefinition metric) => _meter.CreateGauge<double>(metric.Name, metric.Unit, metric.Description);

    private void Observe(MetricDefinition metric, Func<IEnumerable<Measurement<long>>> read) => _meter.CreateObservableUpDownCounter(metric.Name, read, metric.Unit, metric.Description);
}

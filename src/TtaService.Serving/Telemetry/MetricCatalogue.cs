namespace TtaService.Serving.Telemetry;

/// <summary>A metric: its name and unit, the labels it may have, and how many label sets it may come to.</summary>
/// <param name="Name">OpenTelemetry's name; Prometheus shows dots as underscores and adds the unit, and <c>_total</c> to a counter.</param>
/// <param name="Unit">Seconds, bytes, 1, or a thing in braces.</param>
/// <param name="Description">What it tells.</param>
/// <param name="Labels">All the labels it may have; anything else that is recorded goes to exemplars only.</param>
/// <param name="Series">Label sets past which OpenTelemetry sums up the rest as <c>otel_metric_overflow</c>.</param>
/// <param name="Boundaries">Of a histogram.</param>
internal sealed record MetricDefinition(string Name, string Unit, string Description, string[] Labels, int Series, double[]? Boundaries = null);

/// <summary>Every metric of the service. A label's values come from a closed set: folder names of models, registered methods, names of enums, sites of a loaded graph.</summary>
internal static class MetricCatalogue
{
    public const string Model = "tta.model.name";
    public const string Method = "tta.method";
    public const string ErrorType = "error.type";
    public const string Phase = "tta.phase";
    public const string RejectReason = "tta.reject.reason";
    public const string NotLearnedReason = "tta.not_learned.reason";
    public const string Transition = "tta.transition";
    public const string ResetReason = "tta.reset.reason";
    public const string DriftLevel = "tta.drift.level";
    public const string Rank = "tta.rank";
    public const string Site = "tta.site";
    public const string Quantile = "tta.quantile";
    public const string Agreement = "tta.shadow.agreement";
    public const string Side = "tta.shadow.side";
    public const string SkipReason = "tta.skip.reason";
    public const string Loop = "tta.loop";
    public const string RpcMethod = "rpc.method";
    public const string RpcStatus = "rpc.status_code";

    /// <summary>Never a label but of the metric for watched streams: it names the stream on exemplars.</summary>
    public const string Stream = "tta.stream.id";

    // Generous for one process: memory is taken for all of them at start, about 100 bytes a label set.
    private const int Models = 16;
    private const int ModelsAndMethods = 16 * Models;
    private const int SitesAndQuantiles = 8192;

    private static readonly double[] StepSeconds = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10];
    private static readonly double[] PhaseSeconds = [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1];
    private static readonly double[] WriteSeconds = [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10];
    private static readonly double[] CallSeconds = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10];
    private static readonly double[] Counts = [1, 2, 4, 8, 16, 32, 64, 128];
    private static readonly double[] Ages = [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000];
    private static readonly double[] FrameBytes = [1 << 10, 4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20];
    private static readonly double[] StateBytes = [4 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20, 16 << 20, 64 << 20];
    private static readonly double[] Scores = [0.25, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10, 30];
    private static readonly double[] Shares = [0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1];
    private static readonly double[] Spreads = [0.05, 0.1, 0.2, 0.5, 0.75, 1, 1.5, 2, 5];

    public static readonly MetricDefinition StepDuration = new("tta.step.duration", "s", "From a step's admission to its answer", [Model, Method, ErrorType], ModelsAndMethods * 11, StepSeconds);
    public static readonly MetricDefinition StepPhaseDuration = new("tta.step.phase.duration", "s", "Where the time of steps goes, a value a batch: the mean of its steps; the phases add up to the step", [Model, Phase], Models * 6, PhaseSeconds);
    public static readonly MetricDefinition StepReplayed = new("tta.step.replayed", "{step}", "Steps that were answered again from what the stream keeps, without a second adaptation", [Model], Models);
    public static readonly MetricDefinition BatchSize = new("tta.batch.size", "{frame}", "Frames of a forward pass", [Model], Models, Counts);
    public static readonly MetricDefinition BatchSteps = new("tta.batch.steps", "{step}", "Streams in a forward pass", [Model], Models, Counts);
    public static readonly MetricDefinition QueueUsage = new("tta.queue.usage", "{step}", "Steps that wait or run", [Model], Models);
    public static readonly MetricDefinition QueueLimit = new("tta.queue.limit", "{step}", "Steps that may wait, Batching:MaxQueuedSteps", [Model], Models);
    public static readonly MetricDefinition FrameSize = new("tta.frame.size", "By", "Bytes of encoded frames", [], 1, FrameBytes);
    public static readonly MetricDefinition FrameRejected = new("tta.frame.rejected", "{frame}", "Frames that were refused before or while they were decoded", [RejectReason], 16);
    public static readonly MetricDefinition FrameNotLearned = new("tta.frame.not_learned", "{frame}", "Frames that were answered and left state and observed statistics alone", [Model, NotLearnedReason], Models * 8);

    public static readonly MetricDefinition StreamResident = new("tta.stream.resident", "{stream}", "Streams in the arena", [Model], Models);
    public static readonly MetricDefinition StreamCold = new("tta.stream.cold", "{stream}", "Streams of this process outside the arena", [Model], Models);
    public static readonly MetricDefinition StreamUtilization = new("tta.stream.utilization", "1", "How full the process is: streams of Streams:MaxStreams, or the fullest arena if that is more", [], 1);
    public static readonly MetricDefinition ArenaUsage = new("tta.arena.usage", "By", "State of resident streams", [Model], Models);
    public static readonly MetricDefinition ArenaLimit = new("tta.arena.limit", "By", "State that may be resident, Models:ArenaBytes", [Model], Models);
    public static readonly MetricDefinition StreamTransition = new("tta.stream.transition", "{transition}", "Streams that came, went or moved", [Model, Transition], Models * 16);
    public static readonly MetricDefinition StreamReset = new("tta.stream.reset", "{reset}", "Streams that went back to the source statistics", [Model, ResetReason], Models * 4);
    public static readonly MetricDefinition StreamStateAge = new("tta.stream.state.age", "{step}", "Steps since a stream's start or reset, at each sweep over the streams", [Model, Method], ModelsAndMethods, Ages);
    public static readonly MetricDefinition CheckpointDuration = new("tta.checkpoint.duration", "s", "Writing a checkpoint", [Model, ErrorType], Models * 4, WriteSeconds);
    public static readonly MetricDefinition CheckpointSize = new("tta.checkpoint.size", "By", "Bytes of a written checkpoint", [Model], Models, StateBytes);
    public static readonly MetricDefinition CheckpointLag = new("tta.checkpoint.lag", "s", "Age of the oldest change that is not stored: what a kill would lose", [Model], Models);
    public static readonly MetricDefinition CheckpointDirty = new("tta.checkpoint.dirty", "{stream}", "Streams with changes that are not stored", [Model], Models);
    public static readonly MetricDefinition StoreFailure = new("tta.store.failure", "{failure}", "Operations that the store did not serve", [], 1);

    public static readonly MetricDefinition StoreDropped = new("tta.store.dropped", "{stream}", "Stored streams that were dropped to make room for others", [], 1);

    public static readonly MetricDefinition LoopLastTurn = new("tta.loop.last_turn", "s", "Time since a loop of the server got on; 0 while it has nothing to do", [Loop], 16);
    public static readonly MetricDefinition LoopUnwell = new("tta.loop.unwell", "{loop}", "Loops of the server that stand still, or turn to no use", [Loop], 16);
    public static readonly MetricDefinition LoopFailure = new("tta.loop.failure", "{failure}", "Items on which a loop of the server failed, and went on", [Loop], 16);

    public static readonly MetricDefinition DriftScore = new("tta.drift.score", "1", "How far a stream's observed statistics are from the reference, 1 is the edge of normal; at each sweep", [Model, Method], ModelsAndMethods, Scores);
    public static readonly MetricDefinition DriftStream = new("tta.drift.stream", "{stream}", "Streams by how far they drifted", [Model, Method, DriftLevel], ModelsAndMethods * 4);
    public static readonly MetricDefinition DriftRank = new("tta.drift.rank", "1", "Score of the nth worst stream", [Model, Rank], Models * 10);
    public static readonly MetricDefinition DriftGaussianKl = new("tta.drift.gaussian_kl", "1", "Divergence of a site over the resident streams", [Model, Method, Site, Quantile], SitesAndQuantiles);
    public static readonly MetricDefinition DriftWasserstein = new("tta.drift.wasserstein", "1", "Distance of a site over the resident streams, in source sigmas", [Model, Method, Site, Quantile], SitesAndQuantiles);
    public static readonly MetricDefinition OccupancyEntropy = new("tta.component.occupancy_entropy", "1", "How evenly frames fall on the statistics components, mean over sites; at each sweep", [Model], Models, Shares);
    public static readonly MetricDefinition AlphaEffective = new("tta.alpha.effective", "1", "Weight of test statistics, mean over sites", [Model, Method], ModelsAndMethods, Shares);
    public static readonly MetricDefinition FeatureSpread = new("tta.feature.spread", "1", "Spread between frames at the last site, of the reference's", [Model, Method], ModelsAndMethods, Spreads);
    public static readonly MetricDefinition DriftSweepDuration = new("tta.drift.sweep.duration", "s", "A sweep over all streams", [Model], Models, WriteSeconds);
    public static readonly MetricDefinition WatchedDriftScore = new("tta.watched.drift.score", "1", "Drift score of the streams in Telemetry:WatchedStreams", [Stream], TelemetryOptions.MaxWatchedStreams);

    public static readonly MetricDefinition PredictionEntropy = new("tta.prediction.entropy", "1", "Entropy of the predicted classes, mean of the step's frames, 1 is no idea", [Model, Method], ModelsAndMethods, Shares);
    public static readonly MetricDefinition LabelShift = new("tta.prediction.label_shift", "1", "Distance of a stream's classes from the reference's (Jensen-Shannon); at each sweep", [Model, Method], ModelsAndMethods, Shares);
    public static readonly MetricDefinition Diversity = new("tta.prediction.diversity", "1", "Part of the classes that a stream's predictions use; at each sweep", [Model, Method], ModelsAndMethods, Shares);
    public static readonly MetricDefinition ShadowFrame = new("tta.shadow.frame", "{frame}", "Sampled frames that also ran through source, by whether both name one class", [Model, Agreement], Models * 2);
    public static readonly MetricDefinition ShadowEntropy = new("tta.shadow.entropy", "1", "Entropy of the sampled frames on both sides", [Model, Method, Side], ModelsAndMethods * 2, Shares);
    public static readonly MetricDefinition AdaptationSkipped = new("tta.adaptation.skipped", "{step}", "Steps that changed no state", [Model, SkipReason], Models * 4);

    public static readonly MetricDefinition RpcDuration = new("rpc.server.call.duration", "s", "Unary calls", [RpcMethod, RpcStatus, ErrorType], 256, CallSeconds);

    /// <summary>All of them.</summary>
    public static IReadOnlyList<MetricDefinition> All { get; } =
    [
        StepDuration, StepPhaseDuration, StepReplayed, BatchSize, BatchSteps, QueueUsage, QueueLimit, FrameSize, FrameRejected, FrameNotLearned,
        StreamResident, StreamCold, StreamUtilization, ArenaUsage, ArenaLimit, StreamTransition, StreamReset, StreamStateAge,
        CheckpointDuration, CheckpointSize, CheckpointLag, CheckpointDirty, StoreFailure, StoreDropped, LoopLastTurn, LoopUnwell, LoopFailure,
        DriftScore, DriftStream, DriftRank, DriftGaussianKl, DriftWasserstein, OccupancyEntropy, AlphaEffective, FeatureSpread, DriftSweepDuration, WatchedDriftScore,
        PredictionEntropy, LabelShift, Diversity, ShadowFrame, ShadowEntropy, AdaptationSkipped, RpcDuration,
    ];

    private static readonly Dictionary<string, MetricDefinition> ByName = All.ToDictionary(metric => metric.Name, StringComparer.Ordinal);

    /// <summary>The metric of this name; null when there is none.</summary>
    public static MetricDefinition? Find(string name) => ByName.GetValueOrDefault(name);
}

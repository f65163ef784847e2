using TtaService.Engine.Drift;
using TtaService.Engine.Execution;

namespace TtaService.Serving.Telemetry;

/// <summary>One stream in a sweep. Immutable.</summary>
internal sealed record StreamDrift
{
    public required string Stream { get; init; }

    public required string Model { get; init; }

    public required string Method { get; init; }

    public required DriftLevel Level { get; init; }

    /// <summary>The observed statistics against the source's; the last one of a stream that has left the arena since.</summary>
    public required DriftReading Reading { get; init; }

    public required PredictionReading Predictions { get; init; }
}

/// <summary>A sweep over the streams of one model. Immutable.</summary>
internal sealed record DriftReport
{
    public required string Model { get; init; }

    /// <summary>The sites, in execution order; those of <see cref="DriftReading.GaussianKl"/>.</summary>
    public required IReadOnlyList<string> Sites { get; init; }

    /// <summary>What is normal; null when the model was not calibrated.</summary>
    public required DriftReference? Reference { get; init; }

    /// <summary>For people: since when and on how many frames it was calibrated, or why it was not.</summary>
    public required string Calibration { get; init; }

    public required DateTimeOffset Time { get; init; }

    /// <summary>What the sweep took of the engine's thread.</summary>
    public required TimeSpan Took { get; init; }

    /// <summary>The streams that were observed, worst first.</summary>
    public required IReadOnlyList<StreamDrift> Streams { get; init; }
}

/// <summary>What watchers hear.</summary>
internal abstract record DriftUpdate(DateTimeOffset Time);

/// <summary>A stream's level changed.</summary>
internal sealed record LevelChanged(DateTimeOffset Time, StreamDrift Stream, DriftLevel Before) : DriftUpdate(Time);

/// <summary>A stream's domain switched, at step <see cref="DriftReading.ChangedAtStep"/>.</summary>
internal sealed record DomainSwitched(DateTimeOffset Time, StreamDrift Stream) : DriftUpdate(Time);

/// <summary>Frames of a stream were answered and not learned, for a reason that had none in the sweep before.</summary>
internal sealed record FramesNotLearned(DateTimeOffset Time, string Stream, string Model, NotLearnedReason Reason, long Frames) : DriftUpdate(Time);

/// <summary>A stream answered one class only, which the source model contradicted: since this step it starts from the source statistics again.</summary>
internal sealed record StreamRolledBack(DateTimeOffset Time, string Stream, string Model, string Method, long Step) : DriftUpdate(Time);

/// <summary>A sweep ended.</summary>
internal sealed record Swept(DateTimeOffset Time, DriftReport Report) : DriftUpdate(Time);

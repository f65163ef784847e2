namespace TtaService.Serving.Telemetry;

/// <summary>How full a model is, when somebody asks.</summary>
internal readonly record struct ModelLevels(string Model, long QueuedSteps, long QueueLimit, long ResidentStreams, long ArenaBytes, long ArenaLimit);

/// <summary>How a model's streams stand with the arena and the store, when somebody asks.</summary>
internal readonly record struct StreamLevels(string Model, long Cold, long Dirty, TimeSpan Lag);

/// <summary>How the loops of a kind are, when somebody asks: how long ago they got on, the longest, and how many are unwell.</summary>
internal readonly record struct LoopLevels(LoopKind Kind, TimeSpan Age, int Unwell);

/// <summary>What metrics ask when somebody looks at them; a source answers what it knows.</summary>
internal interface ILevelSource
{
    IEnumerable<ModelLevels> Models => [];

    IEnumerable<StreamLevels> Streams => [];

    IEnumerable<LoopLevels> Loops => [];

    /// <summary>How full the process is, 0 to 1; null for who does not know.</summary>
    double? Utilization => null;
}

namespace TtaService.Serving.Telemetry;

/// <summary>How full a model is, when somebody asks.</summary>
internal readonly record struct ModelLevels(string Model, long QueuedSteps, long QueueLimit, long ResidentStreams, long ArenaBytes, long ArenaLimit);

/// <summary>How a model's streams stand with the arena and the store, when somebody asks.</summary>
internal readonly record struct StreamLevels(string Model, long Cold, long Dirty, TimeSpan Lag);

/// <summary>How long ago the loops of a kind got on, the longest, when somebody asks.</summary>
internal readonly record struct LoopAge(LoopKind Kind, TimeSpan Age);

/// <summary>What metrics ask when somebody looks at them; a source answers what it knows.</summary>
internal interface ILevelSource
{
    IEnumerable<ModelLevels> Models => [];

    IEnumerable<StreamLevels> Streams => [];

    IEnumerable<LoopAge> Loops => [];

    /// <summary>How full the process is, 0 to 1; null for who does not know.</summary>
    double? Utilization => null;
}

using TtaService.Engine.Normalization;

namespace TtaService.Engine.Streams;

/// <summary>The adaptation state of one stream of one model. Made, stepped, reset and released by <see cref="Execution.AdaptiveModel"/>, on its thread.</summary>
public sealed class StreamState
{
    internal StreamState(MethodRuntime runtime, ulong seed, int row)
    {
        Runtime = runtime;
        Seed = seed;
        Row = row;
    }

    /// <summary>The method and its hyperparameters.</summary>
    public MethodSettings Method => Runtime.Settings;

    /// <summary>Seeds the initial components, so that a run can be repeated.</summary>
    public ulong Seed { get; }

    /// <summary>Committed steps since the start or the last reset.</summary>
    public long Steps { get; internal set; }

    /// <summary>Committed frames since the start or the last reset.</summary>
    public long Frames { get; internal set; }

    internal MethodRuntime Runtime { get; }

    /// <summary>The committed row in the arena; -1 once released.</summary>
    internal int Row { get; set; }
}

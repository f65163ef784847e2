using TtaService.Engine.Drift;
using TtaService.Engine.Normalization;

namespace TtaService.Engine.Streams;

/// <summary>The adaptation state of one stream of one model. Made, stepped, reset, evicted and released by <see cref="Execution.AdaptiveModel"/>, on its thread.</summary>
public sealed class StreamState
{
    /// <summary>What steps and frames are counted to, where they stay: every reader of a snapshot holds it exactly, a double included, and it is ten million years of 30
    /// frames a second.</summary>
    internal const long MaxCount = 1L << 53;

    internal StreamState(MethodSettings method, ulong seed, int collapseFrames)
    {
        Method = method;
        Seed = seed;
        Collapse = new CollapseDetector(collapseFrames);
    }

    /// <summary>The method and its hyperparameters.</summary>
    public MethodSettings Method { get; }

    /// <summary>Seeds the initial components, so that a run can be repeated.</summary>
    public ulong Seed { get; }

    /// <summary>Committed steps since the start or the last reset.</summary>
    public long Steps { get; internal set; }

    /// <summary>Committed frames since the start, the last reset or roll-back.</summary>
    public long Frames { get; internal set; }

    /// <summary>Frames that the observed statistics have seen since the start or the last reset; 0 where nothing is observed.</summary>
    public long ObservedFrames { get; internal set; }

    /// <summary>Whether the state is in memory; a step needs that.</summary>
    public bool IsResident => Runtime is not null;

    internal MethodRuntime? Runtime { get; set; }

    /// <summary>The committed row in the arena; -1 while not resident.</summary>
    internal int Row { get; set; } = -1;

    /// <summary>The committed row of the observed statistics; -1 while not resident, or where nothing is observed.</summary>
    internal int ObservedRow { get; set; } = -1;

    /// <summary>The committed state of the method's prediction filter; empty while not resident, or where it keeps none. Replaced, never written.</summary>
    internal float[] Filter { get; set; } = [];

    /// <summary>Steps since one of a method without statistics was observed.</summary>
    internal int UnobservedSteps { get; set; }

    /// <summary>Notices when the stream's domain switches.</summary>
    internal ChangeDetector Changes { get; } = new();

    /// <summary>Notices when the state answers everything with one class.</summary>
    internal CollapseDetector Collapse { get; }

    /// <summary>How badly what normalized the last step describes its frames, where the step asked for it.</summary>
    internal double Misfit { get; set; }

    /// <summary>A count and some more, as far as is counted.</summary>
    internal static long Counted(long count, int more) => Math.Min(checked(count + more), MaxCount);
}

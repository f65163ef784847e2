namespace TtaService.Serving.Streams;

/// <summary>The frames of one step on their way to the model: decoded by turns, in any order, several at a time. Disposal gives back what was not taken, once no turn
/// runs.</summary>
internal abstract class StepDecoding : IDisposable
{
    /// <summary>Turns that it takes: one a frame where frames cost something.</summary>
    public abstract int Turns { get; }

    /// <summary>What a turn costs, in source pixels times scans; cheap to ask.</summary>
    public abstract long CostOf(int turn);

    /// <summary>Has one turn, on a thread of the pool.</summary>
    /// <exception cref="FailureException">The frame is bad.</exception>
    public abstract void Decode(int turn);

    /// <summary>The frames, after all turns were had. Theirs is the memory then.</summary>
    /// <exception cref="FailureException">The frames do not fit the model.</exception>
    public abstract DecodedFrames Take();

    /// <inheritdoc/>
    public abstract void Dispose();
}

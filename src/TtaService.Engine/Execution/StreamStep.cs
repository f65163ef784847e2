using TtaService.Engine.Streams;

namespace TtaService.Engine.Execution;

/// <summary>One request of a stream: N frames that are normalized together and update the stream's state once.</summary>
/// <param name="State">The stream's state; a batch holds at most one step of a state.</param>
/// <param name="Frames">The frames.</param>
/// <param name="Freeze">Use the state, do not update it.</param>
public sealed record StreamStep(StreamState State, FrameBlock Frames, bool Freeze = false)
{
    /// <summary>Why frames are to be answered and not learned, one entry a frame with <see cref="NotLearnedReason.None"/> for those that teach; null when all do.</summary>
    /// <remarks>A frame with a reason is normalized with the state as it stands, on its own; neither the state, nor the observed statistics, nor the counters move by it.
    /// The other frames
    /// of the step are learned as a step of their own, for every method and on every device.</remarks>
    public IReadOnlyList<NotLearnedReason>? NotLearned { get; init; }

    /// <summary>False for frames that the host marked: a step of theirs alone.</summary>
    internal bool Teaches { get; init; } = true;

    /// <summary>Whether the pass takes <see cref="StreamState.Misfit"/>.</summary>
    internal bool ComparesFit { get; init; }
}

/// <summary>Why a frame was answered without being learned.</summary>
public enum NotLearnedReason
{
    /// <summary>It was learned.</summary>
    None,

    /// <summary>What the sites saw of it, or of another frame of its step, lies far outside what the model knows (<see cref="LearningOptions"/>). The engine's own
    /// finding.</summary>
    OutOfRange,

    /// <summary>Nothing is in the picture. This and the reasons below are the host's findings.</summary>
    Blank,

    /// <summary>The picture repeats the one before it.</summary>
    Frozen,

    /// <summary>Most of the picture is at the end of its range.</summary>
    Saturated,

    /// <summary>The picture has one colour.</summary>
    SingleColor,

    /// <summary>Bars or another test pattern.</summary>
    TestPattern,

    /// <summary>The picture was decoded from damaged data.</summary>
    Damaged,
}

/// <summary>Why a stream went back to the source's statistics by itself.</summary>
public enum RollbackReason
{
    /// <summary>It answered frame after frame with one class, confidently, where the source model sees others.</summary>
    Collapsed,
}

/// <summary>How a step ended.</summary>
public enum StepStatus
{
    /// <summary>Answered; the state was committed unless frozen.</summary>
    Ok,

    /// <summary>The method refuses such a step (too few frames for <c>tbn</c>); nothing changed.</summary>
    Refused,

    /// <summary>The outputs or the proposed statistics were not finite; nothing changed.</summary>
    NotFinite,

    /// <summary>The method's own code threw, or its answer was none; nothing changed, and the other steps of the pass were answered.</summary>
    MethodFailed,
}

/// <summary>What a step gave.</summary>
public sealed record StepResult
{
    /// <summary>How it ended.</summary>
    public required StepStatus Status { get; init; }

    /// <summary>For a step that is not Ok: what was wrong and what to do.</summary>
    public string? Message { get; init; }

    /// <summary>The model's outputs for this step's frames; empty unless Ok.</summary>
    public IReadOnlyList<OutputTensor> Outputs { get; init; } = [];

    /// <summary>The class scores before the method filtered them in time; null where it did not.</summary>
    public OutputTensor? Unfiltered { get; init; }

    /// <summary>The stream's committed steps after this one.</summary>
    public long Steps { get; init; }

    /// <summary>The stream's committed frames after this step, since the start, the last reset or roll-back.</summary>
    public long Frames { get; init; }

    /// <summary>Why frames were answered and not learned, one entry a frame; empty when all were learned, or the step is frozen or not Ok.</summary>
    public IReadOnlyList<NotLearnedReason> NotLearned { get; init; } = [];

    /// <summary>Not null when the stream's state and observed statistics went back to the source's after this step, which was answered with the state before that.</summary>
    public RollbackReason? RolledBack { get; init; }
}

using TtaService.Engine.Streams;

namespace TtaService.Engine.Execution;

/// <summary>One request of a stream: N frames that are normalized together and update the stream's state once.</summary>
/// <param name="State">The stream's state; a batch holds at most one step of a state.</param>
/// <param name="Frames">The frames.</param>
/// <param name="Freeze">Use the state, do not update it.</param>
public sealed record StreamStep(StreamState State, FrameBlock Frames, bool Freeze = false);

/// <summary>One output of the model for the frames of a step.</summary>
/// <param name="Name">The graph output's name.</param>
/// <param name="Shape">[N, ...].</param>
/// <param name="Values">Row-major.</param>
public sealed record OutputTensor(string Name, int[] Shape, float[] Values);

/// <summary>How a step ended.</summary>
public enum StepStatus
{
    /// <summary>Answered; the state was committed unless frozen.</summary>
    Ok,

    /// <summary>The method refuses such a step (too few frames for <c>tbn</c>); nothing changed.</summary>
    Refused,

    /// <summary>The outputs or the proposed statistics were not finite; nothing changed.</summary>
    NotFinite,
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

    /// <summary>The stream's committed frames after this step.</summary>
    public long Frames { get; init; }
}

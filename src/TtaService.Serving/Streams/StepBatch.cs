using TtaService.Engine.Execution;

namespace TtaService.Serving.Streams;

/// <summary>A stream's part of a batch.</summary>
/// <param name="Session">The stream.</param>
/// <param name="Steps">Its step, or its steps that were joined into one.</param>
/// <param name="Block">Their frames.</param>
/// <param name="Freeze">Whether the statistics stay as they are.</param>
internal sealed record BatchEntry(StreamSession Session, List<QueuedStep> Steps, FrameBlock Block, bool Freeze)
{
    /// <summary>Why frames are not to be learned, one entry a frame; null when all are.</summary>
    public NotLearnedReason[]? NotLearned { get; init; }

    /// <summary>The same failure for all of its steps.</summary>
    public StepOutcome[] Fail(Failure failure) => [.. Steps.Select(_ => (StepOutcome)failure)];
}

/// <summary>Steps of a stream that were taken out of its queue to run as one.</summary>
/// <param name="Session">The stream.</param>
/// <param name="Steps">In their order.</param>
/// <param name="Frames">How many frames they have.</param>
/// <param name="Freeze">Whether the statistics stay as they are.</param>
/// <param name="NotLearned">Why frames are not to be learned, one entry a frame; null when all are.</param>
internal sealed record TakenSteps(StreamSession Session, List<QueuedStep> Steps, int Frames, bool Freeze, NotLearnedReason[]? NotLearned);

/// <summary>A step that was committed though its pass, or the making of its answer, failed.</summary>
/// <param name="Steps">The state's steps now.</param>
/// <param name="Frames">The state's frames now.</param>
/// <param name="Failure">What the client is told.</param>
internal sealed record LostAnswer(long Steps, long Frames, Failure Failure)
{
    /// <summary>Tells that the step counts, so that nobody sends its frames under a new number.</summary>
    public Failure Failure { get; } = Failure with { Reason = "ANSWER_LOST", Message = $"the step was committed, its answer was lost: {Failure.Message}; go on with the next number" };
}

/// <summary>What became of an entry of a batch: one of the three is set.</summary>
/// <param name="Result">It ran.</param>
/// <param name="Lost">It counts, and has no answer.</param>
/// <param name="Failure">It does not count.</param>
internal readonly record struct EntryResult(StepResult? Result, LostAnswer? Lost, Failure? Failure)
{
    public EntryResult(StepResult result)
        : this(result, null, null)
    {
    }

    public EntryResult(LostAnswer lost)
        : this(null, lost, null)
    {
    }

    public EntryResult(Failure failure)
        : this(null, null, failure)
    {
    }
}

/// <summary>A forward pass that is over.</summary>
/// <param name="Started">When the engine was asked, a timestamp of the batcher's clock.</param>
/// <param name="Run">Time until it answered.</param>
/// <param name="Times">What the engine did in that time.</param>
internal sealed record BatchPass(long Started, TimeSpan Run, PassTimes Times)
{
    /// <summary>How long a step waited to run, decoding left out.</summary>
    public TimeSpan QueueTime(QueuedStep step, TimeProvider clock)
    {
        var queue = clock.GetElapsedTime(step.Submitted, Started) - step.DecodeTime;
        return queue < TimeSpan.Zero ? TimeSpan.Zero : queue;
    }
}

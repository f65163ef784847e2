namespace TtaService.Serving.Streams;

/// <summary>A stream's memory of the steps it has answered, so that a resent step does not adapt twice. Not thread-safe.</summary>
/// <param name="capacity">Answers kept at most.</param>
/// <param name="maxBytes">Bytes of answers kept at most; a larger answer is not kept at all.</param>
internal sealed class AnsweredSteps(int capacity, long maxBytes)
{
    private readonly Queue<(ulong Sequence, StepAnswer Answer, long Bytes)> _kept = new();
    private long _bytes;

    /// <summary>The highest sequence number answered; 0 when none.</summary>
    public ulong Last { get; private set; }

    /// <summary>Null when the step is new and may run; else its kept answer, or why there is none.</summary>
    public StepOutcome? Recall(ulong sequence)
    {
        if (sequence == 0 || sequence > Last)
        {
            return null;
        }

        foreach (var (kept, answer, _) in _kept)
        {
            if (kept == sequence)
            {
                return answer with { Replayed = true };
            }
        }

        // Between two kept answers nothing was forgotten: that number was skipped.
        return _kept.TryPeek(out var oldest) && sequence > oldest.Sequence
            ? new Failure(FailureKind.FailedPrecondition, "SEQUENCE_OUT_OF_ORDER", $"sequence {sequence} was never committed and the stream is already at {Last}; steps run in rising order, go on from {Last + 1}") { Field = "step.sequence" }
            : new Failure(FailureKind.AlreadyExists, "STEP_ALREADY_PASSED", $"the stream is at sequence {Last} and the answer of {sequence} is not kept (Streams:KeptReplies is {capacity}, Streams:KeptReplyBytes {maxBytes}); go on from {Last + 1}") { Field = "step.sequence" };
    }

    /// <summary>Records an answer. Unnumbered steps leave no trace.</summary>
    public void Record(ulong sequence, StepAnswer answer)
    {
        if (sequence == 0)
        {
            return;
        }

        Last = sequence;
        var bytes = answer.Bytes;
        if (bytes > maxBytes)
        {
            // Forgotten from here back: what Recall says of gaps holds only for an unbroken memory.
            Forget();
            return;
        }

        _kept.Enqueue((sequence, answer, bytes));
        _bytes += bytes;
        while (_kept.Count > capacity || _bytes > maxBytes)
        {
            _bytes -= _kept.Dequeue().Bytes;
        }
    }

    /// <summary>The answers that are kept, oldest first.</summary>
    public IReadOnlyList<KeptAnswer> Kept => [.. _kept.Select(entry => new KeptAnswer(entry.Sequence, entry.Answer))];

    /// <summary>Goes on from another memory of the stream.</summary>
    public void Restore(ulong last, IEnumerable<KeptAnswer> kept)
    {
        Clear();
        foreach (var (sequence, answer) in kept)
        {
            Record(sequence, answer);
        }

        Last = last;
    }

    /// <summary>As new.</summary>
    public void Clear()
    {
        Forget();
        Last = 0;
    }

    private void Forget()
    {
        _kept.Clear();
        _bytes = 0;
    }
}

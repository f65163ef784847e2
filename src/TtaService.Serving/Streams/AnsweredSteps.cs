using TtaService.Serving.Streams.Keeping;

namespace TtaService.Serving.Streams;

/// <summary>A stream's memory of the steps it has answered, so that a resent step does not adapt twice. Not thread-safe.</summary>
/// <param name="capacity">Answers kept at most.</param>
/// <param name="maxBytes">Bytes of answers kept at most; a larger answer is not kept at all.</param>
/// <param name="budget">Bytes that all streams' answers may take together.</param>
internal sealed class AnsweredSteps(int capacity, long maxBytes, ReplyBudget budget)
{
    private readonly Queue<(KeptAnswer Kept, long Bytes)> _kept = new();
    private long _bytes;

    /// <summary>The highest sequence number answered; 0 when none.</summary>
    public ulong Last { get; private set; }

    /// <summary>Null when the step is new and may run; else its kept answer, or why there is none.</summary>
    /// <param name="sequence">The step's number.</param>
    /// <param name="digest">Of its frames; null when it was not taken.</param>
    public StepOutcome? Recall(ulong sequence, ulong? digest)
    {
        if (sequence == 0 || sequence > Last)
        {
            return null;
        }

        foreach (var (kept, _) in _kept)
        {
            if (kept.Sequence == sequence)
            {
                return digest is null || kept.Digest == 0 || kept.Digest == digest
                    ? kept.Answer with { Replayed = true }
                    : new Failure(FailureKind.AlreadyExists, "SEQUENCE_REUSED", $"sequence {sequence} was committed with other frames; {GoOn}") { Field = "step.sequence" };
            }
        }

        // Between two kept answers nothing was forgotten: that number was skipped.
        return _kept.TryPeek(out var oldest) && sequence > oldest.Kept.Sequence
            ? new Failure(
                FailureKind.FailedPrecondition,
                "SEQUENCE_OUT_OF_ORDER",
                $"sequence {sequence} was never committed and the stream is already at {Last}; steps run in rising order, {GoOn}")
            { Field = "step.sequence" }
            : new Failure(
                FailureKind.AlreadyExists,
                "STEP_ALREADY_PASSED",
                $"the stream is at sequence {Last} and the answer of {sequence} is not kept (Streams:KeptReplies is {capacity}, Streams:KeptReplyBytes {maxBytes}); "
                    + $"{GoOn}")
            { Field = "step.sequence" };
    }

    // A number at the end of the range was taken by versions that did not refuse it.
    private string GoOn => Last == ulong.MaxValue
        ? "there is no number after it: open the stream with RESUME_POLICY_RESET, or send unnumbered steps"
        : $"go on from {Last + 1}; a client that begins anew opens the stream again and counts from StreamOpened.last_sequence + 1";

    /// <summary>Records an answer. Unnumbered steps leave no trace.</summary>
    public void Record(ulong sequence, ulong? digest, StepAnswer answer)
    {
        if (sequence == 0)
        {
            return;
        }

        Last = sequence;
        var bytes = answer.Bytes;
        if (bytes > maxBytes || !MakeRoom(bytes))
        {
            // Forgotten from here back: what Recall says of gaps holds only for an unbroken memory.
            Forget();
            return;
        }

        _kept.Enqueue((new KeptAnswer(sequence, answer, digest ?? 0), bytes));
        _bytes += bytes;
        while (_kept.Count > capacity || _bytes > maxBytes)
        {
            Drop();
        }
    }

    /// <summary>Moves past a step that was committed and whose answer was lost.</summary>
    public void Pass(ulong sequence)
    {
        if (sequence > Last)
        {
            Last = sequence;
            Forget();
        }
    }

    /// <summary>The answers that are kept, oldest first.</summary>
    public IReadOnlyList<KeptAnswer> Kept => [.. _kept.Select(entry => entry.Kept)];

    /// <summary>Goes on from another memory of the stream.</summary>
    public void Restore(ulong last, IEnumerable<KeptAnswer> kept)
    {
        Clear();
        foreach (var (sequence, answer, digest) in kept)
        {
            Record(sequence, digest, answer);
        }

        Last = last;
    }

    /// <summary>Gives the memory of the answers back; the last number stays.</summary>
    public void Release() => Forget();

    /// <summary>As new.</summary>
    public void Clear()
    {
        Forget();
        Last = 0;
    }

    // Of its own answers the oldest make room, never another stream's.
    private bool MakeRoom(long bytes)
    {
        while (!budget.TryTake(bytes))
        {
            if (_kept.Count == 0)
            {
                return false;
            }

            Drop();
        }

        return true;
    }

    private void Drop()
    {
        var bytes = _kept.Dequeue().Bytes;
        _bytes -= bytes;
        budget.GiveBack(bytes);
    }

    private void Forget()
    {
        while (_kept.Count > 0)
        {
            Drop();
        }
    }
}

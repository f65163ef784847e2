using TtaService.Engine.Execution;
using TtaService.Serving.Frames;

namespace TtaService.Serving.Streams;

/// <summary>Decides which steps run together next, and which never run. Guarded by the batcher's gate.</summary>
internal sealed class BatchForming(WorkLine line, PassPace pace, PictureGuard guard, StepEndings endings, BatchingOptions options, TimeProvider clock)
{
    /// <summary>The service stops: what has not begun never runs.</summary>
    public bool Stopping { get; set; }

    /// <summary>Takes the steps of the next batch out of the line.</summary>
    /// <param name="mostOfSmall">Frames of a batch that runs within another; null for one of its own. A small one is of what is owed and can run at once: steps of streams that
    /// are in the arena, and nothing larger.</param>
    /// <param name="run">Runs an operation on a stream whose turn it is.</param>
    public List<TakenSteps> Form(int? mostOfSmall, Action<QueuedOperation> run)
    {
        var taken = new List<TakenSteps>();
        var isSmall = mostOfSmall is not null;
        var most = mostOfSmall ?? pace.MaxFrames;
        line.Form(most, onlyOwed: isSmall, NextOf, (work, frames) =>
        {
            if (isSmall && (work is not QueuedStep { Session.State.IsResident: true } || frames + work.Frames > most))
            {
                return null;
            }

            if (work is QueuedOperation operation)
            {
                WorkLine.Leave(operation);
                run(operation);
                return 0;
            }

            var step = (QueuedStep)work;
            if (taken.Count > 0 && !Fits(taken[0].Steps[0].Decoded!.Block, step.Decoded!.Block, frames, most))
            {
                return null;
            }

            var steps = Take(step, isSmall ? most : options.MaxFrames);
            taken.Add(steps);
            return steps.Frames;
        });
        return taken;
    }

    private static bool Fits(FrameBlock first, FrameBlock next, int frames, int most) =>
        frames + next.Count <= most && (first.Channels, first.Height, first.Width) == (next.Channels, next.Height, next.Width);

    // The stream's first work that may run; what may not run any more gets its outcome here.
    private QueuedWork? NextOf(StreamQueue queue)
    {
        while (queue.Work.First?.Value is { Ready: true } work)
        {
            if (work is not QueuedStep step || WhyNotRun(step) is not { } outcome)
            {
                return work;
            }

            endings.Refuse(step, outcome);
        }

        return null;
    }

    private StepOutcome? WhyNotRun(QueuedStep step)
    {
        var session = step.Session;
        if (step.DecodeFailure is { } failure)
        {
            return failure;
        }

        if (Stopping)
        {
            return Failure.Stopping();
        }

        if (session.State is null)
        {
            return Failure.StreamNotFound(session.Name);
        }

        // The same number may have been waiting twice.
        return session.Answered.Recall(step.Submission.Sequence, step.Digest) ?? (Expired(step) ? (StepOutcome?)ExpiredFailure(step) : null);
    }

    /// <summary>Whether the step's time to begin is over.</summary>
    public bool Expired(QueuedStep step) => step.Submission.Timeout is { } timeout && clock.GetElapsedTime(step.Submitted) >= timeout;

    /// <summary>What is said of such a step.</summary>
    public static Failure ExpiredFailure(QueuedStep step) =>
        new(
            FailureKind.DeadlineExceeded,
            "STEP_EXPIRED",
            $"the step did not begin within its {step.Submission.Timeout?.TotalMilliseconds:0.###} ms and never runs; the stream's state is as it was");

    private TakenSteps Take(QueuedStep first, int most)
    {
        var session = first.Session;
        var settings = session.Settings;
        var freeze = first.Submission.Freeze ?? settings.Frozen;
        List<QueuedStep> joined = [first];
        var frames = first.Frames;
        WorkLine.Leave(first);
        while (joined.Count < settings.MaxCoalesce && NextOf(session.Waiting) is QueuedStep next
            && (next.Submission.Freeze ?? settings.Frozen) == freeze
            && frames + next.Frames <= most
            && (next.Submission.Sequence == 0 || joined.TrueForAll(step => step.Submission.Sequence < next.Submission.Sequence))
            && JoinedFrames.Match(first.Decoded!.Block, next.Decoded!.Block))
        {
            WorkLine.Leave(next);
            joined.Add(next);
            frames += next.Frames;
        }

        return new TakenSteps(session, joined, frames, freeze, NotLearnedOf(session, joined));
    }

    // In the order in which the stream's frames run: whether one repeats another is told by the one before it.
    private NotLearnedReason[]? NotLearnedOf(StreamSession session, List<QueuedStep> steps)
    {
        var (reasons, before) = (new List<NotLearnedReason>(), session.LastPicture);
        foreach (var picture in steps.SelectMany(step => step.Pictures))
        {
            reasons.Add(guard.Judge(picture, before));
            before = picture;
        }

        return reasons.TrueForAll(reason => reason == NotLearnedReason.None) ? null : [.. reasons];
    }
}

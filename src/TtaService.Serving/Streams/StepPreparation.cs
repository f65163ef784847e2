using TtaService.Engine.Execution;
using TtaService.Serving.Frames;

namespace TtaService.Serving.Streams;

/// <summary>What a step waits for before it may run.</summary>
/// <param name="Frames">Its frames; null when there are none.</param>
/// <param name="Pictures">What they show.</param>
/// <param name="Took">What decoding them took.</param>
/// <param name="Failure">Why there are none; null also when nobody wants them any more.</param>
internal sealed record PreparedStep(DecodedFrames? Frames, PictureFacts[] Pictures, TimeSpan Took, Failure? Failure);

/// <summary>Makes an admitted step ready: its stream's state is back in the process, its frames are decoded and looked at. Thread-safe.</summary>
internal sealed class StepPreparation(DecodeTurns decoding, PictureGuard guard, StepDefects defects)
{
    /// <summary>Prepares a step.</summary>
    /// <param name="step">The step.</param>
    /// <param name="isWanted">Asked before each turn; false gives up.</param>
    public async Task<PreparedStep> PrepareAsync(QueuedStep step, Func<bool> isWanted)
    {
        DecodedFrames? frames = null;
        var took = TimeSpan.Zero;
        try
        {
            // While it waits in its queue the state does not leave again.
            await step.Session.BringBackAsync().ConfigureAwait(false);
            step.Digest ??= step.Submission.Sequence > 0 ? step.Submission.Digest() : null;
            (frames, took) = await decoding.DecodeAsync(step.Session.Decoding, step.Submission.Decoding, isWanted, step.Outcome.Task).ConfigureAwait(false);
            return new PreparedStep(frames, frames is null ? [] : PicturesOf(frames), took, null);
        }
        catch (Exception failure)
        {
            frames?.Dispose();
            return new PreparedStep(null, [], took, failure is FailureException expected ? expected.Failure : defects.Explain(failure));
        }
    }

    private PictureFacts[] PicturesOf(DecodedFrames frames)
    {
        var pictures = new PictureFacts[frames.Block.Count];
        for (var frame = 0; frame < pictures.Length; frame++)
        {
            var picture = guard.Look(frames.Block, frame);
            pictures[frame] = frames.IsDamaged(frame) ? picture with { Reason = NotLearnedReason.Damaged } : picture;
        }

        return pictures;
    }
}

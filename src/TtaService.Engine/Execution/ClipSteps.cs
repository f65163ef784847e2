namespace TtaService.Engine.Execution;

/// <summary>Steps of frames as steps of clips, and their results for each frame.</summary>
internal static class ClipSteps
{
    /// <summary>The step with clips for frames. A clip with a frame that does not teach does not teach.</summary>
    public static StreamStep Of(StreamStep step, int clipFrames) => step with
    {
        Frames = step.Frames.AsClips(clipFrames),
        NotLearned = step.NotLearned is { } reasons
            ? [.. reasons.Chunk(clipFrames).Select(clip => clip.FirstOrDefault(reason => reason != NotLearnedReason.None))]
            : null,
    };

    /// <summary>The results with a row a frame.</summary>
    public static IReadOnlyList<StepResult> FramesOf(IReadOnlyList<StepResult> results, int clipFrames) =>
    [
        .. results.Select(result => result with
        {
            Outputs = [.. result.Outputs.Select(output => output.ForFrames(clipFrames))],
            Unfiltered = result.Unfiltered?.ForFrames(clipFrames),
            Frames = result.Frames * clipFrames,
            NotLearned = [.. result.NotLearned.SelectMany(reason => Enumerable.Repeat(reason, clipFrames))],
        }),
    ];
}

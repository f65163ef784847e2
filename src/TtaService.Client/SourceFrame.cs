using TtaService.V1;

namespace TtaService.Client;

/// <summary>A frame and where it comes from.</summary>
/// <param name="Name">A path, or a number of the source.</param>
/// <param name="Frame">What is sent.</param>
public sealed record SourceFrame(string Name, Frame Frame);

/// <summary>What became of a step of <see cref="AdaptationStream.StepsAsync"/>: a reply or an error.</summary>
/// <param name="Frames">Its frames.</param>
/// <param name="Reply">The answer; null when the step failed.</param>
/// <param name="Error">Why it failed; the stream goes on.</param>
/// <param name="Took">From its sending to its answer, reconnections included.</param>
public sealed record StreamedStep(IReadOnlyList<SourceFrame> Frames, StepReply? Reply, StepError? Error, TimeSpan Took);

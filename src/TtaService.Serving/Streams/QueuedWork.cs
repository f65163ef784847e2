using System.Diagnostics;
using TtaService.Engine.Answers;
using TtaService.Engine.Execution;
using TtaService.Serving.Frames;

namespace TtaService.Serving.Streams;

/// <summary>Work on a stream's state between two of its steps: creation, reset, export, release.</summary>
internal sealed class QueuedOperation(StreamSession session, Func<InferenceEngine, Task> run) : QueuedWork(session.Waiting)
{
    public StreamSession Session { get; } = session;

    /// <summary>Runs it; does not throw.</summary>
    public Func<InferenceEngine, Task> Run { get; } = run;

    public override bool Ready => true;
}

/// <summary>Frames that were decoded for a step; their memory is given back on disposal.</summary>
/// <param name="block">The frames.</param>
/// <param name="memory">What they lie in; null when nobody wants it back.</param>
/// <param name="damaged">Whether each was decoded from a damaged file; null when none was.</param>
/// <param name="views">How each lies in the input; null for frames that are the input.</param>
internal sealed class DecodedFrames(FrameBlock block, IDisposable? memory = null, bool[]? damaged = null, FrameView[]? views = null) : IDisposable
{
    public FrameBlock Block { get; } = block;

    public FrameView ViewOf(int frame) => views?[frame] ?? new FrameView(FramePlacement.Identity(Block.Width, Block.Height));

    public bool IsDamaged(int frame) => damaged?[frame] == true;

    public void Dispose() => memory?.Dispose();
}

/// <summary>A step that a client asks for.</summary>
internal sealed record StepSubmission
{
    /// <summary>The client's number; 0 for none.</summary>
    public ulong Sequence { get; init; }

    /// <summary>Overrides the stream's setting; null keeps it.</summary>
    public bool? Freeze { get; init; }

    public required int Frames { get; init; }

    /// <summary>Memory that the frames take, encoded and decoded.</summary>
    public required long Bytes { get; init; }

    /// <summary>From the submission; a step that has not begun by then never runs.</summary>
    public TimeSpan? Timeout { get; init; }

    public required ReplyContent Content { get; init; }

    /// <summary>Makes the frames.</summary>
    public required StepDecoding Decoding { get; init; }

    /// <summary>A digest of the frames as they came; what has the same number and another digest is another step.</summary>
    public required Func<ulong> Digest { get; init; }

    /// <summary>Takes the step back while it has not begun.</summary>
    public CancellationToken Cancel { get; init; }
}

/// <summary>A step from its admission to its outcome.</summary>
internal sealed class QueuedStep(StreamSession session, StepSubmission submission, long submitted) : QueuedWork(session.Waiting)
{
    public StreamSession Session { get; } = session;

    public StepSubmission Submission { get; } = submission;

    /// <summary>When it was submitted, a timestamp of the batcher's clock.</summary>
    public long Submitted { get; } = submitted;

    /// <summary>Its span when it is traced.</summary>
    public Activity? Span { get; init; }

    /// <summary>Of its frames; null while it was not taken, and for a step without a number.</summary>
    public ulong? Digest { get; set; }

    /// <summary>Its frames once they are decoded.</summary>
    public DecodedFrames? Decoded { get; set; }

    /// <summary>What the frames show.</summary>
    public PictureFacts[] Pictures { get; set; } = [];

    public Failure? DecodeFailure { get; set; }

    public TimeSpan DecodeTime { get; set; }

    public TaskCompletionSource<StepOutcome> Outcome { get; } = new(TaskCreationOptions.RunContinuationsAsynchronously);

    public CancellationTokenRegistration Cancellation { get; set; }

    public override bool Ready => Decoded is not null || DecodeFailure is not null;

    public override int Frames => Submission.Frames;
}

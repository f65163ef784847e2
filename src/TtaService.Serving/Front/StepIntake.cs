using System.Buffers.Binary;
using System.Security.Cryptography;
using System.Text;
using Microsoft.Extensions.Options;
using TtaService.Serving.Streams;
using TtaService.Serving.Telemetry;

namespace TtaService.Serving.Front;

/// <summary>Puts a step that was sent into a submission: checks what costs nothing at once, leaves the decoding for the pool.</summary>
internal sealed class StepIntake(IOptions<BatchingOptions> batching, TtaMetrics metrics)
{
    private const string TimeoutOutOfRange = "TIMEOUT_OUT_OF_RANGE";

    private static readonly TimeSpan MaxTimeout = TimeSpan.FromDays(1);

    public int MaxFramesPerStep(ServedModel model) => Math.Min(model.Folder.MaxFramesPerStep ?? int.MaxValue, batching.Value.MaxFramesPerStep);

    /// <exception cref="FailureException">The step is refused.</exception>
    public StepSubmission Read(ServedModel model, SentStep step)
    {
        try
        {
            return ReadStep(model, step);
        }
        catch (FailureException refused) when (refused.Failure.Reason != TimeoutOutOfRange)
        {
            metrics.FrameRefused(refused.Failure.Reason);
            throw;
        }
    }

    private StepSubmission ReadStep(ServedModel model, SentStep step)
    {
        var frames = step.Frames;
        var most = MaxFramesPerStep(model);
        if (frames.Count is 0 || frames.Count > most)
        {
            var setting = most == batching.Value.MaxFramesPerStep ? "Batching:MaxFramesPerStep" : "limits.max_frames_per_step of the model";
            throw new FailureException(Failure.Invalid("FRAME_COUNT_OUT_OF_RANGE", "step.frames", $"a step has 1 to {most} frames ({setting}), not {frames.Count}"));
        }

        var kind = frames[0].Kind;
        var bytes = 0L;
        for (var i = 0; i < frames.Count; i++)
        {
            var frame = frames[i];
            if ((frame.Kind == FrameKind.Tensor) != (kind == FrameKind.Tensor))
            {
                throw new FailureException(Failure.Invalid("FRAME_KINDS_MIXED", SentFrame.Field(i), "the frames of a step are all images or all tensors"));
            }

            if (frame.Kind == FrameKind.Encoded)
            {
                metrics.FrameReceived(frame.Data.Length);
            }

            bytes += frame.Kind switch
            {
                FrameKind.Encoded or FrameKind.Raw => frame.Data.Length,
                // Twice: as it came, and as floats.
                FrameKind.Tensor => 2L * frame.Data.Length,
                _ => throw new FailureException(Failure.Invalid("FRAME_EMPTY", SentFrame.Field(i), "the frame has no content; set encoded, raw or tensor")),
            };
        }

        return new StepSubmission
        {
            Sequence = step.Sequence,
            Freeze = step.Freeze,
            Frames = frames.Count,
            Bytes = kind == FrameKind.Tensor ? bytes : bytes + ((long)frames.Count * model.Frames.FrameBytes),
            Timeout = step.Timeout is { } timeout ? ReadTimeout(timeout) : null,
            Content = step.Content,
            Digest = () => DigestOf(frames),
            Decoding = kind == FrameKind.Tensor ? new TensorDecoding(model, frames, metrics) : new ImageDecoding(model, frames, metrics),
            Cancel = step.Cancel,
        };
    }

    // Of the bytes as they came: who sends a step again sends the same ones. Stored with the answers, so it never changes.
    private static ulong DigestOf(IReadOnlyList<SentFrame> frames)
    {
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        foreach (var frame in frames)
        {
            var shape = frame.Kind switch
            {
                FrameKind.Encoded => string.Empty,
                FrameKind.Raw => $"{frame.Format} {frame.Width} {frame.Height} {frame.Stride}",
                _ => string.Join(' ', frame.Shape!),
            };
            hash.AppendData(Encoding.ASCII.GetBytes($"{frame.Kind} {shape} {frame.Data.Length};"));
            hash.AppendData(frame.Data.Span);
        }

        // 0 stands for unknown.
        return Math.Max(1, BinaryPrimitives.ReadUInt64LittleEndian(hash.GetHashAndReset()));
    }

    private static TimeSpan ReadTimeout(double seconds) => seconds > 0 && seconds <= MaxTimeout.TotalSeconds
        ? TimeSpan.FromSeconds(seconds)
        : throw new FailureException(Failure.Invalid(TimeoutOutOfRange, "step.timeout", $"a timeout is more than 0 and at most {MaxTimeout.TotalSeconds} s, not {seconds} s"));
}

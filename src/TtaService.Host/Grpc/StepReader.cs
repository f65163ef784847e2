using System.Buffers.Binary;
using System.Security.Cryptography;
using Google.Protobuf.Collections;
using Microsoft.Extensions.Options;
using TtaService.Serving.Streams;
using TtaService.Serving.Telemetry;
using TtaService.V1;

namespace TtaService.Host.Grpc;

/// <summary>Puts a step of the wire into a submission: checks what costs nothing at once, leaves the decoding for the pool.</summary>
internal sealed class StepReader(IOptions<BatchingOptions> batching, TtaMetrics metrics)
{
    private const string TimeoutOutOfRange = "TIMEOUT_OUT_OF_RANGE";

    private static readonly TimeSpan MaxTimeout = TimeSpan.FromDays(1);

    public int MaxFramesPerStep(ServedModel model) => Math.Min(model.Folder.MaxFramesPerStep ?? int.MaxValue, batching.Value.MaxFramesPerStep);

    public StepSubmission Read(ServedModel model, StepRequest step, ReplyContent content, CancellationToken cancel)
    {
        try
        {
            return ReadStep(model, step, content, cancel);
        }
        catch (FailureException refused) when (refused.Failure.Reason != TimeoutOutOfRange)
        {
            metrics.FrameRefused(refused.Failure.Reason);
            throw;
        }
    }

    private StepSubmission ReadStep(ServedModel model, StepRequest step, ReplyContent content, CancellationToken cancel)
    {
        var frames = step.Frames;
        var most = MaxFramesPerStep(model);
        if (frames.Count is 0 || frames.Count > most)
        {
            var setting = most == batching.Value.MaxFramesPerStep ? "Batching:MaxFramesPerStep" : "limits.max_frames_per_step of the model";
            throw new FailureException(Failure.Invalid("FRAME_COUNT_OUT_OF_RANGE", "step.frames", $"a step has 1 to {most} frames ({setting}), not {frames.Count}"));
        }

        var kind = frames[0].ContentCase;
        var bytes = 0L;
        for (var i = 0; i < frames.Count; i++)
        {
            var frame = frames[i];
            if ((frame.ContentCase == Frame.ContentOneofCase.Tensor) != (kind == Frame.ContentOneofCase.Tensor))
            {
                throw new FailureException(Failure.Invalid("FRAME_KINDS_MIXED", Field(i), "the frames of a step are all images or all tensors"));
            }

            if (frame.ContentCase == Frame.ContentOneofCase.Encoded)
            {
                metrics.FrameReceived(frame.Encoded.Length);
            }

            bytes += frame.ContentCase switch
            {
                Frame.ContentOneofCase.Encoded => frame.Encoded.Length,
                Frame.ContentOneofCase.Raw => frame.Raw.Data.Length,
                // Twice: as it came, and as floats.
                Frame.ContentOneofCase.Tensor => 2L * frame.Tensor.Data.Length,
                _ => throw new FailureException(Failure.Invalid("FRAME_EMPTY", Field(i), "the frame has no content; set encoded, raw or tensor")),
            };
        }

        return new StepSubmission
        {
            Sequence = step.Sequence,
            Freeze = step.HasFreeze ? step.Freeze : null,
            Frames = frames.Count,
            Bytes = kind == Frame.ContentOneofCase.Tensor ? bytes : bytes + ((long)frames.Count * model.Frames.FrameBytes),
            Timeout = step.Timeout is null ? null : ReadTimeout(step.Timeout),
            Content = content,
            Digest = () => DigestOf(frames),
            Decoding = kind == Frame.ContentOneofCase.Tensor ? new TensorDecoding(model, frames, metrics) : new ImageDecoding(model, frames, metrics),
            Cancel = cancel,
        };
    }

    // Of the bytes as they came: who sends a step again sends the same ones.
    private static ulong DigestOf(RepeatedField<Frame> frames)
    {
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        foreach (var frame in frames)
        {
            var (data, shape) = frame.ContentCase switch
            {
                Frame.ContentOneofCase.Encoded => (frame.Encoded, string.Empty),
                Frame.ContentOneofCase.Raw => (frame.Raw.Data, $"{frame.Raw.Format} {frame.Raw.Width} {frame.Raw.Height} {frame.Raw.Stride}"),
                _ => (frame.Tensor.Data, string.Join(' ', frame.Tensor.Shape)),
            };
            hash.AppendData(System.Text.Encoding.ASCII.GetBytes($"{frame.ContentCase} {shape} {data.Length};"));
            hash.AppendData(data.Span);
        }

        // 0 stands for unknown.
        return Math.Max(1, BinaryPrimitives.ReadUInt64LittleEndian(hash.GetHashAndReset()));
    }

    private static TimeSpan ReadTimeout(Google.Protobuf.WellKnownTypes.Duration timeout)
    {
        // ToTimeSpan throws on values that are not normalized.
        var seconds = timeout.Seconds + (timeout.Nanos / 1e9);
        return seconds > 0 && seconds <= MaxTimeout.TotalSeconds
            ? TimeSpan.FromSeconds(seconds)
            : throw new FailureException(Failure.Invalid(TimeoutOutOfRange, "step.timeout", $"a timeout is more than 0 and at most {MaxTimeout.TotalSeconds} s, not {seconds} s"));
    }

    /// <summary>A frame, for refusals.</summary>
    public static string Field(int index) => $"step.frames[{index}]";
}

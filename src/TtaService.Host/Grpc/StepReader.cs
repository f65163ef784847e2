using System.Buffers;
using System.Buffers.Binary;
using System.Runtime.InteropServices;
using System.Security.Cryptography;
using Google.Protobuf.Collections;
using Microsoft.Extensions.Options;
using TtaService.Engine.Execution;
using TtaService.Serving.Frames;
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
            Decode = () => Decode(model, frames, kind),
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

    private DecodedFrames Decode(ServedModel model, RepeatedField<Frame> frames, Frame.ContentOneofCase kind)
    {
        try
        {
            return kind == Frame.ContentOneofCase.Tensor ? ReadTensors(model, frames) : ReadImages(model, frames);
        }
        catch (FailureException refused)
        {
            metrics.FrameRefused(refused.Failure.Reason);
            throw;
        }
    }

    private static TimeSpan ReadTimeout(Google.Protobuf.WellKnownTypes.Duration timeout)
    {
        // ToTimeSpan throws on values that are not normalized.
        var seconds = timeout.Seconds + (timeout.Nanos / 1e9);
        return seconds > 0 && seconds <= MaxTimeout.TotalSeconds
            ? TimeSpan.FromSeconds(seconds)
            : throw new FailureException(Failure.Invalid(TimeoutOutOfRange, "step.timeout", $"a timeout is more than 0 and at most {MaxTimeout.TotalSeconds} s, not {seconds} s"));
    }

    private static DecodedFrames ReadTensors(ServedModel model, RepeatedField<Frame> frames)
    {
        // All before the memory is taken: one large frame must not get as much for each small one behind it.
        var shape = CheckedShape(frames[0].Tensor, 0);
        for (var i = 1; i < frames.Count; i++)
        {
            if (!CheckedShape(frames[i].Tensor, i).AsSpan().SequenceEqual(shape))
            {
                throw new FailureException(Failure.Invalid("TENSOR_SHAPES_DIFFER", Field(i), $"the tensors of a step have one shape; this one is [{string.Join(',', frames[i].Tensor.Shape)}], the first [{string.Join(',', shape)}]"));
            }
        }

        var floats = shape[0] * shape[1] * shape[2];
        var values = new float[(long)floats * frames.Count];
        for (var i = 0; i < frames.Count; i++)
        {
            var target = values.AsSpan(i * floats, floats);
            MemoryMarshal.Cast<byte, float>(frames[i].Tensor.Data.Span).CopyTo(target);
            foreach (var value in target)
            {
                if (!float.IsFinite(value))
                {
                    throw new FailureException(Failure.Invalid("TENSOR_NOT_FINITE", Field(i), $"the tensor holds {value}; every value must be finite"));
                }
            }
        }

        return Fitting(model, FrameBlock.FromValues(values, frames.Count, shape[0], shape[1], shape[2]), null);
    }

    private static int[] CheckedShape(FloatTensor tensor, int index)
    {
        var shape = tensor.Shape;
        var elements = 1L;
        foreach (var extent in shape)
        {
            elements = extent < 1 || elements > int.MaxValue ? 0 : elements * extent;
        }

        if (shape.Count != 3 || elements == 0 || tensor.Data.Length != sizeof(float) * elements)
        {
            var first = string.Join(',', shape.Take(8));
            throw new FailureException(Failure.Invalid("TENSOR_SIZE_WRONG", Field(index), $"a tensor has shape [C,H,W], each at least 1, and 4*C*H*W bytes; this one has [{first}{(shape.Count > 8 ? ",…" : string.Empty)}] and {tensor.Data.Length} bytes"));
        }

        return [.. shape];
    }

    private static DecodedFrames ReadImages(ServedModel model, RepeatedField<Frame> frames)
    {
        var pipeline = model.Frames;
        var bytes = (int)pipeline.FrameBytes;
        var memory = MemoryPool<byte>.Shared.Rent(bytes * frames.Count);
        try
        {
            for (var i = 0; i < frames.Count; i++)
            {
                ReadImage(pipeline, frames[i], i, memory.Memory.Span.Slice(i * bytes, bytes));
            }

            return Fitting(model, FrameBlock.FromPixels(memory.Memory[..(bytes * frames.Count)], frames.Count, pipeline.Channels, pipeline.Height, pipeline.Width), memory);
        }
        catch
        {
            memory.Dispose();
            throw;
        }
    }

    private static void ReadImage(FramePipeline pipeline, Frame frame, int index, Span<byte> target)
    {
        try
        {
            if (frame.ContentCase == Frame.ContentOneofCase.Encoded)
            {
                pipeline.DecodeEncoded(frame.Encoded.Span, target);
                return;
            }

            var raw = frame.Raw;
            var channels = raw.Format switch
            {
                RawImage.Types.Format.Rgb8 => 3,
                RawImage.Types.Format.Gray8 => 1,
                _ => throw new FailureException(Failure.Invalid("RAW_FORMAT_UNKNOWN", Field(index), $"raw format {(int)raw.Format} does not exist; use RGB8 or GRAY8")),
            };
            pipeline.DecodeRaw(raw.Data.Span, raw.Width, raw.Height, raw.Stride, channels, target);
        }
        catch (FrameException refused)
        {
            throw new FailureException(Failure.Invalid(refused.Reason, Field(index), refused.Message));
        }
    }

    private static DecodedFrames Fitting(ServedModel model, FrameBlock block, IDisposable? memory) => model.Engine.Model.WhyUnfit(block) is { } reason
        ? throw new FailureException(Failure.Invalid("FRAME_SHAPE_WRONG", "step.frames", reason))
        : new DecodedFrames(block, memory);

    private static string Field(int index) => $"step.frames[{index}]";
}

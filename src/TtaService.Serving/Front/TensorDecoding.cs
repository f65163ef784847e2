using System.Runtime.InteropServices;
using TtaService.Engine.Execution;
using TtaService.Serving.Streams;
using TtaService.Serving.Telemetry;

namespace TtaService.Serving.Front;

/// <summary>A step of tensors: copied in one turn.</summary>
internal sealed class TensorDecoding(ServedModel model, IReadOnlyList<SentFrame> frames, TtaMetrics metrics) : StepDecoding
{
    private FrameBlock? _block;

    public override int Turns => 1;

    // A float a pixel and channel; copying one is a small part of decoding it.
    public override long CostOf(int turn) => frames.Sum(frame => (long)frame.Data.Length) / 16;

    public override void Decode(int turn)
    {
        try
        {
            _block = Read();
        }
        catch (FailureException refused)
        {
            metrics.FrameRefused(refused.Failure.Reason);
            throw;
        }
    }

    public override DecodedFrames Take() => new(_block!);

    public override void Dispose()
    {
        // The collector's.
    }

    private FrameBlock Read()
    {
        // All before the memory is taken: one large frame must not get as much for each small one behind it.
        var shape = CheckedShape(frames[0], 0);
        for (var i = 1; i < frames.Count; i++)
        {
            if (!CheckedShape(frames[i], i).AsSpan().SequenceEqual(shape))
            {
                throw new FailureException(Failure.Invalid(
                    "TENSOR_SHAPES_DIFFER",
                    SentFrame.Field(i),
                    $"the tensors of a step have one shape; this one is [{string.Join(',', frames[i].Shape!)}], the first [{string.Join(',', shape)}]"));
            }
        }

        var floats = shape[0] * shape[1] * shape[2];
        var values = new float[(long)floats * frames.Count];
        for (var i = 0; i < frames.Count; i++)
        {
            var target = values.AsSpan(i * floats, floats);
            MemoryMarshal.Cast<byte, float>(frames[i].Data.Span).CopyTo(target);
            foreach (var value in target)
            {
                if (!float.IsFinite(value))
                {
                    throw new FailureException(Failure.Invalid("TENSOR_NOT_FINITE", SentFrame.Field(i), $"the tensor holds {value}; every value must be finite"));
                }
            }
        }

        var block = FrameBlock.FromValues(values, frames.Count, shape[0], shape[1], shape[2]);
        return model.Engine.Model.WhyUnfit(block) is { } reason ? throw new FailureException(Failure.Invalid("FRAME_SHAPE_WRONG", "step.frames", reason)) : block;
    }

    private static int[] CheckedShape(SentFrame tensor, int index)
    {
        var shape = tensor.Shape!;
        var elements = 1L;
        foreach (var extent in shape)
        {
            elements = extent < 1 || elements > int.MaxValue ? 0 : elements * extent;
        }

        if (shape.Count != 3 || elements == 0 || tensor.Data.Length != sizeof(float) * elements)
        {
            var first = string.Join(',', shape.Take(8));
            throw new FailureException(Failure.Invalid(
                "TENSOR_SIZE_WRONG",
                SentFrame.Field(index),
                "a tensor has shape [C,H,W], each at least 1, and 4*C*H*W bytes; "
                    + $"this one has [{first}{(shape.Count > 8 ? ",…" : string.Empty)}] and {tensor.Data.Length} bytes"));
        }

        return [.. shape];
    }
}

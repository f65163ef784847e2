using System.Buffers;
using Google.Protobuf.Collections;
using TtaService.Engine.Execution;
using TtaService.Serving.Frames;
using TtaService.Serving.Streams;
using TtaService.Serving.Telemetry;
using TtaService.V1;

namespace TtaService.Host.Grpc;

/// <summary>A step of images: a turn each, into memory that is rented when the first one comes.</summary>
internal sealed class ImageDecoding(ServedModel model, RepeatedField<Frame> frames, TtaMetrics metrics) : StepDecoding
{
    private readonly FramePipeline _pipeline = model.Frames;
    private readonly Lock _gate = new();
    private readonly bool[] _damaged = new bool[frames.Count];
    private IMemoryOwner<byte>? _memory;

    public override int Turns => frames.Count;

    private int FrameBytes => (int)_pipeline.FrameBytes;

    public override long CostOf(int turn) => frames[turn] switch
    {
        { ContentCase: Frame.ContentOneofCase.Encoded } frame => _pipeline.CostOf(frame.Encoded.Span),
        var frame => frame.Raw.Data.Length,
    };

    public override void Decode(int turn)
    {
        try
        {
            _damaged[turn] = !Read(frames[turn], turn, Memory().Slice(turn * FrameBytes, FrameBytes).Span);
        }
        catch (FrameException refused)
        {
            metrics.FrameRefused(refused.Reason);
            throw new FailureException(Failure.Invalid(refused.Reason, StepReader.Field(turn), refused.Message));
        }
        catch (FailureException refused)
        {
            metrics.FrameRefused(refused.Failure.Reason);
            throw;
        }
    }

    public override DecodedFrames Take()
    {
        var block = FrameBlock.FromPixels(Memory(), frames.Count, _pipeline.Channels, _pipeline.Height, _pipeline.Width);
        if (model.Engine.Model.WhyUnfit(block) is { } reason)
        {
            metrics.FrameRefused("FRAME_SHAPE_WRONG");
            throw new FailureException(Failure.Invalid("FRAME_SHAPE_WRONG", "step.frames", reason));
        }

        var taken = new DecodedFrames(block, _memory, _damaged);
        _memory = null;
        return taken;
    }

    public override void Dispose()
    {
        _memory?.Dispose();
        _memory = null;
    }

    private Memory<byte> Memory()
    {
        lock (_gate)
        {
            _memory ??= MemoryPool<byte>.Shared.Rent(FrameBytes * frames.Count);
            return _memory.Memory[..(FrameBytes * frames.Count)];
        }
    }

    // False for a damaged file that is to be answered all the same.
    private bool Read(Frame frame, int index, Span<byte> target)
    {
        if (frame.ContentCase == Frame.ContentOneofCase.Encoded)
        {
            return _pipeline.DecodeEncoded(frame.Encoded.Span, target);
        }

        var raw = frame.Raw;
        var channels = raw.Format switch
        {
            RawImage.Types.Format.Rgb8 => 3,
            RawImage.Types.Format.Gray8 => 1,
            _ => throw new FailureException(Failure.Invalid("RAW_FORMAT_UNKNOWN", StepReader.Field(index), $"raw format {(int)raw.Format} does not exist; use RGB8 or GRAY8")),
        };
        _pipeline.DecodeRaw(raw.Data.Span, raw.Width, raw.Height, raw.Stride, channels, target);
        return true;
    }
}

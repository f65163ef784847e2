using System.Buffers;
using TtaService.Engine.Execution;
using TtaService.Serving.Frames;
using TtaService.Serving.Streams;
using TtaService.Serving.Telemetry;

namespace TtaService.Serving.Front;

/// <summary>A step of images: a turn each, into memory that is rented when the first one comes.</summary>
internal sealed class ImageDecoding(ServedModel model, IReadOnlyList<SentFrame> frames, TtaMetrics metrics) : StepDecoding
{
    private readonly FramePipeline _pipeline = model.Frames;
    private readonly Lock _gate = new();
    private readonly bool[] _damaged = new bool[frames.Count];
    private readonly FrameView[] _views = new FrameView[frames.Count];
    private IMemoryOwner<byte>? _memory;

    public override int Turns => frames.Count;

    private int FrameBytes => (int)_pipeline.FrameBytes;

    public override long CostOf(int turn) => frames[turn] switch
    {
        { Kind: FrameKind.Encoded } frame => _pipeline.CostOf(frame.Data.Span),
        var frame => frame.Data.Length,
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
            throw new FailureException(Failure.Invalid(refused.Reason, SentFrame.Field(turn), refused.Message));
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

        var taken = new DecodedFrames(block, _memory, _damaged, _views);
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
    private bool Read(SentFrame frame, int index, Span<byte> target)
    {
        if (frame.Kind == FrameKind.Encoded)
        {
            return _pipeline.DecodeEncoded(frame.Data.Span, target, out _views[index]);
        }

        var channels = frame.Format switch
        {
            PixelFormat.Rgb8 => 3,
            PixelFormat.Gray8 => 1,
            _ => throw new FailureException(Failure.Invalid("RAW_FORMAT_UNKNOWN", SentFrame.Field(index), $"raw format {(int)frame.Format} does not exist; use RGB8 or GRAY8")),
        };
        _pipeline.DecodeRaw(frame.Data.Span, frame.Width, frame.Height, frame.Stride, channels, target);
        _views[index] = new FrameView(_pipeline.Place((frame.Width, frame.Height)));
        return true;
    }
}

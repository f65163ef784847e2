using SkiaSharp;
using TtaService.Engine.Execution;
using TtaService.Engine.Normalization;
using TtaService.Engine.Streams;
using TtaService.Serving.Frames;

namespace TtaService.Serving.Streams.Loading;

/// <summary>Sends made-up pictures through a model before it is ready, so that no camera waits for the runtime's compiler and for first allocations.</summary>
internal static class WarmUp
{
    private const int Passes = 3;
    private const int Side = 64;

    /// <summary>Adapts a state that nobody sees, and releases it.</summary>
    public static Task RunAsync(ServedModel served) =>
        served.Engine.InvokeAsync(model => Adapt(model, served.DefaultMethod, Frames(served.Frames, model.ClipFrames).CopyFrames(0, model.ClipFrames)));

    /// <summary>Two frames, or clips of a frame over and over, as a pipeline makes them: an even picture and noise.</summary>
    public static FrameBlock Frames(FramePipeline pipeline, int clipFrames)
    {
        var size = checked((int)pipeline.FrameBytes);
        var pixels = new byte[2 * clipFrames * size];
        try
        {
            pipeline.DecodeEncoded(Picture(), pixels.AsSpan(0, size));
        }
        catch (FrameException)
        {
            // Smaller than limits of the user's own allow; black will do.
        }

        // Not for secrets: the same noise at every start.
        new Random(0).NextBytes(pixels.AsSpan(clipFrames * size));
        for (var frame = 1; frame < clipFrames; frame++)
        {
            pixels.AsSpan(0, size).CopyTo(pixels.AsSpan(frame * size));
        }

        return FrameBlock.FromPixels(pixels, 2 * clipFrames, pipeline.Channels, pipeline.Height, pipeline.Width);
    }

    private static bool Adapt(AdaptiveModel model, MethodSettings method, FrameBlock frame)
    {
        StreamState state;
        try
        {
            state = model.CreateState(method);
        }
        catch (ArenaFullException)
        {
            // No stream fits; whoever opens one is told.
            return false;
        }

        for (var pass = 0; pass < Passes; pass++)
        {
            model.Run([new StreamStep(state, frame)]);
        }

        model.Release(state);
        return true;
    }

    private static byte[] Picture()
    {
        using var bitmap = new SKBitmap(Side, Side);
        bitmap.Erase(SKColors.Gray);
        using var data = bitmap.Encode(SKEncodedImageFormat.Jpeg, 90);
        return data.ToArray();
    }
}

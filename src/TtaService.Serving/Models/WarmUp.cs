using SkiaSharp;
using TtaService.Engine.Execution;
using TtaService.Engine.Normalization;
using TtaService.Engine.Streams;
using TtaService.Serving.Frames;
using TtaService.Serving.Streams;

namespace TtaService.Serving.Models;

/// <summary>Sends made-up pictures through a model before it is ready, so that no camera waits for the runtime's compiler and for first allocations.</summary>
internal static class WarmUp
{
    private const int Passes = 3;
    private const int Side = 64;

    /// <summary>Adapts a state that nobody sees, and releases it.</summary>
    public static Task RunAsync(ServedModel served) => served.Engine.InvokeAsync(model => Adapt(model, served.DefaultMethod, Frames(served.Frames).CopyFrame(0)));

    /// <summary>Two frames as a pipeline makes them: an even picture and noise.</summary>
    public static FrameBlock Frames(FramePipeline pipeline)
    {
        var size = checked((int)pipeline.FrameBytes);
        var pixels = new byte[2 * size];
        try
        {
            pipeline.DecodeEncoded(Picture(), pixels.AsSpan(0, size));
        }
        catch (FrameException)
        {
            // Smaller than limits of the user's own allow; black will do.
        }

        // Not for secrets: the same noise at every start.
        new Random(0).NextBytes(pixels.AsSpan(size));
        return FrameBlock.FromPixels(pixels, 2, pipeline.Channels, pipeline.Height, pipeline.Width);
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

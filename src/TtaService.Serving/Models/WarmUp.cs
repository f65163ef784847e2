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

    /// <summary>Decodes, adapts a state that nobody sees, and releases it.</summary>
    public static async Task RunAsync(ServedModel served)
    {
        var pixels = new byte[served.Frames.FrameBytes];
        try
        {
            served.Frames.DecodeEncoded(Picture(), pixels);
        }
        catch (FrameException)
        {
            // Smaller than limits of the user's own allow; black will do.
        }

        await served.Engine.InvokeAsync(model => Adapt(model, served.DefaultMethod, FrameBlock.FromPixels(pixels, 1, served.Frames.Channels, served.Frames.Height, served.Frames.Width))).ConfigureAwait(false);
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

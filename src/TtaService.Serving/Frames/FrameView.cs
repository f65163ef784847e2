using SkiaSharp;
using TtaService.Engine.Answers;

namespace TtaService.Serving.Frames;

/// <summary>How a frame, as it was sent, lies in the model's input: answers in the input's pixels go back to the frame's through it.</summary>
/// <param name="Upright">How the picture lies there, once it is turned.</param>
/// <param name="Turned">How it was turned (EXIF); top left for not at all.</param>
internal readonly record struct FrameView(FramePlacement Upright, SKEncodedOrigin Turned = SKEncodedOrigin.TopLeft)
{
    private bool LiesOnItsSide => Turned >= SKEncodedOrigin.LeftTop;

    /// <summary>Of the frame as it was sent.</summary>
    public int Width => LiesOnItsSide ? Upright.Height : Upright.Width;

    /// <summary>Of the frame as it was sent.</summary>
    public int Height => LiesOnItsSide ? Upright.Width : Upright.Height;

    /// <summary>A point of the input in the frame's pixels.</summary>
    public (float X, float Y) ToFrame(float x, float y)
    {
        var (right, down) = Upright.ToFrame(x, y);
        return Stored(right, down, Upright.Width, Upright.Height);
    }

    /// <summary>A box of the input in the frame's pixels; its corners stay top left and bottom right.</summary>
    public (float X1, float Y1, float X2, float Y2) ToFrame(float x1, float y1, float x2, float y2)
    {
        var (a, b) = (ToFrame(x1, y1), ToFrame(x2, y2));
        return (Math.Min(a.X, b.X), Math.Min(a.Y, b.Y), Math.Max(a.X, b.X), Math.Max(a.Y, b.Y));
    }

    /// <summary>A map of the upright picture as one of the frame.</summary>
    public byte[] ToFrame(byte[] upright)
    {
        if (Turned == SKEncodedOrigin.TopLeft)
        {
            return upright;
        }

        var stored = new byte[upright.Length];
        for (var y = 0; y < Upright.Height; y++)
        {
            for (var x = 0; x < Upright.Width; x++)
            {
                // Of pixels instead of edges: their centres.
                var (column, row) = Stored(x + 0.5f, y + 0.5f, Upright.Width, Upright.Height);
                stored[((int)row * Width) + (int)column] = upright[(y * Upright.Width) + x];
            }
        }

        return stored;
    }

    // The other way round than Orientation turns.
    private (float X, float Y) Stored(float x, float y, int width, int height) => Turned switch
    {
        SKEncodedOrigin.TopRight => (width - x, y),
        SKEncodedOrigin.BottomRight => (width - x, height - y),
        SKEncodedOrigin.BottomLeft => (x, height - y),
        SKEncodedOrigin.LeftTop => (y, x),
        SKEncodedOrigin.RightTop => (y, width - x),
        SKEncodedOrigin.RightBottom => (height - y, width - x),
        SKEncodedOrigin.LeftBottom => (height - y, x),
        _ => (x, y),
    };
}

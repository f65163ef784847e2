using System.Buffers;
using System.Runtime.InteropServices;
using SkiaSharp;

namespace TtaService.Serving.Frames;

/// <summary>Turns and mirrors pixels as EXIF's orientation asks (TIFF 6.0, tag 274).</summary>
internal static class Orientation
{
    /// <summary>The upright image, in memory of its own.</summary>
    public static FrameDecoder.Decoded Apply(FrameDecoder.Decoded image)
    {
        var turned = image.LiesOnItsSide;
        var (width, height) = turned ? (image.Height, image.Width) : (image.Width, image.Height);
        var source = turned ? (image.Source.Height, image.Source.Width) : image.Source;
        var upright = new FrameDecoder.Decoded(MemoryPool<byte>.Shared.Rent(4 * width * height), width, height, SKEncodedOrigin.TopLeft, source, image.Damage);
        var from = MemoryMarshal.Cast<byte, uint>(image.Pixels);
        var to = MemoryMarshal.Cast<byte, uint>(upright.Pixels);
        for (var y = 0; y < height; y++)
        {
            for (var x = 0; x < width; x++)
            {
                var (column, row) = image.Orientation switch
                {
                    SKEncodedOrigin.TopRight => (width - 1 - x, y),
                    SKEncodedOrigin.BottomRight => (width - 1 - x, height - 1 - y),
                    SKEncodedOrigin.BottomLeft => (x, height - 1 - y),
                    SKEncodedOrigin.LeftTop => (y, x),
                    SKEncodedOrigin.RightTop => (y, width - 1 - x),
                    SKEncodedOrigin.RightBottom => (height - 1 - y, width - 1 - x),
                    SKEncodedOrigin.LeftBottom => (height - 1 - y, x),
                    _ => (x, y),
                };
                to[(y * width) + x] = from[(row * image.Width) + column];
            }
        }

        return upright;
    }
}

using System.Buffers;

namespace TtaService.Serving.Frames;

/// <summary>Interpolates the chroma of a decoded JPEG whose decoder repeated it, as libjpeg-turbo's "fancy" upsampling does (jdsample.c): a triangle filter.</summary>
/// <remarks>Brightness and chroma are found back from the colours (JFIF's YCbCr, 16 bits behind the point): chroma is the same for all pixels of a block, so its rounding
/// averages out; a channel at 0 or 255 was cut off, and says nothing where another channel can.</remarks>
internal static class ChromaInterpolation
{
    private const int Half = 1 << 15;
    private const int Grey = 128;

    // libjpeg-turbo repeats, too, where there is nothing between.
    private const int LeastColumns = 3;

    /// <summary>Changes colours in place.</summary>
    /// <param name="rgba">[height,width,4].</param>
    /// <param name="width">Pixels in a row.</param>
    /// <param name="height">Rows.</param>
    /// <param name="block">Pixels that share their chroma: 2x1, 2x2 or 1x2; others are left alone.</param>
    public static void Apply(Span<byte> rgba, int width, int height, (int Width, int Height) block)
    {
        var (columns, rows) = ((width + block.Width - 1) / block.Width, (height + block.Height - 1) / block.Height);
        if (block is not ((2, 1) or (2, 2) or (1, 2)) || (block.Width == 2 && columns < LeastColumns))
        {
            return;
        }

        var rented = ArrayPool<byte>.Shared.Rent(2 * ((columns * rows) + (columns * block.Width)));
        try
        {
            var blue = rented.AsSpan(0, columns * rows);
            var red = rented.AsSpan(columns * rows, columns * rows);
            var rowBlue = rented.AsSpan(2 * columns * rows, columns * block.Width);
            var rowRed = rented.AsSpan((2 * columns * rows) + rowBlue.Length, rowBlue.Length);
            for (var at = 0; at < blue.Length; at++)
            {
                (blue[at], red[at]) = Chroma(rgba, width, height, at % columns * block.Width, at / columns * block.Height, block);
            }

            for (var y = 0; y < height; y++)
            {
                Row(blue, columns, rows, y, block, rowBlue);
                Row(red, columns, rows, y, block, rowRed);
                var own = y / block.Height * columns;
                for (var x = 0; x < width; x++)
                {
                    var pixel = rgba.Slice(4 * ((y * width) + x), 3);
                    var at = own + (x / block.Width);
                    Colour(pixel, Brightness(pixel, blue[at] - Grey, red[at] - Grey), rowBlue[x] - Grey, rowRed[x] - Grey);
                }
            }
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(rented);
        }
    }

    private static bool IsCut(byte channel) => channel is 0 or byte.MaxValue;

    private static (byte Blue, byte Red) Chroma(ReadOnlySpan<byte> rgba, int width, int height, int left, int top, (int Width, int Height) block)
    {
        var (blue, red, count) = (0, 0, 0);
        var (anyBlue, anyRed, any) = (0, 0, 0);
        for (var y = top; y < Math.Min(top + block.Height, height); y++)
        {
            for (var x = left; x < Math.Min(left + block.Width, width); x++)
            {
                var pixel = rgba.Slice(4 * ((y * width) + x), 3);
                var (r, g, b) = (pixel[0], pixel[1], pixel[2]);
                var cb = (-11059 * r) - (21709 * g) + (32768 * b);
                var cr = (32768 * r) - (27439 * g) - (5329 * b);
                (anyBlue, anyRed, any) = (anyBlue + cb, anyRed + cr, any + 1);
                if (!IsCut(r) && !IsCut(g) && !IsCut(b))
                {
                    (blue, red, count) = (blue + cb, red + cr, count + 1);
                }
            }
        }

        (blue, red, count) = count > 0 ? (blue, red, count) : (anyBlue, anyRed, any);
        return (Level(Grey + (((blue / count) + Half) >> 16)), Level(Grey + (((red / count) + Half) >> 16)));
    }

    // Y of a pixel whose chroma is known, from the channels that were not cut off.
    private static int Brightness(ReadOnlySpan<byte> pixel, int blue, int red)
    {
        var (r, g, b) = (pixel[0], pixel[1], pixel[2]);
        var (useRed, useGreen, useBlue) = (!IsCut(r), !IsCut(g), !IsCut(b));
        if ((useRed && useGreen && useBlue) || !(useRed || useGreen || useBlue))
        {
            return ((19595 * r) + (38470 * g) + (7471 * b) + Half) >> 16;
        }

        return useGreen ? g + (((22554 * blue) + (46802 * red) + Half) >> 16)
            : useRed ? r - (((91881 * red) + Half) >> 16)
            : b - (((116130 * blue) + Half) >> 16);
    }

    private static void Colour(Span<byte> pixel, int brightness, int blue, int red)
    {
        pixel[0] = Level(brightness + (((91881 * red) + Half) >> 16));
        pixel[1] = Level(brightness - (((22554 * blue) + (46802 * red) + Half) >> 16));
        pixel[2] = Level(brightness + (((116130 * blue) + Half) >> 16));
    }

    private static byte Level(int level) => (byte)Math.Clamp(level, 0, byte.MaxValue);

    // A row of the picture's chroma: three parts of the nearest sample, one of the next nearest; roundings as in jdsample.c.
    private static void Row(ReadOnlySpan<byte> plane, int columns, int rows, int y, (int Width, int Height) block, Span<byte> row)
    {
        var near = plane.Slice(y / block.Height * columns, columns);
        if (block.Height == 1)
        {
            for (var j = 0; j < columns; j++)
            {
                row[2 * j] = (byte)(((3 * near[j]) + near[Math.Max(j - 1, 0)] + 1) >> 2);
                row[(2 * j) + 1] = (byte)(((3 * near[j]) + near[Math.Min(j + 1, columns - 1)] + 2) >> 2);
            }

            return;
        }

        var isUpper = y % 2 == 0;
        var far = plane.Slice(Math.Clamp((y / 2) + (isUpper ? -1 : 1), 0, rows - 1) * columns, columns);
        if (block.Width == 1)
        {
            for (var j = 0; j < columns; j++)
            {
                row[j] = (byte)(((3 * near[j]) + far[j] + (isUpper ? 1 : 2)) >> 2);
            }

            return;
        }

        var (before, own) = ((3 * near[0]) + far[0], (3 * near[0]) + far[0]);
        for (var j = 0; j < columns; j++)
        {
            var right = Math.Min(j + 1, columns - 1);
            var after = (3 * near[right]) + far[right];
            row[2 * j] = (byte)(((3 * own) + before + 8) >> 4);
            row[(2 * j) + 1] = (byte)(((3 * own) + after + 7) >> 4);
            (before, own) = (own, after);
        }
    }
}

namespace TtaService.Evaluation;

/// <summary>What JPEG loses: YCbCr with chroma at half the size, 8x8 cosine transform, and the quantization tables of the standard (ITU-T T.81, Annex K) at a quality.</summary>
/// <remarks>Coding itself loses nothing and is left out.</remarks>
internal static class JpegQuantization
{
    private const int Side = 8;

    private static readonly int[] Luminance =
    [
        16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51, 87, 80, 62,
        18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92, 49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99,
    ];

    private static readonly int[] Chrominance =
    [
        17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99, 24, 26, 56, 99, 99, 99, 99, 99, 47, 66, 99, 99, 99, 99, 99, 99,
        99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99,
    ];

    private static readonly float[] Cosines = MakeCosines();

    public static void Apply(Picture picture, int quality)
    {
        var (height, width) = (picture.Height, picture.Width);
        if (picture.Planes.Length == 1)
        {
            picture.Planes[0] = Quantize(picture.Planes[0], height, width, Scaled(Luminance, quality));
            return;
        }

        var (red, green, blue) = (picture.Planes[0], picture.Planes[1], picture.Planes[2]);
        float[] y = new float[red.Length], cb = new float[red.Length], cr = new float[red.Length];
        for (var i = 0; i < y.Length; i++)
        {
            y[i] = (0.299f * red[i]) + (0.587f * green[i]) + (0.114f * blue[i]);
            cb[i] = ((blue[i] - y[i]) * 0.564f) + 0.5f;
            cr[i] = ((red[i] - y[i]) * 0.713f) + 0.5f;
        }

        y = Quantize(y, height, width, Scaled(Luminance, quality));
        cb = Chroma(cb, height, width, Scaled(Chrominance, quality));
        cr = Chroma(cr, height, width, Scaled(Chrominance, quality));
        for (var i = 0; i < y.Length; i++)
        {
            red[i] = y[i] + (1.402f * (cr[i] - 0.5f));
            green[i] = y[i] - (0.344f * (cb[i] - 0.5f)) - (0.714f * (cr[i] - 0.5f));
            blue[i] = y[i] + (1.772f * (cb[i] - 0.5f));
        }
    }

    private static float[] Chroma(float[] plane, int height, int width, int[] table)
    {
        var (rows, columns) = ((height + 1) / 2, (width + 1) / 2);
        var small = new float[rows * columns];
        for (var i = 0; i < small.Length; i++)
        {
            var (top, left) = (i / columns * 2, i % columns * 2);
            var (bottom, right) = (Math.Min(top + 1, height - 1), Math.Min(left + 1, width - 1));
            small[i] = (plane[(top * width) + left] + plane[(top * width) + right] + plane[(bottom * width) + left] + plane[(bottom * width) + right]) / 4;
        }

        small = Quantize(small, rows, columns, table);
        var result = new float[plane.Length];
        for (var i = 0; i < result.Length; i++)
        {
            result[i] = Filters.Sample(small, rows, columns, ((i / width) - 0.5) / 2, ((i % width) - 0.5) / 2);
        }

        return result;
    }

    private static float[] Quantize(float[] plane, int height, int width, int[] table)
    {
        var result = new float[plane.Length];
        var block = new float[Side * Side];
        var between = new float[Side * Side];
        for (var top = 0; top < height; top += Side)
        {
            for (var left = 0; left < width; left += Side)
            {
                for (var i = 0; i < block.Length; i++)
                {
                    // Blocks past the border repeat it.
                    block[i] = (255 * plane[(Math.Min(top + (i / Side), height - 1) * width) + Math.Min(left + (i % Side), width - 1)]) - 128;
                }

                Transform(block, between, inverse: false);
                for (var i = 0; i < block.Length; i++)
                {
                    block[i] = MathF.Round(block[i] / table[i]) * table[i];
                }

                Transform(block, between, inverse: true);
                for (var i = 0; i < block.Length; i++)
                {
                    if (top + (i / Side) < height && left + (i % Side) < width)
                    {
                        result[((top + (i / Side)) * width) + left + (i % Side)] = Math.Clamp((MathF.Round(block[i]) + 128) / 255, 0, 1);
                    }
                }
            }
        }

        return result;
    }

    // Rows, then columns, by the orthonormal matrix.
    private static void Transform(float[] block, float[] between, bool inverse)
    {
        for (var pass = 0; pass < 2; pass++)
        {
            for (var y = 0; y < Side; y++)
            {
                for (var u = 0; u < Side; u++)
                {
                    var sum = 0f;
                    for (var x = 0; x < Side; x++)
                    {
                        sum += block[(y * Side) + x] * Cosines[inverse ? (x * Side) + u : (u * Side) + x];
                    }

                    // Transposed, so that the second pass goes over the columns.
                    between[(u * Side) + y] = sum;
                }
            }

            between.CopyTo(block, 0);
        }
    }

    private static float[] MakeCosines()
    {
        var cosines = new float[Side * Side];
        for (var i = 0; i < cosines.Length; i++)
        {
            var (u, x) = (i / Side, i % Side);
            cosines[i] = (float)(Math.Sqrt((u == 0 ? 1.0 : 2.0) / Side) * Math.Cos(((2 * x) + 1) * u * Math.PI / (2 * Side)));
        }

        return cosines;
    }

    // libjpeg's scaling of the tables.
    private static int[] Scaled(int[] table, int quality)
    {
        var scale = quality < 50 ? 5000 / quality : 200 - (2 * quality);
        return [.. table.Select(value => Math.Clamp(((value * scale) + 50) / 100, 1, 255))];
    }
}

namespace TtaService.Evaluation;

/// <summary>Filtering and sampling of one plane of height*width values.</summary>
internal static class Filters
{
    /// <summary>Correlates with a square kernel of odd side; the border is mirrored without its edge.</summary>
    public static float[] Convolve(float[] plane, int height, int width, float[] kernel, int side)
    {
        var reach = side / 2;
        var result = new float[plane.Length];
        for (var y = 0; y < height; y++)
        {
            for (var x = 0; x < width; x++)
            {
                var sum = 0f;
                for (var dy = -reach; dy <= reach; dy++)
                {
                    var row = Mirror(y + dy, height) * width;
                    for (var dx = -reach; dx <= reach; dx++)
                    {
                        var weight = kernel[((dy + reach) * side) + dx + reach];
                        if (weight != 0)
                        {
                            sum += weight * plane[row + Mirror(x + dx, width)];
                        }
                    }
                }

                result[(y * width) + x] = sum;
            }
        }

        return result;
    }

    /// <summary>Gaussian blur, separable; the kernel reaches <paramref name="truncate"/> deviations.</summary>
    public static float[] Gaussian(float[] plane, int height, int width, double deviation, double truncate = 4)
    {
        var reach = (int)((truncate * deviation) + 0.5);
        if (reach < 1)
        {
            return plane;
        }

        var weights = new float[(2 * reach) + 1];
        for (var i = -reach; i <= reach; i++)
        {
            weights[i + reach] = (float)Math.Exp(-0.5 * i * i / (deviation * deviation));
        }

        var total = weights.Sum();
        var between = new float[plane.Length];
        var result = new float[plane.Length];
        for (var y = 0; y < height; y++)
        {
            for (var x = 0; x < width; x++)
            {
                var sum = 0f;
                for (var i = -reach; i <= reach; i++)
                {
                    sum += weights[i + reach] * plane[(y * width) + Mirror(x + i, width)];
                }

                between[(y * width) + x] = sum / total;
            }
        }

        for (var y = 0; y < height; y++)
        {
            for (var x = 0; x < width; x++)
            {
                var sum = 0f;
                for (var i = -reach; i <= reach; i++)
                {
                    sum += weights[i + reach] * between[(Mirror(y + i, height) * width) + x];
                }

                result[(y * width) + x] = sum / total;
            }
        }

        return result;
    }

    /// <summary>The value between pixels; outside, the border mirrors.</summary>
    public static float Sample(float[] plane, int height, int width, double y, double x)
    {
        var (top, left) = ((int)Math.Floor(y), (int)Math.Floor(x));
        var (v, u) = ((float)(y - top), (float)(x - left));
        var (upper, lower) = (Mirror(top, height) * width, Mirror(top + 1, height) * width);
        var (near, far) = (Mirror(left, width), Mirror(left + 1, width));
        return ((1 - v) * (((1 - u) * plane[upper + near]) + (u * plane[upper + far]))) + (v * (((1 - u) * plane[lower + near]) + (u * plane[lower + far])));
    }

    /// <summary>The centre of a plane, magnified.</summary>
    public static float[] Zoom(float[] plane, int height, int width, double factor)
    {
        var result = new float[plane.Length];
        var (centerY, centerX) = ((height - 1) / 2.0, (width - 1) / 2.0);
        for (var y = 0; y < height; y++)
        {
            for (var x = 0; x < width; x++)
            {
                result[(y * width) + x] = Sample(plane, height, width, centerY + ((y - centerY) / factor), centerX + ((x - centerX) / factor));
            }
        }

        return result;
    }

    /// <summary>A one-sided Gaussian trail in a direction, as a camera that moves leaves.</summary>
    public static float[] Motion(float[] plane, int height, int width, double radius, double deviation, double degrees)
    {
        var steps = Math.Max(2, (int)Math.Round((2 * radius) + 1));
        var weights = Enumerable.Range(0, steps).Select(i => (float)Math.Exp(-0.5 * i * i / (deviation * deviation))).ToArray();
        var total = weights.Sum();
        var (dy, dx) = (Math.Sin(degrees * Math.PI / 180), Math.Cos(degrees * Math.PI / 180));
        var result = new float[plane.Length];
        for (var y = 0; y < height; y++)
        {
            for (var x = 0; x < width; x++)
            {
                var sum = 0f;
                for (var i = 0; i < steps && weights[i] > 1e-4f; i++)
                {
                    // The border keeps its value.
                    sum += weights[i] * Sample(plane, height, width, Math.Clamp(y + (i * dy), 0, height - 1), Math.Clamp(x + (i * dx), 0, width - 1));
                }

                result[(y * width) + x] = sum / total;
            }
        }

        return result;
    }

    /// <summary>A cloud: plasma fractal by diamond and square, 0 to 1.</summary>
    /// <param name="height">Rows wanted.</param>
    /// <param name="width">Columns wanted.</param>
    /// <param name="decay">By how much the roughness shrinks with each halving, more than 1.</param>
    /// <param name="random">The source of roughness.</param>
    public static float[] Plasma(int height, int width, double decay, Random random)
    {
        var side = 1;
        while (side < Math.Max(height, width))
        {
            side *= 2;
        }

        var map = new float[side * side];
        var roughness = 100.0;
        for (var step = side; step >= 2; step /= 2, roughness /= decay)
        {
            var half = step / 2;
            for (var y = 0; y < side; y += step)
            {
                for (var x = 0; x < side; x += step)
                {
                    map[At(y + half, x + half)] = Rough(map[At(y, x)] + map[At(y + step, x)] + map[At(y, x + step)] + map[At(y + step, x + step)]);
                }
            }

            for (var y = 0; y < side; y += half)
            {
                for (var x = (y / half) % 2 == 0 ? half : 0; x < side; x += step)
                {
                    map[At(y, x)] = Rough(map[At(y - half, x)] + map[At(y + half, x)] + map[At(y, x - half)] + map[At(y, x + half)]);
                }
            }
        }

        var (low, high) = (map.Min(), map.Max());
        var result = new float[height * width];
        for (var i = 0; i < result.Length; i++)
        {
            result[i] = (map[(i / width * side) + (i % width)] - low) / Math.Max(high - low, 1e-6f);
        }

        return result;

        int At(int y, int x) => ((y + side) % side * side) + ((x + side) % side);

        float Rough(float sum) => (sum / 4) + (float)((random.NextDouble() - 0.5) * 2 * roughness);
    }

    private static int Mirror(int at, int extent)
    {
        if (extent == 1)
        {
            return 0;
        }

        while (at < 0 || at >= extent)
        {
            at = at < 0 ? -at : (2 * extent) - 2 - at;
        }

        return at;
    }
}

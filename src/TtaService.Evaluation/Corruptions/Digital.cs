namespace TtaService.Evaluation;

internal static class Digital
{
    public static void Contrast(Picture picture, Strength strength, Random random)
    {
        var kept = strength.Of([0.75f, 0.5f, 0.4f, 0.3f, 0.15f], [0.4f, 0.3f, 0.2f, 0.1f, 0.05f]);
        picture.MapPlanes(plane =>
        {
            var mean = plane.Average();
            return [.. plane.Select(value => ((value - mean) * kept) + mean)];
        });
    }

    /// <summary>A random affine map and a smooth random displacement (Simard et al., ICDAR 2003).</summary>
    public static void Elastic(Picture picture, Strength strength, Random random)
    {
        // Shares of the image's side: displacement, its smoothness, and the affine part. ImageNet-C's are of 244.
        var (alpha, smooth, affine) = strength.Of(
            [(0.0, 0.0, 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.1, 0.04, 0.05), (0.1, 0.03, 0.03)],
            [(2.0, 0.7, 0.1), (2.0, 0.08, 0.2), (0.05, 0.01, 0.02), (0.07, 0.01, 0.02), (0.12, 0.01, 0.02)]);
        var (height, width) = (picture.Height, picture.Width);
        var side = Math.Min(height, width);
        var map = Affine(height, width, side, affine * side, random);
        var (moveY, moveX) = (Displacement(), Displacement());
        picture.MapPlanes(plane =>
        {
            var result = new float[plane.Length];
            for (var i = 0; i < result.Length; i++)
            {
                var (y, x) = ((i / width) + moveY[i], (i % width) + moveX[i]);
                result[i] = Filters.Sample(plane, height, width, (map[3] * x) + (map[4] * y) + map[5], (map[0] * x) + (map[1] * y) + map[2]);
            }

            return result;
        });

        float[] Displacement()
        {
            var field = new float[height * width];
            for (var i = 0; i < field.Length; i++)
            {
                field[i] = (float)((2 * random.NextDouble()) - 1);
            }

            return [.. Filters.Gaussian(field, height, width, smooth * side, truncate: 3).Select(value => (float)(value * alpha * side))];
        }
    }

    public static void Pixelate(Picture picture, Strength strength, Random random)
    {
        var share = strength.Of([0.95, 0.9, 0.85, 0.75, 0.65], [0.6, 0.5, 0.4, 0.3, 0.25]);
        var (height, width) = (picture.Height, picture.Width);
        var (rows, columns) = (Math.Max(1, (int)(height * share)), Math.Max(1, (int)(width * share)));
        picture.MapPlanes(plane => BoxResize(BoxResize(plane, height, width, rows, columns), rows, columns, height, width));
    }

    public static void Jpeg(Picture picture, Strength strength, Random random) =>
        JpegQuantization.Apply(picture, strength.Of([80, 65, 58, 50, 40], [25, 18, 15, 10, 7]));

    // The map that takes three points around the centre from their moved places back; x' = m0 x + m1 y + m2, y' = m3 x + m4 y + m5.
    private static double[] Affine(int height, int width, int side, double reach, Random random)
    {
        double[] centers = [width / 2, height / 2];
        var square = side / 3;
        double[][] points = [[centers[0] + square, centers[1] + square], [centers[0] + square, centers[1] - square], [centers[0] - square, centers[1] - square]];
        var moved = points.Select(point => point.Select(value => value + (reach * ((2 * random.NextDouble()) - 1))).ToArray()).ToArray();
        var (ax, ay, bx, by) = (moved[1][0] - moved[0][0], moved[1][1] - moved[0][1], moved[2][0] - moved[0][0], moved[2][1] - moved[0][1]);
        var determinant = (ax * by) - (ay * bx);
        var map = new double[6];
        for (var row = 0; row < 2; row++)
        {
            var (first, second) = (points[1][row] - points[0][row], points[2][row] - points[0][row]);
            map[3 * row] = ((first * by) - (second * ay)) / determinant;
            map[(3 * row) + 1] = ((second * ax) - (first * bx)) / determinant;
            map[(3 * row) + 2] = points[0][row] - (map[3 * row] * moved[0][0]) - (map[(3 * row) + 1] * moved[0][1]);
        }

        return map;
    }

    private static float[] BoxResize(float[] plane, int height, int width, int rows, int columns)
    {
        var result = new float[rows * columns];
        for (var i = 0; i < result.Length; i++)
        {
            var (top, bottom) = Span(i / columns, height, rows);
            var (left, right) = Span(i % columns, width, columns);
            var sum = 0f;
            for (var y = top; y < bottom; y++)
            {
                for (var x = left; x < right; x++)
                {
                    sum += plane[(y * width) + x];
                }
            }

            result[i] = sum / ((bottom - top) * (right - left));
        }

        return result;

        // Pillow's box: the pixels whose centre lies within the output pixel, at least one.
        static (int First, int Last) Span(int at, int input, int output)
        {
            var scale = (double)input / output;
            var (center, support) = ((at + 0.5) * scale, 0.5 * Math.Max(scale, 1));
            var first = Math.Max(0, (int)(center - support + 0.5));
            return (first, Math.Max(first + 1, Math.Min(input, (int)(center + support + 0.5))));
        }
    }
}

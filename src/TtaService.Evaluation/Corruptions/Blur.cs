namespace TtaService.Evaluation;

internal static class Blur
{
    public static void Defocus(Picture picture, Strength strength, Random random)
    {
        var (radius, alias) = strength.Of(
            [(0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1.0, 0.2), (1.5, 0.1)],
            [(3.0, 0.1), (4.0, 0.5), (6.0, 0.5), (8.0, 0.5), (10.0, 0.5)]);
        var reach = Math.Max(2, (int)Math.Ceiling(radius * strength.Scale) + 1);
        var side = (2 * reach) + 1;
        var disk = new float[side * side];
        for (var i = 0; i < disk.Length; i++)
        {
            var (y, x) = ((i / side) - reach, (i % side) - reach);
            disk[i] = (x * x) + (y * y) <= Math.Pow(radius * strength.Scale, 2) ? 1 : 0;
        }

        var total = disk.Sum();
        var kernel = Filters.Gaussian([.. disk.Select(value => value / total)], side, side, alias, truncate: 3);
        picture.MapPlanes(plane => Filters.Convolve(plane, picture.Height, picture.Width, kernel, side));
    }

    public static void Glass(Picture picture, Strength strength, Random random)
    {
        var (deviation, distance, iterations) = strength.Of(
            [(0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2)],
            [(0.7, 1, 2), (0.9, 2, 1), (1.0, 2, 3), (1.1, 3, 2), (1.5, 4, 2)]);
        distance = Math.Max(1, (int)Math.Round(distance * strength.Scale));
        var (height, width) = (picture.Height, picture.Width);
        picture.MapPlanes(plane => Filters.Gaussian(plane, height, width, deviation * strength.Scale));
        for (var n = 0; n < iterations; n++)
        {
            for (var y = height - distance - 1; y >= distance; y--)
            {
                for (var x = width - distance - 1; x >= distance; x--)
                {
                    var (dy, dx) = (random.Next(-distance, distance), random.Next(-distance, distance));
                    var (here, there) = ((y * width) + x, ((y + dy) * width) + x + dx);
                    foreach (var plane in picture.Planes)
                    {
                        (plane[here], plane[there]) = (plane[there], plane[here]);
                    }
                }
            }
        }

        picture.MapPlanes(plane => Filters.Gaussian(plane, height, width, deviation * strength.Scale));
    }

    public static void Motion(Picture picture, Strength strength, Random random)
    {
        var (radius, deviation) = strength.Of(
            [(6.0, 1.0), (6.0, 1.5), (6.0, 2.0), (8.0, 2.0), (9.0, 2.5)],
            [(10.0, 3.0), (15.0, 5.0), (15.0, 8.0), (15.0, 12.0), (20.0, 15.0)]);
        var degrees = (random.NextDouble() * 90) - 45;
        picture.MapPlanes(plane => Filters.Motion(plane, picture.Height, picture.Width, radius * strength.Scale, deviation * strength.Scale, degrees));
    }

    public static void Zoom(Picture picture, Strength strength, Random random)
    {
        var (most, step) = strength.Of(
            [(1.06, 0.01), (1.11, 0.01), (1.16, 0.01), (1.21, 0.01), (1.26, 0.01)],
            [(1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03)]);
        picture.MapPlanes(plane =>
        {
            var sum = (float[])plane.Clone();
            var count = 1;
            for (var factor = 1.0; factor < most - 1e-9; factor += step, count++)
            {
                var zoomed = Filters.Zoom(plane, picture.Height, picture.Width, factor);
                for (var i = 0; i < sum.Length; i++)
                {
                    sum[i] += zoomed[i];
                }
            }

            return [.. sum.Select(value => value / count)];
        });
    }
}

namespace TtaService.Evaluation;

internal static class Weather
{
    public static void Snow(Picture picture, Strength strength, Random random)
    {
        var (mean, deviation, zoom, threshold, radius, trail, kept) = strength.Of(
            [
                (0.1, 0.2, 1.0, 0.6, 8.0, 3.0, 0.95f),
                (0.1, 0.2, 1.0, 0.5, 10.0, 4.0, 0.9f),
                (0.15, 0.3, 1.75, 0.55, 10.0, 4.0, 0.9f),
                (0.25, 0.3, 2.25, 0.6, 12.0, 6.0, 0.85f),
                (0.3, 0.3, 1.25, 0.65, 14.0, 12.0, 0.8f),
            ],
            [
                (0.1, 0.3, 3.0, 0.5, 10.0, 4.0, 0.8f),
                (0.2, 0.3, 2.0, 0.5, 12.0, 4.0, 0.7f),
                (0.55, 0.3, 4.0, 0.9, 12.0, 8.0, 0.7f),
                (0.55, 0.3, 4.5, 0.85, 12.0, 8.0, 0.65f),
                (0.55, 0.3, 2.5, 0.85, 12.0, 12.0, 0.55f),
            ]);
        var (height, width) = (picture.Height, picture.Width);
        var flakes = new float[height * width];
        for (var i = 0; i < flakes.Length; i++)
        {
            flakes[i] = (float)(mean + (deviation * random.NextNormal()));
        }

        flakes = [.. Filters.Zoom(flakes, height, width, zoom).Select(value => value < threshold ? 0 : Math.Clamp(value, 0, 1))];
        flakes = Filters.Motion(flakes, height, width, radius * strength.Scale, trail * strength.Scale, -135 + (90 * random.NextDouble()));
        var bright = new float[flakes.Length];
        for (var i = 0; i < bright.Length; i++)
        {
            // Snow light whitens what is dark.
            bright[i] = (Grey(picture, i) * 1.5f) + 0.5f;
        }

        picture.MapPlanes(plane =>
        {
            var result = new float[plane.Length];
            for (var i = 0; i < result.Length; i++)
            {
                result[i] = (kept * plane[i]) + ((1 - kept) * Math.Max(plane[i], bright[i])) + flakes[i] + flakes[^(i + 1)];
            }

            return result;
        });
    }

    /// <summary>Ice on the lens. The published code lays photographs of frost over the image; here ridges of a plasma fractal take their place.</summary>
    public static void Frost(Picture picture, Strength strength, Random random)
    {
        var (kept, ice) = strength.Of(
            [(1f, 0.2f), (1f, 0.3f), (0.9f, 0.4f), (0.85f, 0.4f), (0.75f, 0.45f)],
            [(1f, 0.4f), (0.8f, 0.6f), (0.7f, 0.7f), (0.65f, 0.7f), (0.6f, 0.75f)]);
        var coarse = Filters.Plasma(picture.Height, picture.Width, 1.8, random);
        var fine = Filters.Plasma(picture.Height, picture.Width, 1.2, random);
        for (var c = 0; c < picture.Planes.Length; c++)
        {
            var plane = picture.Planes[c];
            // Ice is a little blue.
            var tint = picture.Planes.Length == 3 ? 0.9f + (0.05f * c) : 1;
            for (var i = 0; i < plane.Length; i++)
            {
                var ridge = 1 - Math.Abs((2 * coarse[i]) - 1);
                plane[i] = (kept * plane[i]) + (ice * tint * Math.Clamp((0.75f * ridge) + (0.5f * fine[i]) - 0.1f, 0, 1));
            }
        }
    }

    public static void Fog(Picture picture, Strength strength, Random random)
    {
        var (density, decay) = strength.Of(
            [(0.2f, 3.0), (0.5f, 3.0), (0.75f, 2.5), (1.0f, 2.0), (1.5f, 1.75)],
            [(1.5f, 2.0), (2.0f, 2.0), (2.5f, 1.7), (2.5f, 1.5), (3.0f, 1.4)]);
        var brightest = picture.Planes.Max(plane => plane.Max());
        var fog = Filters.Plasma(picture.Height, picture.Width, decay, random);
        foreach (var plane in picture.Planes)
        {
            for (var i = 0; i < plane.Length; i++)
            {
                plane[i] = (plane[i] + (density * fog[i])) * brightest / (brightest + density);
            }
        }
    }

    /// <summary>Adds to the value of HSV; hue and saturation stay.</summary>
    public static void Brightness(Picture picture, Strength strength, Random random)
    {
        var more = strength.Of([0.05f, 0.1f, 0.15f, 0.2f, 0.3f], [0.1f, 0.2f, 0.3f, 0.4f, 0.5f]);
        for (var i = 0; i < picture.Planes[0].Length; i++)
        {
            var value = picture.Planes.Max(plane => plane[i]);
            var brighter = Math.Clamp(value + more, 0, 1);
            foreach (var plane in picture.Planes)
            {
                plane[i] = value > 0 ? plane[i] * brighter / value : brighter;
            }
        }
    }

    private static float Grey(Picture picture, int at) =>
        picture.Planes.Length == 1 ? picture.Planes[0][at] : (0.299f * picture.Planes[0][at]) + (0.587f * picture.Planes[1][at]) + (0.114f * picture.Planes[2][at]);
}

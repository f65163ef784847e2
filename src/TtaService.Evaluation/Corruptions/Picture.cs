namespace TtaService.Evaluation;

/// <summary>An image while it is being corrupted: a plane of values a channel, 0 to 1.</summary>
internal sealed class Picture
{
    public Picture(Image image)
    {
        (Height, Width) = (image.Height, image.Width);
        Planes = new float[image.Channels][];
        for (var c = 0; c < Planes.Length; c++)
        {
            var plane = Planes[c] = new float[Height * Width];
            for (var i = 0; i < plane.Length; i++)
            {
                plane[i] = image.Pixels[(i * Planes.Length) + c] / 255f;
            }
        }
    }

    public int Height { get; }

    public int Width { get; }

    public float[][] Planes { get; }

    /// <summary>Replaces every value.</summary>
    public void Map(Func<float, float> change)
    {
        foreach (var plane in Planes)
        {
            for (var i = 0; i < plane.Length; i++)
            {
                plane[i] = change(plane[i]);
            }
        }
    }

    /// <summary>Replaces every plane.</summary>
    public void MapPlanes(Func<float[], float[]> change)
    {
        for (var c = 0; c < Planes.Length; c++)
        {
            Planes[c] = change(Planes[c]);
        }
    }

    /// <summary>Clips to 0 to 1 and drops the fraction of a level, as the published code does; a whole level stays one in spite of float rounding.</summary>
    public Image ToImage()
    {
        var pixels = new byte[Height * Width * Planes.Length];
        for (var c = 0; c < Planes.Length; c++)
        {
            for (var i = 0; i < Planes[c].Length; i++)
            {
                pixels[(i * Planes.Length) + c] = (byte)((Math.Clamp(Planes[c][i], 0, 1) * 255) + 1e-3f);
            }
        }

        return new Image(Height, Width, Planes.Length, pixels);
    }
}

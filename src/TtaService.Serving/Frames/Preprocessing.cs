namespace TtaService.Serving.Frames;

/// <summary>The colour channels that a model takes.</summary>
internal enum ColorChannels
{
    Rgb,
    Bgr,
    Grey,
}

/// <summary>From an image of any size to the model's: torchvision's Resize and CenterCrop, by Pillow's filters.</summary>
internal sealed record Preprocessing
{
    /// <summary>Shorter side after resizing; null when <see cref="ExactSize"/> is set or nothing is resized.</summary>
    public int? ShorterSide { get; init; }

    /// <summary>Height and width after resizing, whatever the shape was.</summary>
    public (int Height, int Width)? ExactSize { get; init; }

    /// <summary>What the model takes: the centre of the resized image.</summary>
    public required (int Height, int Width) Crop { get; init; }

    public Interpolation Interpolation { get; init; } = Interpolation.Bilinear;

    public ColorChannels Channels { get; init; } = ColorChannels.Rgb;

    /// <summary>Turn the image as its EXIF orientation says. torchvision does not.</summary>
    public bool ApplyExif { get; init; }

    /// <summary>The size of the whole resized image.</summary>
    public (int Height, int Width) Resized(int height, int width)
    {
        if (ExactSize is { } exact)
        {
            return exact;
        }

        if (ShorterSide is not { } shorter)
        {
            return (height, width);
        }

        // torchvision truncates the longer side.
        return width <= height
            ? ((int)((long)shorter * height / width), shorter)
            : (shorter, (int)((long)shorter * width / height));
    }
}

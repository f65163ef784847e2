namespace TtaService.Serving.Frames;

/// <summary>The colour channels that a model takes.</summary>
internal enum ColorChannels
{
    Rgb,
    Bgr,
    Grey,
}

/// <summary>How a picture of another shape is brought into the model's.</summary>
internal enum Fit
{
    /// <summary>Its centre, at the size that the shorter side decides.</summary>
    Crop,

    /// <summary>All of it, in the model's shape.</summary>
    Stretch,

    /// <summary>All of it, in its own shape, with bars beside it.</summary>
    Letterbox,
}

/// <summary>Bars of a colour around a picture that keeps its shape.</summary>
/// <param name="Red">Of the bars.</param>
/// <param name="Green">Of the bars.</param>
/// <param name="Blue">Of the bars.</param>
/// <param name="TopLeft">The picture lies in the corner; else in the middle.</param>
internal sealed record Letterbox(byte Red, byte Green, byte Blue, bool TopLeft)
{
    /// <summary>The level of all three channels that YOLO models are trained with.</summary>
    public const byte DefaultGrey = 114;
}

/// <summary>From an image of any size to the model's: torchvision's Resize and CenterCrop, by Pillow's filters.</summary>
internal sealed record Preprocessing
{
    /// <summary>Shorter side after resizing; null when <see cref="ExactSize"/> is set or nothing is resized.</summary>
    public int? ShorterSide { get; init; }

    /// <summary>Height and width after resizing, whatever the shape was.</summary>
    public (int Height, int Width)? ExactSize { get; init; }

    /// <summary>Set when the whole image is shown in its own shape.</summary>
    public Letterbox? Letterbox { get; init; }

    /// <summary>What the model takes: the centre of the resized image, or all of it in its bars.</summary>
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

        if (Letterbox is not null)
        {
            // Halves to even, as Python's round.
            var scale = Math.Min((double)Crop.Height / height, (double)Crop.Width / width);
            return (Math.Clamp((int)Math.Round(height * scale), 1, Crop.Height), Math.Clamp((int)Math.Round(width * scale), 1, Crop.Width));
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

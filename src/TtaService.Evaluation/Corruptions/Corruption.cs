namespace TtaService.Evaluation;

/// <summary>The fifteen common corruptions of Hendrycks and Dietterich (ICLR 2019), severities 1 to 5, on any image size.</summary>
/// <remarks>
/// Strengths are those of CIFAR-10-C for images with a shorter side up to 64 and those of ImageNet-C above; lengths in pixels scale from 32 and 224 to the image.
/// Where the published code takes photographs (frost) or a native library (motion blur, JPEG), the same effect is computed here, so single pixels differ from the published files.
/// A corruption of an image is the same on every run: all randomness comes from the seed, the name, the severity and the image's index.
/// </remarks>
public sealed class Corruption
{
    private const int SmallImage = 64;
    private readonly Action<Picture, Strength, Random> _apply;

    private Corruption(string name, Action<Picture, Strength, Random> apply) => (Name, _apply) = (name, apply);

    /// <summary>All of them, in the published order.</summary>
    public static IReadOnlyList<Corruption> All { get; } =
    [
        new("gaussian_noise", Noise.Gaussian),
        new("shot_noise", Noise.Shot),
        new("impulse_noise", Noise.Impulse),
        new("defocus_blur", Blur.Defocus),
        new("glass_blur", Blur.Glass),
        new("motion_blur", Blur.Motion),
        new("zoom_blur", Blur.Zoom),
        new("snow", Weather.Snow),
        new("frost", Weather.Frost),
        new("fog", Weather.Fog),
        new("brightness", Weather.Brightness),
        new("contrast", Digital.Contrast),
        new("elastic_transform", Digital.Elastic),
        new("pixelate", Digital.Pixelate),
        new("jpeg_compression", Digital.Jpeg),
    ];

    /// <summary>In snake_case, as published.</summary>
    public string Name { get; }

    /// <summary>The corruption of this name, or null.</summary>
    public static Corruption? Find(string name) => All.FirstOrDefault(corruption => corruption.Name == name);

    /// <summary>A corrupted copy.</summary>
    /// <param name="image">The image.</param>
    /// <param name="severity">1 to 5.</param>
    /// <param name="seed">The run's seed.</param>
    /// <param name="index">The image's index in its set.</param>
    public Image Apply(Image image, int severity, int seed, int index)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(severity, 1);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(severity, 5);
        var side = Math.Min(image.Height, image.Width);
        var picture = new Picture(image);
        _apply(picture, new Strength(severity - 1, side <= SmallImage, side <= SmallImage ? side / 32.0 : side / 224.0), new Random(Mix(seed, severity, index)));
        return picture.ToImage();
    }

    // FNV-1a: a string's own hash code differs from run to run.
    private int Mix(int seed, int severity, int index)
    {
        var hash = 2166136261u;
        foreach (var letter in Name)
        {
            hash = (hash ^ letter) * 16777619;
        }

        foreach (var number in new[] { seed, severity, index })
        {
            for (var shift = 0; shift < 32; shift += 8)
            {
                hash = (hash ^ (byte)(number >> shift)) * 16777619;
            }
        }

        return (int)hash;
    }
}

/// <summary>How strong a corruption is.</summary>
/// <param name="Index">Severity minus one.</param>
/// <param name="IsSmall">Whether the tables of CIFAR-10-C hold.</param>
/// <param name="Scale">What a length in pixels of the table is multiplied with.</param>
internal readonly record struct Strength(int Index, bool IsSmall, double Scale)
{
    public T Of<T>(T[] small, T[] large) => (IsSmall ? small : large)[Index];
}

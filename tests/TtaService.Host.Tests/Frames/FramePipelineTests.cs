using TtaService.Serving.Frames;

namespace TtaService.Host.Tests.Frames;

/// <summary>Frames become the pixels that Pillow and torchvision make of them (make_references.py).</summary>
public sealed class FramePipelineTests
{
    private static readonly FrameOptions Limits = new();

    public static TheoryData<string, string> Resizes => new MatrixTheoryData<string, string>(["wide", "tall", "small"], ["nearest", "box", "bilinear", "bicubic", "lanczos"]);

    [Theory]
    [MemberData(nameof(Resizes))]
    public void DecodeEncoded_ExactSize_IsPillows(string image, string filter)
    {
        var preprocessing = new Preprocessing { ExactSize = (17, 21), Crop = (17, 21), Interpolation = Enum.Parse<Interpolation>(filter, ignoreCase: true) };

        Assert.Equal(Reference($"{image}.{filter}.17x21"), Interleaved(Run(preprocessing, File($"{image}.png")), 3));
    }

    [Theory]
    [InlineData("wide")]
    [InlineData("tall")]
    public void DecodeEncoded_ShorterSideAndCrop_IsTorchvisions(string image)
    {
        var preprocessing = new Preprocessing { ShorterSide = 20, Crop = (15, 15) };

        Assert.Equal(Reference($"{image}.crop.15x15"), Interleaved(Run(preprocessing, File($"{image}.png")), 3));
    }

    [Theory]
    [InlineData("wide")]
    [InlineData("tall")]
    public void DecodeEncoded_CropAtHalfPixels_RoundsAsTorchvision(string image)
    {
        var preprocessing = new Preprocessing { ShorterSide = 20, Crop = (13, 13) };

        Assert.Equal(Reference($"{image}.crop.13x13"), Interleaved(Run(preprocessing, File($"{image}.png")), 3));
    }

    [Fact]
    public void DecodeEncoded_ClassifierTransform_IsTorchvisions()
    {
        var preprocessing = new Preprocessing { ShorterSide = 256, Crop = (224, 224) };

        Assert.Equal(Run(new Preprocessing { Crop = (224, 224) }, File("scene.224.png")), Run(preprocessing, File("scene.png")));
    }

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    [InlineData(4)]
    [InlineData(5)]
    [InlineData(6)]
    [InlineData(7)]
    [InlineData(8)]
    public void DecodeEncoded_WithExif_IsUprightOnlyWhenAskedFor(int orientation)
    {
        var file = File($"exif{orientation}.jpg");
        var crop = orientation >= 5 ? (9, 7) : (7, 9);

        Assert.Equal(Reference($"exif{orientation}.upright"), Interleaved(Run(new Preprocessing { Crop = crop, ApplyExif = true }, file), 3));
        Assert.Equal(Reference("exif1.upright"), Interleaved(Run(new Preprocessing { Crop = (7, 9) }, file), 3));
        var png = File($"exif{orientation}.png");
        Assert.Equal(Reference($"exif{orientation}.png.upright"), Interleaved(Run(new Preprocessing { Crop = crop, ApplyExif = true }, png), 3));
        Assert.Equal(Reference("exif1.png.upright"), Interleaved(Run(new Preprocessing { Crop = (7, 9) }, png), 3));
    }

    [Theory]
    [InlineData(100, 160, 120)]
    [InlineData(64, 80, 60)]
    [InlineData(30, 40, 30)]
    [InlineData(200, 320, 240)]
    public void DecodeEncoded_Fast_TakesTheSmallestScaleThatIsEnough(int shorter, int width, int height)
    {
        var preprocessing = new Preprocessing { ShorterSide = shorter == 64 ? 60 : shorter, Crop = (24, 24) };

        using var scaled = FrameDecoder.Decode(File("photo.jpg"), Limits, preprocessing.Resized);

        Assert.Equal((width, height, (320, 240)), (scaled.Width, scaled.Height, scaled.Source));
    }

    [Theory]
    [InlineData("photo.jpg")]
    [InlineData("photo.progressive.jpg")]
    [InlineData("photo.grey.jpg")]
    [InlineData("photo.png")]
    public void DecodeEncoded_Fast_ChangesPixelsLittle(string image)
    {
        var preprocessing = new Preprocessing { ShorterSide = 56, Crop = (48, 48) };
        var exact = Run(preprocessing, File(image));
        var pipeline = new FramePipeline(preprocessing, new FrameOptions { FastDecode = true });
        var fast = new byte[pipeline.FrameBytes];
        pipeline.DecodeEncoded(File(image), fast);

        var mean = exact.Zip(fast, (a, b) => Math.Abs(a - b)).Average();
        TestContext.Current.TestOutputHelper?.WriteLine($"{image}: {mean:0.00} levels");
        Assert.InRange(mean, 0, Path.GetExtension(image) == ".png" ? 0 : 2);
    }

    [Fact]
    public void DecodeEncoded_FastOnItsSide_TurnsWhatItDecodes()
    {
        var pipeline = new FramePipeline(new Preprocessing { ExactSize = (9, 7), Crop = (9, 7), ApplyExif = true }, new FrameOptions { FastDecode = true });
        var fast = new byte[pipeline.FrameBytes];
        pipeline.DecodeEncoded(File("exif6.jpg"), fast);

        Assert.Equal(Reference("exif6.upright"), Interleaved(fast, 3));
    }

    [Theory]
    [InlineData("wide")]
    [InlineData("tall")]
    public void DecodeEncoded_Grey_IsPillows(string image)
    {
        var preprocessing = new Preprocessing { ShorterSide = 12, Crop = (12, 12), Channels = ColorChannels.Grey };

        Assert.Equal(Reference($"{image}.grey.12x12"), Run(preprocessing, File($"{image}.png")));
    }

    [Theory]
    [InlineData("wide.jpg")]
    [InlineData("wide.progressive.jpg")]
    [InlineData("wide.lossy.webp")]
    [InlineData("wide.webp")]
    [InlineData("wide.palette.png")]
    [InlineData("wide.alpha.png")]
    [InlineData("wide.cmyk.jpg")]
    [InlineData("wide.grey.png")]
    public void DecodeEncoded_EveryFormat_HasPillowsPixels(string image)
    {
        var preprocessing = new Preprocessing { Crop = (37, 61) };

        Assert.Equal(Reference($"{image}.decoded"), Interleaved(Run(preprocessing, File(image)), 3));
    }

    [Fact]
    public void DecodeEncoded_Bgr_SwapsRedAndBlue()
    {
        var rgb = Run(new Preprocessing { Crop = (37, 61) }, File("wide.png"));
        var bgr = Run(new Preprocessing { Crop = (37, 61), Channels = ColorChannels.Bgr }, File("wide.png"));
        var plane = 37 * 61;

        Assert.Equal(rgb[..plane], bgr[(2 * plane)..]);
        Assert.Equal(rgb[plane..(2 * plane)], bgr[plane..(2 * plane)]);
    }

    [Theory]
    [InlineData("wide")]
    [InlineData("tall")]
    [InlineData("small")]
    public void DecodeEncoded_Letterbox_IsUltralyticsWithPillowsFilter(string image)
    {
        var middle = new Preprocessing { Letterbox = new Letterbox(114, 114, 114, TopLeft: false), Crop = (24, 33) };
        var corner = new Preprocessing { Letterbox = new Letterbox(10, 20, 30, TopLeft: true), Crop = (24, 33), Interpolation = Interpolation.Bicubic };

        Assert.Equal(Reference($"{image}.letterbox.24x33"), Interleaved(Run(middle, File($"{image}.png")), 3));
        Assert.Equal(Reference($"{image}.letterbox.corner.24x33"), Interleaved(Run(corner, File($"{image}.png")), 3));
        Assert.Equal(Reference($"{image}.letterbox.grey.24x33"), Run(middle with { Channels = ColorChannels.Grey }, File($"{image}.png")));
    }

    [Fact]
    public void DecodeEncoded_LetterboxInBgr_SwapsTheBarsToo()
    {
        var rgb = new Preprocessing { Letterbox = new Letterbox(10, 20, 30, TopLeft: true), Crop = (24, 33) };
        var plane = 24 * 33;

        var bgr = Run(rgb with { Channels = ColorChannels.Bgr }, File("wide.png"));

        Assert.Equal(Run(rgb, File("wide.png"))[..plane], bgr[(2 * plane)..]);
        Assert.Equal((30, 10), (bgr[plane - 1], bgr[^1]));
    }

    [Fact]
    public void DecodeRaw_WithStride_EqualsTheFile()
    {
        var pixels = Reference("wide.webp.decoded");
        const int Stride = 200;
        var padded = new byte[(36 * Stride) + (61 * 3)];
        for (var row = 0; row < 37; row++)
        {
            pixels.AsSpan(row * 61 * 3, 61 * 3).CopyTo(padded.AsSpan(row * Stride));
        }

        var pipeline = new FramePipeline(new Preprocessing { ShorterSide = 20, Crop = (15, 15) }, Limits);
        var actual = new byte[pipeline.FrameBytes];
        pipeline.DecodeRaw(padded, 61, 37, Stride, 3, actual);

        Assert.Equal(Reference("wide.crop.15x15"), Interleaved(actual, 3));
    }

    [Fact]
    public void DecodeRaw_OneChannel_FillsEveryPlane()
    {
        byte[] grey = [.. Enumerable.Range(0, 12).Select(i => (byte)(i * 21))];
        var pipeline = new FramePipeline(new Preprocessing { Crop = (3, 4) }, Limits);
        var chw = new byte[pipeline.FrameBytes];
        pipeline.DecodeRaw(grey, 4, 3, 0, 1, chw);

        Assert.Equal([.. grey, .. grey, .. grey], chw);
    }

    [Fact]
    public void DecodeRaw_ColourForAGreyModel_EqualsTheFile()
    {
        var pipeline = new FramePipeline(new Preprocessing { ShorterSide = 12, Crop = (12, 12), Channels = ColorChannels.Grey }, Limits);
        var chw = new byte[pipeline.FrameBytes];
        pipeline.DecodeRaw(Reference("wide.webp.decoded"), 61, 37, 0, 3, chw);

        Assert.Equal(Reference("wide.grey.12x12"), chw);
    }

    [Fact]
    public void DecodeEncoded_SmallerThanTheCrop_SaysSo()
    {
        var refused = Assert.Throws<FrameException>(() => Run(new Preprocessing { Crop = (38, 61) }, File("wide.png")));

        Assert.Equal("FRAME_TOO_SMALL", refused.Reason);
    }

    private static byte[] Run(Preprocessing preprocessing, byte[] encoded)
    {
        var pipeline = new FramePipeline(preprocessing, Limits);
        var chw = new byte[pipeline.FrameBytes];
        pipeline.DecodeEncoded(encoded, chw);
        return chw;
    }

    private static byte[] Interleaved(byte[] chw, int channels)
    {
        var plane = chw.Length / channels;
        var hwc = new byte[chw.Length];
        for (var i = 0; i < hwc.Length; i++)
        {
            hwc[i] = chw[((i % channels) * plane) + (i / channels)];
        }

        return hwc;
    }

    private static byte[] Reference(string name) => File($"{name}.bin");

    private static byte[] File(string name) => System.IO.File.ReadAllBytes(Path.Combine(AppContext.BaseDirectory, "Frames", "References", name));
}

using SkiaSharp;
using TtaService.Engine.Execution;
using TtaService.Evaluation;
using TtaService.Host.Tests.Infrastructure;
using TtaService.Serving.Frames;

namespace TtaService.Host.Tests.Frames;

/// <summary>Frames without a picture are found, and none with one. TTA_GUARDED sets how many images are looked at under each corruption.</summary>
public sealed class PictureGuardTests
{
    private const int Size = 28;

    private static readonly PictureGuard Guard = new(new FrameOptions());
    private static readonly int Images = int.Parse(Environment.GetEnvironmentVariable("TTA_GUARDED") ?? "300");
    private static readonly LabelledImages Fashion = LabelledImages.Open(Path.Combine(FashionCamera.Models, "fashion-mnist", "sample"), _ => throw new InvalidOperationException());

    public static TheoryData<string> Corruptions => ["none", .. Corruption.All.Select(corruption => corruption.Name)];

    [Theory]
    [MemberData(nameof(Corruptions))]
    public void Look_PicturesAtTheirWorst_AreLearned(string name)
    {
        var corruption = name == "none" ? null : Corruption.Find(name);
        PictureFacts? before = null;
        for (var index = 0; index < Images; index++)
        {
            var image = Fashion.Read(index);
            image = corruption?.Apply(image, 5, 0, index) ?? image;
            var picture = Guard.Look(FrameBlock.FromPixels(image.Pixels, 1, 1, Size, Size), 0);

            Assert.True(Guard.Judge(picture, before) == NotLearnedReason.None, $"image {index}: {picture.Reason}");
            before = picture;
            var values = Array.ConvertAll(image.Pixels, pixel => ((pixel / 255f) - 0.286f) / 0.353f);
            Assert.Equal(NotLearnedReason.None, Guard.Look(FrameBlock.FromValues(values, 1, 1, Size, Size), 0).Reason);
        }
    }

    [Theory]
    [InlineData(0, 0)]
    [InlineData(128, 0)]
    [InlineData(255, 0)]
    [InlineData(40, 1)]
    [InlineData(16, 0.8)]
    public void Look_OneGreyWithOrWithoutNoise_IsBlank(int level, double noise)
    {
        var random = new Random(level);
        byte[] pixels = [.. Enumerable.Range(0, Size * Size).Select(_ => (byte)Math.Clamp(level + Math.Round(noise * Gauss(random)), 0, 255))];

        Assert.Equal(NotLearnedReason.Blank, Look(pixels, 1));
        Assert.Equal(NotLearnedReason.Blank, Look([.. pixels, .. pixels, .. pixels], 3));
        Assert.Equal(NotLearnedReason.Blank, LookAtValues(pixels));
    }

    [Fact]
    public void Look_OneColour_IsNamed() => Assert.Equal(NotLearnedReason.SingleColor, Look(Planes((_, _) => (0, 0, 192)), 3));

    [Fact]
    public void Look_NearlyAllWhiteOrBlack_IsSaturated()
    {
        Assert.Equal(NotLearnedReason.Saturated, Look(Planes((x, y) => x < 3 && y < 3 ? (90, 90, 90) : (255, 254, 255)), 3));
        Assert.Equal(NotLearnedReason.Saturated, Look(Planes((x, y) => x < 3 && y < 3 ? (90, 90, 90) : (1, 0, 2)), 3));
    }

    [Theory]
    [InlineData("bars")]
    [InlineData("levels")]
    [InlineData("three bands")]
    [InlineData("ramp")]
    public void Look_Bars_AreATestPattern(string kind)
    {
        var pixels = Planes((x, y) => kind switch
        {
            "bars" => Bar(x * 8 / Size),
            "levels" => (y / 4 * 36, y / 4 * 36, y / 4 * 36),
            "ramp" => (x * 9, x * 9, x * 9),
            _ => Bar(y < 18 ? x * 7 / Size : y < 21 ? 6 - (x * 7 / Size) : x * 5 / Size),
        });

        Assert.Equal(NotLearnedReason.TestPattern, Look(pixels, 3));
        Assert.Equal(NotLearnedReason.TestPattern, LookAtValues(pixels[..(Size * Size)]));
    }

    [Fact]
    public void Look_BarsFromAJpegOfAnotherSize_AreATestPattern()
    {
        using var bitmap = new SKBitmap(320, 240, SKColorType.Rgba8888, SKAlphaType.Opaque);
        for (var x = 0; x < 320; x++)
        {
            for (var y = 0; y < 240; y++)
            {
                var (red, green, blue) = Bar(x / 40);
                bitmap.SetPixel(x, y, new SKColor((byte)red, (byte)green, (byte)blue));
            }
        }

        using var jpeg = bitmap.Encode(SKEncodedImageFormat.Jpeg, 75);
        var pipeline = new FramePipeline(new Preprocessing { ExactSize = (64, 64), Crop = (64, 64) }, new FrameOptions());
        var pixels = new byte[pipeline.FrameBytes];
        pipeline.DecodeEncoded(jpeg.ToArray(), pixels);

        Assert.Equal(NotLearnedReason.TestPattern, Guard.Look(FrameBlock.FromPixels(pixels, 1, 3, 64, 64), 0).Reason);
    }

    [Fact]
    public void Judge_SlateWithAClock_IsATestPatternFromItsSecondFrameOn()
    {
        var first = Guard.Look(FrameBlock.FromPixels(Slate(1), 1, 1, 64, 64), 0);
        var second = Guard.Look(FrameBlock.FromPixels(Slate(2), 1, 1, 64, 64), 0);

        Assert.Equal(NotLearnedReason.None, Guard.Judge(first, null));
        Assert.Equal(NotLearnedReason.TestPattern, Guard.Judge(second, first));
    }

    [Fact]
    public void Judge_SameFrame_IsFrozenAndAStillSceneIsNot()
    {
        var image = Fashion.Read(3).Pixels;
        var noisy = image.ToArray();
        noisy[400]++;
        var first = Guard.Look(FrameBlock.FromPixels(image, 1, 1, Size, Size), 0);

        Assert.Equal(NotLearnedReason.Frozen, Guard.Judge(first, first));
        Assert.Equal(NotLearnedReason.None, Guard.Judge(Guard.Look(FrameBlock.FromPixels(noisy, 1, 1, Size, Size), 0), first));
    }

    [Fact]
    public void Look_WithoutTheKind_LearnsIt()
    {
        var guard = new PictureGuard(new FrameOptions { NotLearned = UnlearnedFrames.All & ~UnlearnedFrames.Blank & ~UnlearnedFrames.Frozen });
        var white = guard.Look(FrameBlock.FromPixels(new byte[Size * Size], 1, 1, Size, Size), 0);

        Assert.Equal(NotLearnedReason.None, guard.Judge(white, white));
    }

    [Theory]
    [InlineData(1, 1)]
    [InlineData(1, 500)]
    [InlineData(3, 2)]
    public void Look_TinyFrames_DoNotThrow(int height, int width)
    {
        var pixels = new byte[height * width];
        new Random(1).NextBytes(pixels);

        Assert.True(Enum.IsDefined(Guard.Look(FrameBlock.FromPixels(pixels, 1, 1, height, width), 0).Reason));
    }

    private static NotLearnedReason Look(byte[] pixels, int channels) => Guard.Look(FrameBlock.FromPixels(pixels, 1, channels, Size, Size), 0).Reason;

    private static NotLearnedReason LookAtValues(byte[] pixels) =>
        Guard.Look(FrameBlock.FromValues(Array.ConvertAll(pixels, pixel => ((pixel / 255f) - 0.45f) / 0.225f), 1, 1, Size, Size), 0).Reason;

    private static byte[] Planes(Func<int, int, (int Red, int Green, int Blue)> color)
    {
        var pixels = new byte[3 * Size * Size];
        for (var i = 0; i < Size * Size; i++)
        {
            var (red, green, blue) = color(i % Size, i / Size);
            (pixels[i], pixels[(Size * Size) + i], pixels[(2 * Size * Size) + i]) = ((byte)red, (byte)green, (byte)blue);
        }

        return pixels;
    }

    private static (int Red, int Green, int Blue) Bar(int number) => ((number & 1) * 192, (number >> 1 & 1) * 192, (number >> 2 & 1) * 192);

    // White strokes on grey: words that stay, digits that change.
    private static byte[] Slate(int time)
    {
        var pixels = Enumerable.Repeat((byte)60, 64 * 64).ToArray();
        for (var y = 20; y < 27; y++)
        {
            for (var x = 10; x < 54; x += 3 + (y % 2))
            {
                pixels[(y * 64) + x] = 235;
            }
        }

        for (var i = 0; i < 6; i++)
        {
            pixels[(50 * 64) + 40 + (i * 2) + (time % 2)] = 235;
        }

        return pixels;
    }

    private static double Gauss(Random random) => Math.Sqrt(-2 * Math.Log(1 - random.NextDouble())) * Math.Cos(2 * Math.PI * random.NextDouble());
}

using TtaService.Evaluation;

namespace TtaService.Engine.Tests.Evaluation;

public sealed class CorruptionTests
{
    public static TheoryData<string> Names => [.. Corruption.All.Select(corruption => corruption.Name)];

    public static TheoryData<string> NamesWithoutNoise =>
        [.. Corruption.All.Select(corruption => corruption.Name).Where(name => !name.EndsWith("_noise", StringComparison.Ordinal))];

    [Fact]
    public void All_AreTheFifteenInPublishedOrder() => Assert.Equal(
        ["gaussian_noise", "shot_noise", "impulse_noise", "defocus_blur", "glass_blur", "motion_blur", "zoom_blur",
            "snow", "frost", "fog", "brightness", "contrast", "elastic_transform", "pixelate", "jpeg_compression"],
        Corruption.All.Select(corruption => corruption.Name));

    [Theory]
    [MemberData(nameof(Names))]
    public void Apply_SameSeedAndIndex_IsTheSameImage(string name)
    {
        var image = Picture(28, 28, 1);
        var corruption = Corruption.Find(name)!;

        Assert.Equal(corruption.Apply(image, 5, 1, 7).Pixels, corruption.Apply(image, 5, 1, 7).Pixels);
    }

    [Theory]
    [MemberData(nameof(Names))]
    public void Apply_AnySizeAndSeverity_ChangesTheImageAndKeepsItsShape(string name)
    {
        foreach (var (height, width, channels) in new[] { (28, 28, 1), (32, 32, 3), (48, 80, 3), (224, 224, 3), (5, 9, 1) })
        {
            var image = Picture(height, width, channels);
            var changed = Corruption.Find(name)!.Apply(image, 5, 0, 0);

            Assert.Equal((height, width, channels, image.Pixels.Length), (changed.Height, changed.Width, changed.Channels, changed.Pixels.Length));
            // Below 20 pixels a blur can be narrower than a pixel.
            Assert.True(height < 20 || !image.Pixels.AsSpan().SequenceEqual(changed.Pixels), $"{height}x{width}x{channels}");
        }
    }

    /// <summary>A value that is not a number would become black; only noise may change a grey pixel that far.</summary>
    [Theory]
    [MemberData(nameof(NamesWithoutNoise))]
    public void Apply_GreyImageOfAnySize_LeavesNoBlackPixel(string name)
    {
        foreach (var (height, width, channels) in new[] { (1, 1, 1), (2, 2, 3), (28, 28, 1), (32, 32, 3), (224, 224, 3) })
        {
            for (var severity = 1; severity <= 5; severity++)
            {
                var image = new Image(height, width, channels, [.. Enumerable.Repeat((byte)128, height * width * channels)]);

                Assert.DoesNotContain((byte)0, Corruption.Find(name)!.Apply(image, severity, 0, 0).Pixels);
            }
        }
    }

    [Fact]
    public void Apply_OtherSeedOrIndex_IsAnotherImage()
    {
        var image = Picture(28, 28, 1);
        var noise = Corruption.Find("gaussian_noise")!;

        Assert.NotEqual(noise.Apply(image, 5, 1, 7).Pixels, noise.Apply(image, 5, 1, 8).Pixels);
        Assert.NotEqual(noise.Apply(image, 5, 1, 7).Pixels, noise.Apply(image, 5, 2, 7).Pixels);
    }

    // Glass blur's published strengths are not monotone, zoom and elastic move edges about; the sum over images tells for the others.
    [Theory]
    [InlineData("gaussian_noise")]
    [InlineData("shot_noise")]
    [InlineData("impulse_noise")]
    [InlineData("defocus_blur")]
    [InlineData("frost")]
    [InlineData("fog")]
    [InlineData("brightness")]
    [InlineData("contrast")]
    [InlineData("pixelate")]
    [InlineData("jpeg_compression")]
    public void Apply_MoreSevere_DiffersMore(string name)
    {
        foreach (var (height, channels) in new[] { (32, 3), (224, 3) })
        {
            var image = Picture(height, height, channels);
            var distances = Enumerable.Range(1, 5)
                .Select(severity => Enumerable.Range(0, 4).Sum(index => Distance(image, Corruption.Find(name)!.Apply(image, severity, 0, index)))).ToList();

            Assert.True(distances[4] > distances[0],
                $"{name} at {height}: {string.Join(", ", distances.Select(distance => distance.ToString("0.0", System.Globalization.CultureInfo.InvariantCulture)))}");
        }
    }

    [Fact]
    public void Brightness_OnMidGrey_AddsItsStrength()
    {
        var image = new Image(4, 4, 1, [.. Enumerable.Repeat((byte)100, 16)]);

        // 0.3 of 255 at severity 5 of the small table
        Assert.All(Corruption.Find("brightness")!.Apply(image, 5, 0, 0).Pixels, pixel => Assert.Equal(176, pixel));
    }

    [Fact]
    public void Contrast_PullsTowardsTheMean()
    {
        var image = new Image(1, 4, 1, [0, 0, 200, 200]);

        Assert.Equal([85, 85, 115, 115], Corruption.Find("contrast")!.Apply(image, 5, 0, 0).Pixels);
    }

    [Fact]
    public void Jpeg_AtQuality100Tables_WouldKeepFlatBlocks()
    {
        var image = new Image(8, 8, 1, [.. Enumerable.Repeat((byte)128, 64)]);

        Assert.Equal(image.Pixels, Corruption.Find("jpeg_compression")!.Apply(image, 5, 0, 0).Pixels);
    }

    private static Image Picture(int height, int width, int channels)
    {
        var pixels = new byte[height * width * channels];
        for (var i = 0; i < pixels.Length; i++)
        {
            var (y, x, c) = (i / channels / width, i / channels % width, i % channels);
            pixels[i] = (byte)(120 + (60 * Math.Sin((y * 0.7) + c)) + (50 * Math.Cos(x * 0.45 * (c + 1))));
        }

        return new Image(height, width, channels, pixels);
    }

    private static double Distance(Image a, Image b) => a.Pixels.Zip(b.Pixels, (x, y) => Math.Abs(x - y)).Average();
}

using TtaService.Host.Tests.Infrastructure;
using TtaService.Serving.Frames;

namespace TtaService.Host.Tests.Frames;

/// <summary>Both libraries give the same pictures, refuse the same files, and let nothing of a broken file reach others (make_references.py).</summary>
public sealed class FrameLibraryTests
{
    private const int Height = 37;
    private const int Width = 61;

    [Theory]
    [InlineData("wide.webp")]
    [InlineData("wide.palette.png")]
    [InlineData("wide.alpha.png")]
    [InlineData("wide.grey.png")]
    [InlineData("wide.bmp")]
    [InlineData("wide.palette.bmp")]
    [InlineData("wide.tiff")]
    [InlineData("wide.lzw.tiff")]
    [InlineData("wide.deflate.tiff")]
    [InlineData("wide.grey.tiff")]
    public void ImageSharp_LosslessFile_HasPillowsPixels(string image) => Assert.Equal(File($"{image}.decoded.bin"), Interleaved(Decode(image, FrameLibrary.ImageSharp)));

    [Theory]
    [InlineData("wide.png")]
    [InlineData("wide.deep.png")]
    [InlineData("scene.png")]
    [InlineData("photo.png")]
    [InlineData("photo.webp")]
    public void ImageSharp_LosslessFile_EqualsSkia(string image) => Assert.Equal(Decode(image, FrameLibrary.Skia), Decode(image, FrameLibrary.ImageSharp));

    [Theory]
    [InlineData("photo.444.jpg")]
    [InlineData("photo.grey.jpg")]
    [InlineData("photo.lossy.webp")]
    [InlineData("wide.cmyk.jpg")]
    public void ImageSharp_LossyFileWithWholeChroma_IsWithinTwoLevels(string image)
    {
        var differences = Differences(image);

        // Three where the roundings of colours add up.
        Assert.InRange(differences.Max(), 0, 3);
        Assert.InRange(differences.Count(difference => difference > 2), 0, differences.Length / 1000);
    }

    // ImageSharp repeats chroma where others interpolate it; that is done behind it.
    [Theory]
    [InlineData("photo.jpg", 1000)]
    [InlineData("photo.progressive.jpg", 1000)]
    [InlineData("photo.422.jpg", 1000)]
    [InlineData("photo.440.jpg", 1000)]
    [InlineData("photo.restart.jpg", 1000)]
    [InlineData("photo.odd.jpg", 1000)]
    // Drawn, of full colours: where all of a block is cut off at 0 or 255, its chroma can't be found back.
    [InlineData("wide.jpg", 100)]
    [InlineData("wide.progressive.jpg", 100)]
    public void ImageSharp_JpegWithSubsampledChroma_IsWithinTwoLevelsButForOneIn(string image, int values)
    {
        var differences = Differences(image);

        Assert.InRange(differences.Average(), 0, 0.2);
        Assert.InRange(differences.Count(difference => difference > 2), 0, differences.Length / values);
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
    public void ImageSharp_WithExif_IsUprightOnlyWhenAskedFor(int orientation)
    {
        var options = new FrameOptions { Decoder = FrameLibrary.ImageSharp };
        var upright = new FramePipeline(new Preprocessing { Crop = orientation >= 5 ? (9, 7) : (7, 9), ApplyExif = true }, options);
        var chw = new byte[upright.FrameBytes];
        upright.DecodeEncoded(File($"exif{orientation}.png"), chw);

        Assert.Equal(File($"exif{orientation}.png.upright.bin"), Interleaved(chw));
    }

    [Theory]
    [InlineData("wide.bmp", "BMP")]
    [InlineData("wide.tiff", "TIFF")]
    public void Skia_BmpAndTiff_SaysWhichSettingReadsThem(string image, string format)
    {
        var refused = Assert.Throws<FrameException>(() => Decode(image, FrameLibrary.Skia));

        Assert.Equal("FRAME_FORMAT_UNKNOWN", refused.Reason);
        Assert.Contains(format, refused.Message, StringComparison.Ordinal);
        Assert.Contains("Frames:Decoder=imagesharp", refused.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void ImageSharp_TiffOfSeveralPages_IsRefused() =>
        Assert.Contains("several pages", Assert.Throws<FrameException>(() => Decode("pages.tiff", FrameLibrary.ImageSharp)).Message, StringComparison.Ordinal);

    [Theory]
    [InlineData("wide.jpg")]
    [InlineData("wide.progressive.jpg")]
    [InlineData("wide.png")]
    [InlineData("wide.webp")]
    [InlineData("wide.lossy.webp")]
    [InlineData("wide.bmp")]
    [InlineData("wide.tiff")]
    [InlineData("wide.lzw.tiff")]
    [InlineData("wide.deflate.tiff")]
    public void ImageSharp_CutShortAnywhere_IsRefused(string name)
    {
        var whole = File(name);
        var picture = name.EndsWith(".jpg", StringComparison.Ordinal) ? whole.Length - 2 : whole.Length;
        var pipeline = Pipeline(FrameLibrary.ImageSharp);
        for (var length = 0; length < picture; length += Math.Max(1, picture / 400))
        {
            var refused = Assert.Throws<FrameException>(() => pipeline.DecodeEncoded(whole.AsSpan(0, length), new byte[pipeline.FrameBytes]));

            Assert.Contains(refused.Reason, new[] { "FRAME_UNREADABLE", "FRAME_FORMAT_UNKNOWN" });
        }
    }

    [Theory]
    [InlineData("wide.jpg")]
    [InlineData("wide.progressive.jpg")]
    [InlineData("wide.png")]
    [InlineData("wide.webp")]
    [InlineData("wide.lossy.webp")]
    [InlineData("wide.palette.bmp")]
    [InlineData("wide.lzw.tiff")]
    [InlineData("wide.deflate.tiff")]
    public void ImageSharp_RandomBytesChanged_DecodesOrIsRefused(string name)
    {
        var whole = File(name);
        var random = new Random(3);
        var pipeline = Pipeline(FrameLibrary.ImageSharp, DamagedFrames.Answer);
        var chw = new byte[pipeline.FrameBytes];
        for (var trial = 0; trial < Trials; trial++)
        {
            var bytes = whole.ToArray();
            for (var i = 0; i < 3; i++)
            {
                bytes[random.Next(bytes.Length)] = (byte)random.Next(256);
            }

            try
            {
                pipeline.DecodeEncoded(bytes, chw);
            }
            catch (FrameException refused)
            {
                Assert.NotEmpty(refused.Message);
            }
        }
    }

    [Theory]
    [InlineData("wide.bmp", 18)]
    [InlineData("wide.bmp", 22)]
    public void ImageSharp_HugeBitmap_IsRefusedByItsHeader(string name, int at)
    {
        var bytes = File(name);
        bytes[at + 3] = 0x7F;
        var pipeline = Pipeline(FrameLibrary.ImageSharp);

        Assert.Equal("FRAME_TOO_LARGE", Assert.Throws<FrameException>(() => pipeline.DecodeEncoded(bytes, new byte[pipeline.FrameBytes])).Reason);
    }

    [Fact]
    public void FastDecode_ByImageSharp_IsRefusedAtStart()
    {
        var result = new FrameOptionsValidator().Validate(null, new FrameOptions { Decoder = FrameLibrary.ImageSharp, FastDecode = true });

        Assert.Contains("Frames:FastDecode", result.FailureMessage, StringComparison.Ordinal);
        Assert.True(new FrameOptionsValidator().Validate(null, new FrameOptions { FastDecode = true }).Succeeded);
    }

    [Theory]
    [InlineData("wide.bmp")]
    [InlineData("wide.lzw.tiff")]
    [InlineData("wide.png")]
    [InlineData("wide.jpg")]
    public async Task Service_WithImageSharp_AnswersAndLearnsEveryFormat(string image)
    {
        await using var host = await TestHost.StartAsync("--Frames:Decoder=imagesharp");

        var reply = await host.StepAsync("camera", TestFrames.Encoded(File(image)));

        Assert.Single(reply.Predictions);
        Assert.Empty(reply.NotLearned);
    }

    private static int Trials => Environment.GetEnvironmentVariable("TTA_DAMAGES") is { } count ? int.Parse(count, System.Globalization.CultureInfo.InvariantCulture) : 200;

    private static int[] Differences(string image)
    {
        int[] differences = [.. Decode(image, FrameLibrary.ImageSharp).Zip(Decode(image, FrameLibrary.Skia), (a, b) => Math.Abs(a - b))];
        var most = 100.0 * differences.Count(difference => difference > 2) / differences.Length;
        TestContext.Current.TestOutputHelper?.WriteLine($"figure: {image}: {differences.Average():0.00} levels in the mean, {differences.Max()} at most, {most:0.0} % more than 2");
        return differences;
    }

    private static byte[] Decode(string image, FrameLibrary library)
    {
        using var decoded = FrameDecoder.Decode(File(image), new FrameOptions { Decoder = library });
        var (width, height) = (decoded.Width, decoded.Height);
        var pipeline = new FramePipeline(new Preprocessing { Crop = (height, width) }, new FrameOptions { Decoder = library });
        var chw = new byte[pipeline.FrameBytes];
        pipeline.DecodeEncoded(File(image), chw);
        return chw;
    }

    private static FramePipeline Pipeline(FrameLibrary library, DamagedFrames damaged = DamagedFrames.Refuse) =>
        new(new Preprocessing { ExactSize = (Height, Width), Crop = (Height, Width) }, new FrameOptions { Decoder = library, Damaged = damaged });

    private static byte[] Interleaved(byte[] chw)
    {
        var plane = chw.Length / 3;
        return [.. Enumerable.Range(0, chw.Length).Select(i => chw[((i % 3) * plane) + (i / 3)])];
    }

    private static byte[] File(string name) => System.IO.File.ReadAllBytes(Path.Combine(AppContext.BaseDirectory, "Frames", "References", name));
}

using SkiaSharp;
using TtaService.Serving.Frames;

namespace TtaService.Benchmarks;

/// <summary>From a file to the pixels of a model of 224x224 (shorter side 256, centre): by Skia, by Skia at a smaller scale of the DCT, and by ImageSharp.</summary>
internal static class DecodeBenchmark
{
    private const int Quality = 85;

    public static void Run(Report report, BenchmarkOptions options)
    {
        (int Side, SKEncodedImageFormat Format)[] files =
            [(320, SKEncodedImageFormat.Jpeg), (640, SKEncodedImageFormat.Jpeg), (1080, SKEncodedImageFormat.Jpeg), (640, SKEncodedImageFormat.Png)];
        foreach (var (side, format) in files)
        {
            var file = Photograph(side, format);
            var variants = new Interleaved();
            Add(variants, "skia", new FrameOptions(), file);
            Add(variants, "fast", new FrameOptions { FastDecode = true }, file);
            Add(variants, "imagesharp", new FrameOptions { Decoder = FrameLibrary.ImageSharp }, file);
            variants.Run(options.Rounds, options.Sample);
            var what = $"{format.ToString().ToUpperInvariant()} {side}x{side}";
            report.Row($"{what}, ImageSharp / Skia", variants, "imagesharp", "skia", null);
            if (format == SKEncodedImageFormat.Jpeg)
            {
                report.Row($"{what}, Skia with FastDecode / Skia", variants, "fast", "skia", null);
            }
        }
    }

    private static void Add(Interleaved variants, string name, FrameOptions options, byte[] file)
    {
        var pipeline = new FramePipeline(new Preprocessing { ShorterSide = 256, Crop = (224, 224) }, options);
        var pixels = new byte[pipeline.FrameBytes];
        variants.Add(name, () => pipeline.DecodeEncoded(file, pixels));
    }

    // Smooth shapes with the noise of a sensor: a JPEG of as many bytes a pixel as a camera's.
    private static byte[] Photograph(int side, SKEncodedImageFormat format)
    {
        var random = new Random(side);
        using var bitmap = new SKBitmap(side, side, SKColorType.Rgba8888, SKAlphaType.Opaque);
        for (var y = 0; y < side; y++)
        {
            for (var x = 0; x < side; x++)
            {
                var shape = 60 * Math.Sin((x + (2 * y)) * 9.0 / side) * Math.Cos(((3 * x) - y) * 7.0 / side);
                bitmap.SetPixel(x, y, new SKColor(Level(120 + shape), Level(110 + (0.8 * shape)), Level(90 - (0.5 * shape))));
            }
        }

        return bitmap.Encode(format, Quality).ToArray();

        byte Level(double level) => (byte)Math.Clamp(level + random.Next(-6, 7), 0, 255);
    }
}

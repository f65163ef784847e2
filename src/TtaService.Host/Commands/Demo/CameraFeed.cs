using Google.Protobuf;
using SkiaSharp;
using TtaService.Engine.Evaluation;
using TtaService.V1;
using Image = TtaService.Engine.Evaluation.Image;

namespace TtaService.Host.Commands.Demo;

/// <summary>A frame as the camera sends it, with what is on it.</summary>
internal sealed record LabelledFrame(Frame Frame, int Label);

/// <summary>What a simulated camera sees: labelled images in runs of a class, through a corruption, as PNG files.</summary>
/// <param name="images">The images.</param>
/// <param name="domains">The corruptions.</param>
/// <param name="first">The one that it begins with.</param>
/// <param name="switchAfter">Frames until the next one; 0 for never.</param>
/// <param name="seed">Seeds the order.</param>
internal sealed class CameraFeed(LabelledImages images, IReadOnlyList<EvaluationDomain> domains, int first, int switchAfter, int seed)
{
    private const int ImagesPerCamera = 1000;

    private readonly int[] _order = Order(images, seed);
    private long _sent;

    public string Domain => Current.Name;

    private EvaluationDomain Current => domains[(int)((first + (switchAfter == 0 ? 0 : _sent / switchAfter)) % domains.Count)];

    /// <summary>The next frames.</summary>
    public IReadOnlyList<LabelledFrame> Next(int count)
    {
        var frames = new List<LabelledFrame>(count);
        for (var i = 0; i < count; i++, _sent++)
        {
            var index = _order[_sent % _order.Length];
            var image = Current.Corruption!.Apply(images.Read(index), Current.Severity, seed, index);
            frames.Add(new LabelledFrame(new Frame { Encoded = UnsafeByteOperations.UnsafeWrap(Png(image)) }, images.Labels[index]));
        }

        return frames;
    }

    // Few enough images that a demo of seconds sees several classes.
    private static int[] Order(LabelledImages images, int seed) =>
        [.. EvaluationPlan.Streams(images.Labels, 1, DomainSetting.Single, StreamOrder.Correlated, seed, limit: ImagesPerCamera)[0].Select(sample => sample.Image)];

    private static byte[] Png(Image image)
    {
        var grey = image.Channels == 1;
        using var bitmap = new SKBitmap(new SKImageInfo(image.Width, image.Height, grey ? SKColorType.Gray8 : SKColorType.Rgba8888, SKAlphaType.Opaque));
        var pixels = bitmap.GetPixelSpan();
        for (var y = 0; y < image.Height; y++)
        {
            for (var x = 0; x < image.Width; x++)
            {
                var from = ((y * image.Width) + x) * image.Channels;
                var to = (y * bitmap.RowBytes) + (x * bitmap.BytesPerPixel);
                image.Pixels.AsSpan(from, image.Channels).CopyTo(pixels[to..]);
                if (!grey)
                {
                    pixels[to + 3] = 255;
                }
            }
        }

        using var png = bitmap.Encode(SKEncodedImageFormat.Png, 100);
        return png.ToArray();
    }
}

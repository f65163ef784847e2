using Google.Protobuf;
using SkiaSharp;
using TtaService.Evaluation;
using TtaService.Host.Commands.Evaluation;
using TtaService.V1;
using Image = TtaService.Evaluation.Image;

namespace TtaService.Host.Commands.Demo;

/// <summary>A frame as the camera sends it, with what is on it.</summary>
internal sealed record LabelledFrame(Frame Frame, int Label);

/// <summary>What a simulated camera sees: labelled images in runs of a class, through a corruption or none, as PNG files.</summary>
/// <param name="images">The images.</param>
/// <param name="domains">What may be done to them.</param>
/// <param name="first">The one that it begins with.</param>
/// <param name="switchAfter">Frames until the next one; 0 for never.</param>
/// <param name="seed">Seeds the order.</param>
internal sealed class CameraFeed(LabelledImages images, IReadOnlyList<EvaluationDomain> domains, int first, int switchAfter, int seed)
{
    private const int ImagesPerCamera = 1000;

    private readonly int[] _order = Order(images, seed);
    private long _sent;

    /// <summary>What it sees now.</summary>
    public string Domain => switchAfter == 0 ? domains[Seen(_sent).Domain].Name : $"{domains[Seen(_sent).Domain].Name}, changes";

    /// <summary>Whether it sees the images as they are, all the time.</summary>
    public bool IsClean => switchAfter == 0 && domains[first].Corruption is null;

    /// <summary>What its first frames show.</summary>
    public IReadOnlyList<EvaluationSample> FirstFrames(int count) => [.. Enumerable.Range(0, count).Select(frame => Seen(frame))];

    /// <summary>The next frames.</summary>
    public IReadOnlyList<LabelledFrame> Next(int count)
    {
        var frames = new List<LabelledFrame>(count);
        for (var i = 0; i < count; i++, _sent++)
        {
            var (domain, index) = Seen(_sent);
            var image = images.Read(index);
            image = domains[domain].Corruption?.Apply(image, domains[domain].Severity, EvaluationData.CorruptionSeed, index) ?? image;
            frames.Add(new LabelledFrame(new Frame { Encoded = UnsafeByteOperations.UnsafeWrap(Png(image)) }, images.Labels[index]));
        }

        return frames;
    }

    private EvaluationSample Seen(long frame) => new((int)((first + (switchAfter == 0 ? 0 : frame / switchAfter)) % domains.Count), _order[frame % _order.Length]);

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

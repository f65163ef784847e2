using System.Collections.Concurrent;
using System.Runtime.ExceptionServices;
using TtaService.Engine.Execution;

namespace TtaService.Evaluation;

/// <summary>Frames of a test as the model takes them: read, corrupted, preprocessed, and kept while memory lasts. Thread-safe.</summary>
/// <param name="images">The images.</param>
/// <param name="domains">What is done to them.</param>
/// <param name="seed">Seeds the corruptions.</param>
/// <param name="preprocess">Makes [C,H,W] pixels of the model's size.</param>
public sealed class EvaluationFrames(LabelledImages images, IReadOnlyList<EvaluationDomain> domains, int seed, Func<Image, Image> preprocess)
{
    private const long MaxKeptBytes = 1L << 30;
    private readonly ConcurrentDictionary<EvaluationSample, byte[]> _kept = [];
    private long _keptBytes;
    private (int Channels, int Height, int Width) _shape;

    /// <summary>The domains.</summary>
    public IReadOnlyList<EvaluationDomain> Domains => domains;

    /// <summary>False for frames of which nothing is known but their order.</summary>
    public bool AreLabelled => images.AreLabelled;

    /// <summary>The class of each image.</summary>
    public IReadOnlyList<int> Labels => images.Labels;

    /// <summary>The folders that the images lie in, when each class has one.</summary>
    public IReadOnlyList<ClassFolder> Folders => images.Folders;

    /// <summary>The frames of one step.</summary>
    /// <exception cref="DataFormatException">An image can't be read; the message names it.</exception>
    public FrameBlock Read(ReadOnlySpan<EvaluationSample> samples)
    {
        var wanted = samples.ToArray();
        var frames = new byte[wanted.Length][];
        try
        {
            Parallel.For(0, wanted.Length, i => frames[i] = Frame(wanted[i]));
        }
        catch (AggregateException several)
        {
            // One broken file is what the user is told of, whether threads met more or not.
            ExceptionDispatchInfo.Throw(several.InnerExceptions[0]);
        }

        var (channels, height, width) = _shape;
        var size = channels * height * width;
        var pixels = new byte[wanted.Length * size];
        for (var i = 0; i < frames.Length; i++)
        {
            frames[i].CopyTo(pixels, i * size);
        }

        return FrameBlock.FromPixels(pixels, wanted.Length, channels, height, width);
    }

    private byte[] Frame(EvaluationSample sample)
    {
        if (_kept.TryGetValue(sample, out var kept))
        {
            return kept;
        }

        var image = preprocess(images.Read(sample.Image));
        var domain = domains[sample.Domain];
        if (domain.Corruption is { } corruption)
        {
            image = corruption.Apply(image, domain.Severity, seed, sample.Image);
        }

        _shape = (image.Channels, image.Height, image.Width);
        var plane = image.Height * image.Width;
        var chw = new byte[image.Pixels.Length];
        for (var i = 0; i < chw.Length; i++)
        {
            chw[((i % image.Channels) * plane) + (i / image.Channels)] = image.Pixels[i];
        }

        if (Interlocked.Add(ref _keptBytes, chw.Length) <= MaxKeptBytes)
        {
            _kept[sample] = chw;
        }

        return chw;
    }
}

using System.Buffers.Binary;
using System.IO.Compression;

namespace TtaService.Evaluation;

/// <summary>The IDX format of MNIST and its relatives: big-endian magic and extents, then bytes; gzip is read too.</summary>
internal static class IdxFiles
{
    private const int ImagesMagic = 0x803;
    private const int LabelsMagic = 0x801;
    private const long MaxBytes = 1L << 30;

    /// <summary>The images and labels in a folder, of the test set when there is one; null when there are none.</summary>
    public static LabelledImages? Find(string path)
    {
        var files = Directory.Exists(path) ? Directory.EnumerateFiles(path, "*-images-idx3-ubyte*") : path.Contains("-images-idx3-ubyte", StringComparison.Ordinal) ? [path] : [];
        var images = files.OrderBy(file => !Path.GetFileName(file).StartsWith("t10k", StringComparison.Ordinal)).ThenBy(file => file, StringComparer.Ordinal).FirstOrDefault();
        if (images is null)
        {
            return null;
        }

        var labels = Path.Combine(Path.GetDirectoryName(images)!, Path.GetFileName(images).Replace("-images-idx3-", "-labels-idx1-", StringComparison.Ordinal));
        return File.Exists(labels) ? Read(images, labels) : throw new DataFormatException($"{images} has no labels beside it; expected {labels}");
    }

    private static LabelledImages Read(string imagesPath, string labelsPath)
    {
        var images = Content(imagesPath);
        var labels = Content(labelsPath);
        var (count, height, width) = (Header(images, 4, imagesPath), Header(images, 8, imagesPath), Header(images, 12, imagesPath));
        Require(Header(images, 0, imagesPath) == ImagesMagic, imagesPath, "does not begin with the magic number of IDX images (0x803)");
        Require(Header(labels, 0, labelsPath) == LabelsMagic, labelsPath, "does not begin with the magic number of IDX labels (0x801)");
        Require(
            count > 0 && height > 0 && width > 0 && (Int128)count * height * width == images.Length - 16,
            imagesPath,
            $"says {count} images of {height}x{width}, but holds {images.Length - 16} bytes of pixels");
        Require(Header(labels, 4, labelsPath) == count && labels.Length - 8 == count, labelsPath, $"holds {labels.Length - 8} labels for {count} images");
        return LabelledImages.InMemory(images[16..], height, width, 1, [.. labels.Skip(8).Select(label => (int)label)]);
    }

    private static byte[] Content(string path)
    {
        using var file = File.OpenRead(path);
        using var memory = new MemoryStream();
        using Stream source = path.EndsWith(".gz", StringComparison.Ordinal) ? new GZipStream(file, CompressionMode.Decompress) : file;
        var buffer = new byte[1 << 16];
        try
        {
            for (int read; (read = source.Read(buffer)) > 0;)
            {
                memory.Write(buffer, 0, read);
                Require(memory.Length <= MaxBytes, path, $"has more than {MaxBytes} bytes");
            }
        }
        catch (InvalidDataException broken)
        {
            throw new DataFormatException($"{path} is not gzip, or broken: {broken.Message}");
        }

        return memory.ToArray();
    }

    private static int Header(byte[] bytes, int at, string path)
    {
        Require(bytes.Length >= at + 4, path, "is cut short");
        return BinaryPrimitives.ReadInt32BigEndian(bytes.AsSpan(at));
    }

    private static void Require(bool holds, string path, string problem)
    {
        if (!holds)
        {
            throw new DataFormatException($"{path} {problem}");
        }
    }
}

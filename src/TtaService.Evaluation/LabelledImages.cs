namespace TtaService.Evaluation;

/// <summary>Images with the number of their class.</summary>
public sealed class LabelledImages
{
    private readonly Func<int, Image> _read;

    /// <param name="labels">The class of each image, from 0.</param>
    /// <param name="read">Reads an image by its index; may be called from several threads.</param>
    public LabelledImages(int[] labels, Func<int, Image> read)
    {
        Labels = labels;
        _read = read;
    }

    /// <summary>The class of each image, from 0.</summary>
    public IReadOnlyList<int> Labels { get; }

    /// <summary>The folders that the images lie in, when each class has one; empty for other layouts.</summary>
    public IReadOnlyList<ClassFolder> Folders { get; init; } = [];

    /// <summary>False for frames of which nothing is known but their order; their labels are 0.</summary>
    public bool AreLabelled { get; init; } = true;

    /// <summary>Images in the set.</summary>
    public int Count => Labels.Count;

    /// <summary>An image by its index.</summary>
    public Image Read(int index) => _read(index);

    /// <summary>Opens labelled data by its layout: a folder (or a file in it) with IDX files, a pair of .npy files, or a folder a class (ImageFolder).</summary>
    /// <param name="path">The data.</param>
    /// <param name="decode">Decodes an image file; for ImageFolder.</param>
    /// <param name="classes">The model's classes, which ImageFolder's folders are matched with; null to number them in the order of their names.</param>
    /// <exception cref="DataFormatException">Not labelled data, or broken; the message says what and where.</exception>
    public static LabelledImages Open(string path, Func<string, Image> decode, ModelClasses? classes = null)
    {
        if (!Directory.Exists(path) && !File.Exists(path))
        {
            throw new DataFormatException($"{path} does not exist; give a folder of class folders, IDX files, or images.npy and labels.npy");
        }

        return IdxFiles.Find(path) ?? NpyFiles.Find(path) ?? ImageFolder.Find(path, decode, classes)
            ?? throw new DataFormatException($"{path} holds no labelled data; expected *-images-idx3-ubyte[.gz] with *-labels-idx1-ubyte[.gz], *images*.npy with *labels*.npy, "
                + "or a folder of images for each class");
    }

    /// <summary>Opens images whose classes do not matter: labelled data, or a folder of images in the order of their names, all of class 0.</summary>
    /// <param name="path">The data.</param>
    /// <param name="decode">Decodes an image file.</param>
    /// <exception cref="DataFormatException">No images, or broken labelled data; the message says what and where.</exception>
    public static LabelledImages OpenFrames(string path, Func<string, Image> decode) =>
        ImageFolder.FindFrames(path, decode) ?? Open(path, decode);

    /// <summary>A set over pixels that lie one after another.</summary>
    internal static LabelledImages InMemory(byte[] pixels, int height, int width, int channels, int[] labels)
    {
        var size = height * width * channels;
        return new LabelledImages(labels, index => new Image(height, width, channels, pixels.AsSpan(index * size, size).ToArray()));
    }
}

/// <summary>Labelled data that can't be read.</summary>
public sealed class DataFormatException(string message) : Exception(message);

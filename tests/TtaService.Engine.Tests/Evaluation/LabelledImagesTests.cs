using System.Buffers.Binary;
using System.Text;
using TtaService.Evaluation;

namespace TtaService.Engine.Tests.Evaluation;

public sealed class LabelledImagesTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("tta-data-").FullName;

    [Fact]
    public void Open_FashionMnistSample_HasTenThousandImagesOfTenClasses()
    {
        var images = LabelledImages.Open(Repository.Sample, NoDecoder);

        Assert.Equal(10_000, images.Count);
        Assert.All(Enumerable.Range(0, 10), label => Assert.Equal(1000, images.Labels.Count(other => other == label)));
        // The first test image is an ankle boot.
        Assert.Equal(9, images.Labels[0]);
        Assert.Equal((28, 28, 1), (images.Read(0).Height, images.Read(0).Width, images.Read(0).Channels));
    }

    [Theory]
    [InlineData("|u1", "<i8")]
    [InlineData("|u1", "<i4")]
    [InlineData("|u1", "|u1")]
    public void Open_NpyPair_IsRead(string images, string labels)
    {
        WriteNpy("images.npy", images, [2, 2, 3, 3], [.. Enumerable.Range(0, 36).Select(i => (byte)i)]);
        var width = labels[2] - '0';
        var bytes = new byte[2 * width];
        bytes[0] = 7;
        bytes[width] = 1;
        WriteNpy("labels.npy", labels, [2], bytes);

        var data = LabelledImages.Open(_folder, NoDecoder);

        Assert.Equal([7, 1], data.Labels);
        Assert.Equal((2, 3, 3), (data.Read(1).Height, data.Read(1).Width, data.Read(1).Channels));
        Assert.Equal(18, data.Read(1).Pixels[0]);
    }

    [Theory]
    [InlineData("<f4", new[] { 2, 2, 2 }, 8, "uint8")]
    [InlineData("|u1", new[] { 2, 2, 2 }, 7, "holds 7 bytes")]
    [InlineData("|u1", new[] { 2000000000, 2000000000, 2000000000 }, 8, "holds 8 bytes")]
    [InlineData("|u1", new[] { 8 }, 8, "uint8 (N,H,W)")]
    public void Open_WrongImagesArray_IsRefused(string type, int[] shape, int bytes, string said)
    {
        WriteNpy("images.npy", type, shape, new byte[bytes]);
        WriteNpy("labels.npy", "|u1", [2], new byte[2]);

        Assert.Contains(said, Assert.Throws<DataFormatException>(() => LabelledImages.Open(_folder, NoDecoder)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Open_IdxCutShortOrLying_IsRefused()
    {
        var header = new byte[16 + 8];
        BinaryPrimitives.WriteInt32BigEndian(header, 0x803);
        BinaryPrimitives.WriteInt32BigEndian(header.AsSpan(4), 2);
        BinaryPrimitives.WriteInt32BigEndian(header.AsSpan(8), 2);
        BinaryPrimitives.WriteInt32BigEndian(header.AsSpan(12), 2);
        byte[] labels = [0, 0, 8, 1, 0, 0, 0, 2, 1, 0];
        File.WriteAllBytes(Path.Combine(_folder, "t10k-labels-idx1-ubyte"), labels);
        File.WriteAllBytes(Path.Combine(_folder, "t10k-images-idx3-ubyte"), header);
        Assert.Equal([1, 0], LabelledImages.Open(_folder, NoDecoder).Labels);
        for (var length = 0; length < header.Length; length++)
        {
            File.WriteAllBytes(Path.Combine(_folder, "t10k-images-idx3-ubyte"), header[..length]);
            Assert.Throws<DataFormatException>(() => LabelledImages.Open(_folder, NoDecoder));
        }
    }

    /// <summary>Extents whose product is a multiple of 2^64 agree with an empty file when the product wraps.</summary>
    [Fact]
    public void Open_IdxExtentsThatOverflow_AreRefused()
    {
        WriteIdx("t10k-images-idx3-ubyte", 0x803, [16, 1 << 30, 1 << 30], []);
        WriteIdx("t10k-labels-idx1-ubyte", 0x801, [16], new byte[16]);

        AssertRefused("holds 0 bytes of pixels");
    }

    [Theory]
    [InlineData(0x803, 0x801, 2, 3, "3 labels for 2 images")]
    [InlineData(0x803, 0x801, 2, 1, "1 labels for 2 images")]
    [InlineData(0x801, 0x801, 2, 2, "0x803")]
    [InlineData(0x803, 0x803, 2, 2, "0x801")]
    [InlineData(0x803, 0x801, -1, 2, "says -1 images")]
    public void Open_IdxFilesThatDisagree_AreRefused(int imagesMagic, int labelsMagic, int images, int labels, string said)
    {
        WriteIdx("t10k-images-idx3-ubyte", imagesMagic, [images, 2, 2], new byte[8]);
        WriteIdx("t10k-labels-idx1-ubyte", labelsMagic, [labels], new byte[labels]);

        AssertRefused(said);
    }

    [Fact]
    public void Open_IdxImagesWithoutLabels_AreRefused()
    {
        WriteIdx("t10k-images-idx3-ubyte", 0x803, [1, 2, 2], new byte[4]);

        AssertRefused("has no labels beside it");
    }

    [Theory]
    [InlineData(0)]
    [InlineData(5)]
    [InlineData(5000)]
    public void Open_GzipCutShort_IsRefused(int bytes)
    {
        foreach (var file in Directory.EnumerateFiles(Repository.Sample))
        {
            File.Copy(file, Path.Combine(_folder, Path.GetFileName(file)));
        }

        var images = Path.Combine(_folder, "t10k-images-idx3-ubyte.gz");
        File.WriteAllBytes(images, File.ReadAllBytes(images)[..bytes]);

        AssertRefused("t10k-images-idx3-ubyte.gz");
    }

    [Fact]
    public void Open_PlainFileNamedGz_IsRefused()
    {
        WriteIdx("t10k-images-idx3-ubyte.gz", 0x803, [1, 2, 2], new byte[4]);
        WriteIdx("t10k-labels-idx1-ubyte.gz", 0x801, [1], new byte[1]);

        AssertRefused("is not gzip");
    }

    [Theory]
    [InlineData("<u2", new byte[] { 0x40, 0x9c }, 40_000)]
    [InlineData("|i1", new byte[] { 3 }, 3)]
    [InlineData("<i2", new byte[] { 0x10, 0x27 }, 10_000)]
    [InlineData("<u4", new byte[] { 4, 0, 0, 0 }, 4)]
    [InlineData("<u8", new byte[] { 5, 0, 0, 0, 0, 0, 0, 0 }, 5)]
    public void Open_NpyLabelsOfAnyWidth_AreRead(string type, byte[] label, int expected)
    {
        WriteNpy("images.npy", "|u1", [1, 2, 2], new byte[4]);
        WriteNpy("labels.npy", type, [1], label);

        Assert.Equal([expected], LabelledImages.Open(_folder, NoDecoder).Labels);
    }

    [Theory]
    [InlineData("|i1", new byte[] { 255 }, "label -1 at 0")]
    [InlineData("<u4", new byte[] { 255, 255, 255, 255 }, "label 4294967295 at 0")]
    [InlineData("<u8", new byte[] { 255, 255, 255, 255, 255, 255, 255, 255 }, "label 18446744073709551615 at 0")]
    [InlineData("<f4", new byte[] { 0, 0, 0, 0 }, "integers")]
    [InlineData("|u1", new byte[] { 1, 2 }, "holds 2 bytes")]
    public void Open_WrongLabelsArray_IsRefused(string type, byte[] label, string said)
    {
        WriteNpy("images.npy", "|u1", [1, 2, 2], new byte[4]);
        WriteNpy("labels.npy", type, [1], label);

        AssertRefused(said);
    }

    [Fact]
    public void Open_NpyLabelsForOtherImages_AreRefused()
    {
        WriteNpy("images.npy", "|u1", [2, 2, 2], new byte[8]);
        WriteNpy("labels.npy", "|u1", [3], new byte[3]);

        AssertRefused("one for each image");
    }

    [Fact]
    public void Open_NpyCutAnywhere_IsRefused()
    {
        WriteNpy("images.npy", "|u1", [2, 2, 2], new byte[8]);
        WriteNpy("labels.npy", "|u1", [2], new byte[2]);
        var images = Path.Combine(_folder, "images.npy");
        var whole = File.ReadAllBytes(images);
        for (var length = 0; length < whole.Length; length++)
        {
            File.WriteAllBytes(images, whole[..length]);
            AssertRefused("images.npy");
        }
    }

    [Fact]
    public void Open_ClassFolders_AreClassesInTheOrderOfTheirNames()
    {
        foreach (var file in new[] { "b/2.png", "a/1.png", "b/nested/3.JPG", "b/notes.txt" })
        {
            Directory.CreateDirectory(Path.GetDirectoryName(Path.Combine(_folder, file))!);
            File.WriteAllText(Path.Combine(_folder, file), file);
        }

        var data = LabelledImages.Open(_folder, path => new Image(1, 1, 1, [(byte)File.ReadAllText(path)[0]]));

        Assert.Equal([0, 1, 1], data.Labels);
        Assert.Equal((byte)'a', data.Read(0).Pixels[0]);
    }

    [Fact]
    public void Open_NothingLabelled_SaysWhatIsExpected() =>
        Assert.Contains("idx3-ubyte", Assert.Throws<DataFormatException>(() => LabelledImages.Open(_folder, NoDecoder)).Message, StringComparison.Ordinal);

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    private void AssertRefused(string said) =>
        Assert.Contains(said, Assert.Throws<DataFormatException>(() => LabelledImages.Open(_folder, NoDecoder)).Message, StringComparison.Ordinal);

    private void WriteIdx(string name, int magic, int[] extents, byte[] data)
    {
        var header = new byte[4 + (4 * extents.Length)];
        BinaryPrimitives.WriteInt32BigEndian(header, magic);
        for (var i = 0; i < extents.Length; i++)
        {
            BinaryPrimitives.WriteInt32BigEndian(header.AsSpan(4 + (4 * i)), extents[i]);
        }

        File.WriteAllBytes(Path.Combine(_folder, name), [.. header, .. data]);
    }

    private void WriteNpy(string name, string type, int[] shape, byte[] data)
    {
        var header = $"{{'descr': '{type}', 'fortran_order': False, 'shape': ({string.Join(", ", shape)},), }}\n";
        using var file = File.Create(Path.Combine(_folder, name));
        file.Write([0x93, .. "NUMPY"u8, 1, 0, (byte)header.Length, 0]);
        file.Write(Encoding.ASCII.GetBytes(header));
        file.Write(data);
    }

    private static Image NoDecoder(string path) => throw new InvalidOperationException(path);
}

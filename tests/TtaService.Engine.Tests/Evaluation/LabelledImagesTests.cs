using System.Buffers.Binary;
using System.Text;
using TtaService.Engine.Evaluation;

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

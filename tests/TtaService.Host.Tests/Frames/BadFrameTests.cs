using System.Buffers.Binary;
using System.IO.Compression;
using TtaService.Serving.Frames;

namespace TtaService.Host.Tests.Frames;

/// <summary>Frames that are not taken, each with its reason; no input may crash or allocate past the limits.</summary>
public sealed class BadFrameTests
{
    private static readonly FramePipeline Pipeline = new(new Preprocessing { ExactSize = (8, 8), Crop = (8, 8) }, new FrameOptions());

    [Theory]
    [InlineData("wide.jpg")]
    [InlineData("wide.progressive.jpg")]
    [InlineData("wide.png")]
    [InlineData("wide.palette.png")]
    [InlineData("wide.webp")]
    [InlineData("wide.lossy.webp")]
    public void DecodeEncoded_CutShortAnywhere_IsRefused(string name)
    {
        // A JPEG that lacks only its end marker has its whole picture.
        var whole = File(name);
        var picture = name.EndsWith(".jpg", StringComparison.Ordinal) ? whole.Length - 2 : whole.Length;
        for (var length = 0; length < picture; length++)
        {
            var refused = Refusal(whole[..length]);

            Assert.Contains(refused.Reason, new[] { "FRAME_UNREADABLE", "FRAME_FORMAT_UNKNOWN" });
        }
    }

    [Theory]
    [InlineData("wide.jpg")]
    [InlineData("wide.png")]
    [InlineData("wide.webp")]
    [InlineData("wide.lossy.webp")]
    public void DecodeEncoded_RandomBytesChanged_DecodesOrIsRefused(string name)
    {
        var whole = File(name);
        var random = new Random(3);
        var chw = new byte[Pipeline.FrameBytes];
        for (var trial = 0; trial < 500; trial++)
        {
            var bytes = whole.ToArray();
            for (var i = 0; i < 3; i++)
            {
                bytes[random.Next(bytes.Length)] = (byte)random.Next(256);
            }

            try
            {
                Pipeline.DecodeEncoded(bytes, chw);
            }
            catch (FrameException refused)
            {
                Assert.NotEmpty(refused.Message);
            }
        }
    }

    [Theory]
    [InlineData("")]
    [InlineData("GIF89a with a body that is long enough to look at")]
    [InlineData("<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>")]
    [InlineData("BM and so on, a Windows bitmap as it seems from here")]
    public void DecodeEncoded_OtherFormats_AreRefusedByName(string text) => Assert.Equal("FRAME_FORMAT_UNKNOWN", Refusal(System.Text.Encoding.UTF8.GetBytes(text)).Reason);

    [Fact]
    public void DecodeEncoded_HugePng_IsRefusedByItsHeader()
    {
        var refused = Refusal(Png(20_000, 20_000));

        Assert.Equal("FRAME_TOO_LARGE", refused.Reason);
        Assert.Contains("20000x20000", refused.Message, StringComparison.Ordinal);
        Assert.Contains("Frames:MaxSide", refused.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void DecodeEncoded_TooManyPixels_NamesTheSetting() => Assert.Contains("Frames:MaxPixels", Refusal(Png(4000, 4000)).Message, StringComparison.Ordinal);

    [Fact]
    public void DecodeEncoded_HugeJpegHeader_IsRefused()
    {
        var jpeg = File("wide.jpg");
        var frame = jpeg.AsSpan().IndexOf([(byte)0xFF, (byte)0xC0]);
        BinaryPrimitives.WriteUInt16BigEndian(jpeg.AsSpan(frame + 5), 65_500);
        BinaryPrimitives.WriteUInt16BigEndian(jpeg.AsSpan(frame + 7), 65_500);

        Assert.Equal("FRAME_TOO_LARGE", Refusal(jpeg).Reason);
    }

    [Fact]
    public void DecodeEncoded_HugeWebP_IsRefused()
    {
        var webp = File("wide.webp");
        BinaryPrimitives.WriteUInt32LittleEndian(webp.AsSpan(21), 0x0FFF_FFFF);

        Assert.Equal("FRAME_TOO_LARGE", Refusal(webp).Reason);
    }

    [Fact]
    public void DecodeEncoded_ManyScans_IsRefusedBeforeItIsDecoded()
    {
        var jpeg = File("wide.progressive.jpg");
        var scan = jpeg.AsSpan().LastIndexOf([(byte)0xFF, (byte)0xDA]);
        var body = jpeg[scan..^2];
        byte[] bomb = [.. jpeg[..^2], .. Enumerable.Repeat(body, 40).SelectMany(bytes => bytes), .. jpeg[^2..]];

        Assert.Contains("Frames:MaxScans", Refusal(bomb).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void DecodeEncoded_TooManyBytes_NamesTheSetting()
    {
        var pipeline = new FramePipeline(new Preprocessing { ExactSize = (8, 8), Crop = (8, 8) }, new FrameOptions { MaxBytes = 1024 });

        var refused = Assert.Throws<FrameException>(() => pipeline.DecodeEncoded(File("wide.png"), new byte[192]));

        Assert.Contains("Frames:MaxBytes", refused.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void DecodeRaw_PastTheLimits_IsRefused()
    {
        var refused = Assert.Throws<FrameException>(() => Pipeline.DecodeRaw([], 100_000, 1, 300_000, 3, new byte[192]));

        Assert.Equal("FRAME_TOO_LARGE", refused.Reason);
    }

    [Theory]
    [InlineData(16, 16, 0, 3, (16 * 16 * 3) - 1)]
    [InlineData(16, 16, 47, 3, 16 * 48)]
    [InlineData(16, 16, 64, 3, (15 * 64) + 47)]
    [InlineData(16, 16, -48, 3, 16 * 48)]
    [InlineData(16, 16, int.MaxValue, 3, 16 * 48)]
    [InlineData(16, 3, 1 << 31, 1, 48)]
    [InlineData(16, 5, 1 << 30, 1, 80)]
    [InlineData(0, 16, 0, 3, 0)]
    [InlineData(16, -1, 0, 3, 768)]
    [InlineData(16, 16, 0, 1, 0)]
    public void DecodeRaw_SizesThatContradict_AreRefused(int width, int height, int stride, int channels, int bytes)
    {
        var refused = Assert.Throws<FrameException>(() => Pipeline.DecodeRaw(new byte[bytes], width, height, stride, channels, new byte[Pipeline.FrameBytes]));

        Assert.Equal("RAW_SIZE_WRONG", refused.Reason);
        Assert.Contains($"{bytes} bytes", refused.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void DecodeRaw_LastRowWithoutPadding_IsTaken()
    {
        var chw = new byte[Pipeline.FrameBytes];
        var bytes = new byte[(15 * 64) + 48];
        Array.Fill(bytes, (byte)7);
        Pipeline.DecodeRaw(bytes, 16, 16, 64, 3, chw);

        Assert.All(chw, value => Assert.Equal(7, value));
    }

    [Fact]
    public void DecodeRaw_SizesThatOverflow_AreRefusedByTheLimits()
    {
        var refused = Assert.Throws<FrameException>(() => Pipeline.DecodeRaw(new byte[64], int.MaxValue, int.MaxValue, 0, 3, new byte[Pipeline.FrameBytes]));

        Assert.Equal("FRAME_TOO_LARGE", refused.Reason);
    }

    [Fact]
    public void DecodeEncoded_HugeWebPOfFewBytes_IsRefused()
    {
        byte[] bomb = [.. "RIFF"u8, 30, 0, 0, 0, .. "WEBPVP8L"u8, 18, 0, 0, 0, 0x2F, 0xFE, 0xBF, 0xFF, 0x0F, .. new byte[13]];

        var refused = Refusal(bomb);

        Assert.Contains("16383x16383", refused.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("wide.jpg", "wide.png", 2)]
    [InlineData("wide.png", "wide.jpg", 8)]
    [InlineData("wide.webp", "wide.png", 12)]
    public void DecodeEncoded_MistypedByItsFirstBytes_IsRefused(string start, string rest, int bytes) =>
        Assert.Equal("FRAME_UNREADABLE", Refusal([.. File(start)[..bytes], .. File(rest)[bytes..]]).Reason);

    private static FrameException Refusal(byte[] frame) => Assert.Throws<FrameException>(() => Pipeline.DecodeEncoded(frame, new byte[Pipeline.FrameBytes]));

    // A picture of one colour: some kilobytes, whatever its size. Its checksums are zero: nobody gets that far.
    private static byte[] Png(int width, int height)
    {
        using var data = new MemoryStream();
        using (var zlib = new ZLibStream(data, CompressionLevel.Fastest, leaveOpen: true))
        {
            var row = new byte[1 + ((width + 7) / 8)];
            for (var y = 0; y < height; y++)
            {
                zlib.Write(row);
            }
        }

        var header = new byte[13];
        BinaryPrimitives.WriteInt32BigEndian(header, width);
        BinaryPrimitives.WriteInt32BigEndian(header.AsSpan(4), height);
        header[8] = 1;
        return [0x89, .. "PNG\r\n\u001a\n"u8, .. Chunk("IHDR"u8, header), .. Chunk("IDAT"u8, data.ToArray()), .. Chunk("IEND"u8, [])];
    }

    private static byte[] Chunk(ReadOnlySpan<byte> type, byte[] body)
    {
        var chunk = new byte[12 + body.Length];
        BinaryPrimitives.WriteInt32BigEndian(chunk, body.Length);
        type.CopyTo(chunk.AsSpan(4));
        body.CopyTo(chunk, 8);
        return chunk;
    }

    private static byte[] File(string name) => System.IO.File.ReadAllBytes(Path.Combine(AppContext.BaseDirectory, "Frames", "References", name));
}

using System.Buffers.Binary;
using TtaService.Serving.Frames;

namespace TtaService.Host.Tests.Frames;

/// <summary>What is damaged is named, what is whole is taken. TTA_DAMAGES sets how many damages of each kind are made of each file, TTA_PICTURES names another folder of
/// files.</summary>
public sealed class DamagedFrameTests
{
    private static readonly FrameOptions Refuse = new();
    private static readonly FrameOptions Answer = new() { Damaged = DamagedFrames.Answer };
    private static readonly int Trials = int.Parse(Environment.GetEnvironmentVariable("TTA_DAMAGES") ?? "12");

    public static TheoryData<string> Files =>
        [.. Directory.GetFiles(Pictures).Where(name => Path.GetExtension(name) is ".jpg" or ".png" or ".webp" && !name.Contains("arithmetic", StringComparison.Ordinal))];

    public static TheoryData<string> Jpegs => ["photo.jpg", "photo.422.jpg", "photo.grey.jpg", "photo.progressive.jpg", "photo.restart.jpg", "wide.cmyk.jpg"];

    // Huffman codes find back, so of small damages many leave a valid file: a JPEG's within a few blocks, a lossless WebP's, which has more of them, within a few pixels.
    public static TheoryData<string, string> Damages =>
    [
        .. (Pictures == Folder ? ["photo.jpg", "photo.422.jpg", "photo.grey.jpg", "photo.progressive.jpg", "photo.restart.jpg", "photo.png", "photo.webp", "photo.lossy.webp"]
            : Directory.GetFiles(Pictures))
            .SelectMany(name => KindsOf(name), (name, kind) => (name, kind)),
    ];

    private static string[] KindsOf(string name) => (Path.GetExtension(name), File(name).AsSpan().IndexOf("VP8L"u8)) switch
    {
        (".jpg", _) => ["cut", "zeroed", "lost"],
        (".webp", >= 0) => ["cut", "zeroed", "lost", "few lost"],
        _ => ["cut", "zeroed", "lost", "few zeroed", "few lost", "a byte"],
    };

    private static string Pictures => Environment.GetEnvironmentVariable("TTA_PICTURES") ?? Folder;

    private static string Folder => Path.Combine(AppContext.BaseDirectory, "Frames", "References");

    [Theory]
    [MemberData(nameof(Files))]
    public void Decode_WholeFile_IsNotDamaged(string name) => Assert.Null(Decode(File(name), Answer).Damage);

    [Theory]
    [MemberData(nameof(Jpegs))]
    public void Decode_EndMarkerMissing_IsTheWholePicture(string name)
    {
        var whole = Decode(File(name), Refuse);
        var cut = Decode(File(name)[..^2], Refuse);

        Assert.Null(cut.Damage);
        Assert.Equal(whole.Pixels, cut.Pixels);
    }

    [Theory]
    [MemberData(nameof(Jpegs))]
    public void Decode_TwoThirdsOfTheScanMissingWithAnEndMarker_IsRefused(string name)
    {
        var jpeg = File(name);
        var scan = jpeg.AsSpan().IndexOf([(byte)0xFF, (byte)0xDA]);
        byte[] cut = [.. jpeg[..(scan + 20 + ((jpeg.Length - scan) / 3))], 0xFF, 0xD9];

        var refused = Assert.Throws<FrameException>(() => Decode(cut, Refuse));

        Assert.Equal("FRAME_UNREADABLE", refused.Reason);
        Assert.Contains("is damaged", refused.Message, StringComparison.Ordinal);
        Assert.Contains("Frames:Damaged", refused.Message, StringComparison.Ordinal);
        Assert.NotNull(Decode(cut, Answer).Damage);
    }

    // 64 bytes and more, as what is lost on the way or on a disk. Of smaller damages more leave a valid file: see the README.
    [Theory]
    [MemberData(nameof(Damages))]
    public void Decode_SeededDamage_IsNamedOrHardlyToBeSeen(string name, string kind)
    {
        var whole = File(name);
        var original = Decode(whole, Refuse).Pixels;
        var start = Path.GetExtension(name) == ".jpg" ? whole.AsSpan().IndexOf([(byte)0xFF, (byte)0xDA]) + 14 : 60;
        var (unseen, places) = (new List<double>(), new List<string>());
        for (var trial = 0; trial < Trials; trial++)
        {
            var random = new Random(trial);
            var at = random.Next(start, whole.Length - 2);
            var end = Math.Min(at + (kind.StartsWith("few", StringComparison.Ordinal) ? random.Next(1, 64) : random.Next(64, 1024)), whole.Length - 2);
            byte[] damaged = kind switch
            {
                "cut" => [.. whole[..at], .. trial % 2 == 0 ? whole[^2..] : []],
                "a byte" => [.. whole[..at], (byte)(whole[at] ^ random.Next(1, 256)), .. whole[(at + 1)..]],
                "lost" or "few lost" => [.. whole[..at], .. whole[end..]],
                _ => [.. whole[..at], .. new byte[end - at], .. whole[end..]],
            };
            try
            {
                var decoded = Decode(damaged, Answer);
                if (decoded.Damage is null && !damaged.AsSpan().SequenceEqual(whole))
                {
                    places.Add($"{at}+{end - at}");
                    unseen.Add(decoded.Pixels.Zip(original, (pixel, before) => Math.Abs(pixel - before)).Sum() / (0.75 * original.Length));
                }
            }
            catch (FrameException refused)
            {
                // So broken that there is nothing to answer.
                Assert.NotEmpty(refused.Message);
            }
        }

        TestContext.Current.TestOutputHelper?.WriteLine(
            $"{unseen.Count} of {Trials} unseen, {string.Join(' ', unseen.Select(mean => $"{mean:0.00}"))} levels, at {string.Join(' ', places)} of {whole.Length}");
        Assert.InRange(unseen.Count(mean => mean > 1), 0, kind == "cut" ? 0 : 1 + (0.04 * Trials));
        Assert.InRange(unseen.Count, 0, 1 + (0.1 * Trials));
    }

    [Theory]
    [InlineData("photo.png")]
    [InlineData("wide.palette.png")]
    public void Decode_AnyBitOfAPngsPixelsFlipped_IsNamed(string name)
    {
        var png = File(name);
        var data = png.AsSpan().IndexOf("IDAT"u8) + 4;
        for (var at = data; at < png.Length - 16; at += 1 + (png.Length / 200))
        {
            var damaged = png.ToArray();
            damaged[at] ^= 1;

            Assert.Contains("checksum", Assert.Throws<FrameException>(() => Decode(damaged, Refuse)).Message, StringComparison.Ordinal);
        }
    }

    [Fact]
    public void Decode_CutShortAndAnswered_ShowsNothingOfOtherPictures()
    {
        // Fills the pool with something that would be seen.
        for (var i = 0; i < 4; i++)
        {
            Decode(File("photo.jpg"), Refuse);
        }

        var png = File("photo.png");
        var cut = Decode(png[..(png.Length / 2)], Answer);

        Assert.NotNull(cut.Damage);
        Assert.All(cut.Pixels[^(4 * 96)..], value => Assert.Equal(0, value));
    }

    [Fact]
    public void Decode_LevelThatJumpsAndStays_IsNamed()
    {
        // The first symbol of a block in the middle: its DC. What it is now is read as the difference to the block before, and stays for all that follow.
        var whole = File("photo.grey.jpg");
        var original = Decode(whole, Refuse).Pixels;
        var (named, visible) = (0, 0);
        for (var at = whole.Length / 3; at < whole.Length / 2; at++)
        {
            var damaged = whole.ToArray();
            damaged[at] ^= 0x10;
            if (damaged[at] == 0xFF || whole[at] == 0xFF)
            {
                continue;
            }

            var decoded = Decode(damaged, Answer);
            var seen = decoded.Damage is not null;
            var matters = seen || decoded.Pixels.Zip(original, (pixel, before) => Math.Abs(pixel - before)).Average() > 2;
            visible += matters ? 1 : 0;
            named += seen ? 1 : 0;
        }

        TestContext.Current.TestOutputHelper?.WriteLine($"{named} of {visible}");
        Assert.InRange(named, 0.8 * visible, visible);
        Assert.InRange(visible, 100, 2000);
    }

    [Theory]
    [InlineData("bytes")]
    [InlineData("zeros")]
    [InlineData("fill")]
    [InlineData("restart")]
    [InlineData("behind")]
    public void Decode_WhatCamerasAddAtTheEnd_IsWhole(string addition)
    {
        var jpeg = File("photo.jpg");
        byte[] more = addition switch
        {
            "bytes" => [.. jpeg[..^2], 0x12, 0x34, 0xFF, 0xD9],
            "zeros" => [.. jpeg[..^2], .. new byte[24], 0xFF, 0xD9],
            "fill" => [.. jpeg[..^2], 0xFF, 0xFF, 0xFF, 0xFF, 0xD9],
            "restart" => [.. jpeg[..^2], 0xFF, 0xD0, 0xFF, 0xD9],
            _ => [.. jpeg, .. new byte[512], 1, 2, 3],
        };

        Assert.Equal(Decode(jpeg, Refuse).Pixels, Decode(more, Refuse).Pixels);
    }

    [Fact]
    public void Decode_WithoutHuffmanTables_UsesTheStandardOnes()
    {
        var jpeg = File("photo.jpg");
        var without = new List<byte>(jpeg[..2]);
        var at = 2;
        while (jpeg[at + 1] != 0xDA)
        {
            var length = 2 + BinaryPrimitives.ReadUInt16BigEndian(jpeg.AsSpan(at + 2));
            without.AddRange(jpeg[at + 1] == 0xC4 ? [] : jpeg[at..(at + length)]);
            at += length;
        }

        Assert.Equal(Decode(jpeg, Refuse).Pixels, Decode([.. without, .. jpeg[at..]], Refuse).Pixels);
    }

    [Fact]
    public void Decode_ProgressiveWithoutItsLastScan_IsDamaged()
    {
        var jpeg = File("photo.progressive.jpg");
        byte[] cut = [.. jpeg[..jpeg.AsSpan().LastIndexOf([(byte)0xFF, (byte)0xDA])], 0xFF, 0xD9];

        Assert.Contains("scans are missing", Assert.Throws<FrameException>(() => Decode(cut, Refuse)).Message, StringComparison.Ordinal);
    }

    // Zeros at the end may decode to blocks of nothing, and what is left of them looks like a camera's filling.
    [Theory]
    [InlineData("photo.progressive.jpg")]
    [InlineData("photo.grey.jpg")]
    [InlineData("photo.jpg")]
    public void Decode_LastBytesZeroedToTheEndMarker_IsNamed(string name)
    {
        var jpeg = File(name);
        for (var length = 64; length <= 512; length += 7)
        {
            byte[] zeroed = [.. jpeg[..^(length + 2)], .. new byte[length], .. jpeg[^2..]];

            Assert.Contains("is damaged", Assert.Throws<FrameException>(() => Decode(zeroed, Refuse)).Message, StringComparison.Ordinal);
        }
    }

    // The limits are held against the header: what is behind it must be of that size before anything walks over it.
    [Theory]
    [InlineData("photo.webp")]
    [InlineData("photo.lossy.webp")]
    public void Decode_WebPWhosePictureIsLargerThanItsHeaderSays_IsRefusedUnread(string name)
    {
        var chunks = File(name).AsSpan(12);
        byte[] body = [.. "WEBPVP8X"u8, 10, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 9, 0, 0, .. chunks];
        byte[] file = [.. "RIFF"u8, .. BitConverter.GetBytes(body.Length), .. body];

        Assert.Contains("its picture is ", Assert.Throws<FrameException>(() => Decode(file, Refuse)).Message, StringComparison.Ordinal);
    }

    // Where an arithmetic decoder went astray it does not find back, so it does not end where the encoder did.
    [Fact]
    public void Decode_AnyBitOfALossyWebPsCodesFlipped_IsNamed()
    {
        var webp = File("photo.lossy.webp");
        var unseen = new List<int>();
        for (var at = 40; at < webp.Length - 4; at += 1 + (webp.Length / 400))
        {
            var damaged = webp.ToArray();
            damaged[at] ^= 0x10;
            try
            {
                Decode(damaged, Refuse);
                unseen.Add(at);
            }
            catch (FrameException refused)
            {
                Assert.Equal("FRAME_UNREADABLE", refused.Reason);
            }
        }

        Assert.True(unseen.Count <= 2, string.Join(' ', unseen));
    }

    [Fact]
    public void Decode_ArithmeticJpeg_IsRefusedByItsKind() =>
        Assert.Contains("SOF9", Assert.Throws<FrameException>(() => Decode(File("photo.arithmetic.jpg"), Refuse)).Message, StringComparison.Ordinal);

    [Theory]
    [InlineData("photo.jpg")]
    [InlineData("photo.png")]
    [InlineData("photo.webp")]
    public void Decode_EmptySegmentsWithoutEnd_AreRefusedBeforeTheyAreRead(string name)
    {
        var file = File(name);
        byte[] segment = Path.GetExtension(name) switch
        {
            ".jpg" => [0xFF, 0xE5, 0, 2],
            ".png" => [0, 0, 0, 0, .. "tEXt"u8, 0xA8, 0xDB, 0x9D, 0xAD],
            _ => [.. "EXIF"u8, 0, 0, 0, 0],
        };
        var at = Path.GetExtension(name) switch { ".jpg" => 2, ".png" => 33, _ => file.Length };
        byte[] bomb = [.. file[..at], .. Enumerable.Repeat(segment, 4100).SelectMany(bytes => bytes), .. file[at..]];

        var refused = Assert.Throws<FrameException>(() => Decode(bomb, Refuse));

        Assert.Equal("FRAME_TOO_LARGE", refused.Reason);
        Assert.Contains("Frames:MaxSegments", refused.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("photo.jpg", 320 * 240)]
    [InlineData("photo.progressive.jpg", 10 * 320 * 240)]
    [InlineData("photo.png", 96 * 72)]
    public void Header_Cost_IsPixelsOfAllScans(string name, long cost) => Assert.Equal(cost, FrameHeader.Read(File(name), Refuse).Cost);

    private static (byte[] Pixels, string? Damage) Decode(byte[] file, FrameOptions options)
    {
        using var decoded = FrameDecoder.Decode(file, options);
        return (decoded.Pixels.ToArray(), decoded.Damage);
    }

    private static byte[] File(string name) => System.IO.File.ReadAllBytes(Path.Combine(Folder, name));
}

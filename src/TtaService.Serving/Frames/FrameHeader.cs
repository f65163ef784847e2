using System.Buffers.Binary;

namespace TtaService.Serving.Frames;

internal enum FrameFormat
{
    Jpeg,
    Png,
    WebP,
}

/// <summary>What the first walk over an encoded image tells, without decoding and without native code.</summary>
/// <param name="Format">By its magic bytes.</param>
/// <param name="Width">Pixels in a row.</param>
/// <param name="Height">Rows.</param>
/// <param name="Scans">How often the decoder passes over the picture.</param>
internal readonly record struct FrameHeader(FrameFormat Format, int Width, int Height, int Scans = 1)
{
    /// <summary>What decoding takes, in source pixels times scans.</summary>
    public long Cost => (long)Width * Height * Scans;

    private static ReadOnlySpan<byte> PngSignature => [0x89, (byte)'P', (byte)'N', (byte)'G', 0x0D, 0x0A, 0x1A, 0x0A];

    /// <summary>Walks an image and checks it against the limits.</summary>
    /// <exception cref="FrameException">Not a JPEG, PNG or WebP, cut short, animated, or past a limit.</exception>
    public static FrameHeader Read(ReadOnlySpan<byte> image, FrameOptions limits)
    {
        if (image.Length > limits.MaxBytes)
        {
            throw FrameException.TooLarge($"the frame has {image.Length} bytes, the limit is {limits.MaxBytes} (Frames:MaxBytes); send a smaller frame");
        }

        var header = image switch
        {
            [0xFF, 0xD8, ..] => ReadJpeg(image, limits.MaxScans),
            _ when image.StartsWith(PngSignature) => ReadPng(image),
            _ when image.Length >= 12 && image.StartsWith("RIFF"u8) && image[8..].StartsWith("WEBP"u8) => ReadWebP(image),
            _ => throw new FrameException("FRAME_FORMAT_UNKNOWN", $"the frame's {image.Length} bytes do not begin as a JPEG, PNG or WebP file; send one of those, or raw pixels"),
        };
        Check(header.Width, header.Height, limits);
        return header;
    }

    /// <summary>Checks the size of an image of any kind.</summary>
    /// <exception cref="FrameException">Empty or past a limit.</exception>
    public static void Check(int width, int height, FrameOptions limits)
    {
        if (width < 1 || height < 1)
        {
            throw FrameException.Unreadable($"the frame's header says {width}x{height} pixels; both must be at least 1");
        }

        if (Math.Max(width, height) > limits.MaxSide)
        {
            throw FrameException.TooLarge($"the frame is {width}x{height} pixels, the limit is {limits.MaxSide} a side (Frames:MaxSide); send a smaller frame");
        }

        if ((long)width * height > limits.MaxPixels)
        {
            throw FrameException.TooLarge($"the frame is {width}x{height}, that is {(long)width * height} pixels, the limit is {limits.MaxPixels} (Frames:MaxPixels); send a smaller frame");
        }
    }

    private static FrameHeader ReadJpeg(ReadOnlySpan<byte> image, int maxScans)
    {
        var (width, height, scans) = (0, 0, 0);
        var at = 2;
        while (true)
        {
            at = NextMarker(image, at);
            var marker = image[at - 1];
            if (marker == 0xD9)
            {
                return height > 0 && scans > 0 ? new FrameHeader(FrameFormat.Jpeg, width, height, scans) : throw FrameException.Unreadable("the JPEG holds no picture");
            }

            if (marker is 0x01 or 0xD8 or (>= 0xD0 and <= 0xD7))
            {
                continue;
            }

            var length = at + 2 <= image.Length ? BinaryPrimitives.ReadUInt16BigEndian(image[at..]) : 0;
            if (length < 2 || at + length > image.Length)
            {
                throw CutShort("JPEG");
            }

            if (marker is >= 0xC0 and <= 0xCF and not (0xC4 or 0xC8 or 0xCC))
            {
                if (length < 8)
                {
                    throw FrameException.Unreadable("the JPEG's frame header is too short");
                }

                height = BinaryPrimitives.ReadUInt16BigEndian(image[(at + 3)..]);
                width = BinaryPrimitives.ReadUInt16BigEndian(image[(at + 5)..]);
            }
            else if (marker == 0xDA && ++scans > maxScans)
            {
                throw FrameException.TooLarge($"the JPEG has more than {maxScans} scans (Frames:MaxScans); encode it as a baseline or an ordinary progressive JPEG");
            }

            at += length;
        }
    }

    // The position behind the next marker's two bytes; stuffed zeros and fill bytes are no markers.
    private static int NextMarker(ReadOnlySpan<byte> image, int at)
    {
        while (true)
        {
            var next = image[Math.Min(at, image.Length)..].IndexOf((byte)0xFF);
            if (next < 0 || at + next + 1 >= image.Length)
            {
                throw CutShort("JPEG");
            }

            at += next + 1;
            if (image[at] is not (0x00 or 0xFF))
            {
                return at + 1;
            }
        }
    }

    private static FrameHeader ReadPng(ReadOnlySpan<byte> image)
    {
        var (width, height) = (0u, 0u);
        var at = 8;
        while (true)
        {
            if (image.Length - at < 12)
            {
                throw CutShort("PNG");
            }

            var length = BinaryPrimitives.ReadUInt32BigEndian(image[at..]);
            var type = image.Slice(at + 4, 4);
            if (length > image.Length - at - 12)
            {
                throw CutShort("PNG");
            }

            if (at == 8)
            {
                if (!type.SequenceEqual("IHDR"u8) || length != 13)
                {
                    throw FrameException.Unreadable("the PNG does not begin with its header chunk");
                }

                width = BinaryPrimitives.ReadUInt32BigEndian(image[(at + 8)..]);
                height = BinaryPrimitives.ReadUInt32BigEndian(image[(at + 12)..]);
            }
            else if (type.SequenceEqual("acTL"u8))
            {
                throw FrameException.Unreadable("the PNG is animated; send one frame at a time");
            }
            else if (type.SequenceEqual("IEND"u8))
            {
                return new FrameHeader(FrameFormat.Png, Extent(width), Extent(height));
            }

            at += 12 + (int)length;
        }
    }

    private static FrameHeader ReadWebP(ReadOnlySpan<byte> image)
    {
        if (BinaryPrimitives.ReadUInt32LittleEndian(image[4..]) > image.Length - 8 || image.Length < 30)
        {
            throw CutShort("WebP");
        }

        var body = image[20..];
        switch (image.Slice(12, 4))
        {
            case var lossy when lossy.SequenceEqual("VP8 "u8):
                return new FrameHeader(FrameFormat.WebP, BinaryPrimitives.ReadUInt16LittleEndian(body[6..]) & 0x3FFF, BinaryPrimitives.ReadUInt16LittleEndian(body[8..]) & 0x3FFF);
            case var lossless when lossless.SequenceEqual("VP8L"u8):
                var bits = BinaryPrimitives.ReadUInt32LittleEndian(body[1..]);
                return new FrameHeader(FrameFormat.WebP, (int)(bits & 0x3FFF) + 1, (int)((bits >> 14) & 0x3FFF) + 1);
            case var extended when extended.SequenceEqual("VP8X"u8):
                if ((body[0] & 0x02) != 0)
                {
                    throw FrameException.Unreadable("the WebP is animated; send one frame at a time");
                }

                return new FrameHeader(FrameFormat.WebP, UInt24(body[4..]) + 1, UInt24(body[7..]) + 1);
            default:
                throw FrameException.Unreadable("the WebP holds no picture");
        }
    }

    private static int UInt24(ReadOnlySpan<byte> bytes) => bytes[0] | (bytes[1] << 8) | (bytes[2] << 16);

    private static int Extent(uint extent) => extent > int.MaxValue ? int.MaxValue : (int)extent;

    private static FrameException CutShort(string format) => FrameException.Unreadable($"the {format} is cut short; send the whole file");
}

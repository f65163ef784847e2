using System.Buffers.Binary;
using SkiaSharp;

namespace TtaService.Serving.Frames;

internal enum FrameFormat
{
    Jpeg,
    Png,
    WebP,
    Bmp,
    Tiff,
}

/// <summary>What the first walk over an encoded image tells, without decoding and without native code.</summary>
/// <param name="Format">By its magic bytes.</param>
/// <param name="Width">Pixels in a row.</param>
/// <param name="Height">Rows.</param>
/// <param name="Scans">Passes over the picture that decoding takes; 1 but for JPEGs of several scans.</param>
internal readonly record struct FrameHeader(FrameFormat Format, int Width, int Height, int Scans = 1)
{
    /// <summary>What decoding takes, in pixels that are touched: those of the source, once a scan.</summary>
    public long Cost => (long)Width * Height * Scans;

    /// <summary>What of the file's frame is missing though its picture has begun; null when it is whole: a JPEG without its end marker, a PNG without its last chunk, a WebP
    /// shorter than it says.</summary>
    public string? Missing { get; init; }

    /// <summary>How the file's EXIF data, or a TIFF's own, say that it is to be turned.</summary>
    public SKEncodedOrigin Orientation { get; init; } = SKEncodedOrigin.TopLeft;

    /// <summary>Pixels of a JPEG that share their chroma, across and down.</summary>
    public (int Width, int Height) ChromaBlock { get; init; } = (1, 1);

    private delegate FrameHeader HeaderReader(ReadOnlySpan<byte> image);

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
            [0xFF, 0xD8, ..] => ReadJpeg(image, limits),
            _ when image.StartsWith(PngSignature) => ReadPng(image, limits),
            _ when image.Length >= 12 && image.StartsWith("RIFF"u8) && image[8..].StartsWith("WEBP"u8) => ReadWebP(image, limits),
            _ when BmpHeader.Begins(image) => ReadByImageSharp(image, limits, "BMP", BmpHeader.Read),
            _ when TiffDirectory.Begins(image) => ReadByImageSharp(image, limits, "TIFF", TiffHeader.Read),
            _ => throw Unknown(image, limits),
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
            throw FrameException.TooLarge($"the frame is {width}x{height}, that is {(long)width * height} pixels, the limit is {limits.MaxPixels} (Frames:MaxPixels); "
                + "send a smaller frame");
        }
    }

    private static FrameHeader ReadByImageSharp(ReadOnlySpan<byte> image, FrameOptions limits, string format, HeaderReader read) =>
        limits.Decoder == FrameLibrary.ImageSharp ? read(image) : throw new FrameException(
            "FRAME_FORMAT_UNKNOWN",
            $"the frame begins as a {format} file, which is read with Frames:Decoder=imagesharp only; send a JPEG, PNG or WebP file, or raw pixels");

    private static FrameException Unknown(ReadOnlySpan<byte> image, FrameOptions limits) => new(
        "FRAME_FORMAT_UNKNOWN",
        $"the frame's {image.Length} bytes do not begin as a {(limits.Decoder == FrameLibrary.ImageSharp ? "JPEG, PNG, WebP, BMP or TIFF" : "JPEG, PNG or WebP")} file; "
            + "send one of those, or raw pixels");

    private static FrameHeader ReadJpeg(ReadOnlySpan<byte> image, FrameOptions limits)
    {
        var (width, height, scans, segments) = (0, 0, 0, 0);
        var at = 2;
        var ended = false;
        var orientation = SKEncodedOrigin.TopLeft;
        var chroma = (1, 1);
        while (!ended && NextMarker(image, ref at) is var marker && marker != JpegMarker.None)
        {
            ended = marker == JpegMarker.EndOfImage;
            if (ended || marker is JpegMarker.Temporary or JpegMarker.StartOfImage or (>= JpegMarker.Restart0 and <= JpegMarker.Restart7))
            {
                continue;
            }

            var length = at + 2 <= image.Length ? BinaryPrimitives.ReadUInt16BigEndian(image[at..]) : 0;
            if (length < 2 || at + length > image.Length)
            {
                break;
            }

            CheckSegments("JPEG", "segments", ++segments, limits);
            if (JpegMarker.IsFrame(marker) && height == 0)
            {
                if (length < 8 || marker > JpegMarker.ProgressiveFrame)
                {
                    throw FrameException.Unreadable(length < 8 ? "the JPEG's frame header is too short" : $"the JPEG is of kind SOF{marker - JpegMarker.BaselineFrame} "
                        + "(lossless, hierarchical or arithmetic); encode it as a baseline or a progressive JPEG");
                }

                height = BinaryPrimitives.ReadUInt16BigEndian(image[(at + 3)..]);
                width = BinaryPrimitives.ReadUInt16BigEndian(image[(at + 5)..]);
                chroma = ChromaOf(image.Slice(at + 7, length - 7));
            }
            else if (marker == JpegMarker.StartOfScan && ++scans > limits.MaxScans)
            {
                throw FrameException.TooLarge($"the JPEG has more than {limits.MaxScans} scans (Frames:MaxScans); encode it as a baseline or an ordinary progressive JPEG");
            }
            else if (marker == JpegMarker.Application1 && image.Slice(at + 2, length - 2).StartsWith(ExifOrientation.Prefix))
            {
                orientation = ExifOrientation.Read(image.Slice(at + 2, length - 2));
            }

            at += length;
        }

        if (height == 0 || scans == 0)
        {
            throw ended ? FrameException.Unreadable("the JPEG holds no picture") : CutShort("JPEG");
        }

        return new FrameHeader(FrameFormat.Jpeg, width, height, scans) { Missing = ended ? null : "its end marker is missing", Orientation = orientation, ChromaBlock = chroma };
    }

    // The number of components, and for each its name, its samples across and down in a byte, and its table (T.81, B.2.2).
    private static (int Width, int Height) ChromaOf(ReadOnlySpan<byte> components) => components is [3, _, var brightness, _, _, 0x11, _, _, 0x11, ..]
        ? (brightness >> 4, brightness & 0x0F)
        : (1, 1);

    // The next marker and, in at, the position behind its two bytes; None and the end when there is no further one. Stuffed zeros and fill bytes are no markers.
    private static byte NextMarker(ReadOnlySpan<byte> image, ref int at)
    {
        while (true)
        {
            var next = image[Math.Min(at, image.Length)..].IndexOf((byte)0xFF);
            if (next < 0 || at + next + 1 >= image.Length)
            {
                at = image.Length;
                return JpegMarker.None;
            }

            at += next + 1;
            if (image[at] is not (0x00 or 0xFF))
            {
                return image[at++];
            }
        }
    }

    private static FrameHeader ReadPng(ReadOnlySpan<byte> image, FrameOptions limits)
    {
        var header = default(FrameHeader);
        var (pictured, chunks) = (false, 0);
        var orientation = SKEncodedOrigin.TopLeft;
        var at = 8;
        while (true)
        {
            // The length comes from outside: compared before anything is added to it.
            var length = image.Length - at >= 12 ? BinaryPrimitives.ReadUInt32BigEndian(image[at..]) : uint.MaxValue;
            if (length > image.Length - at - 12)
            {
                return pictured || (at > 8 && image[Math.Min(at + 4, image.Length)..].StartsWith("IDAT"u8))
                    ? header with { Orientation = orientation, Missing = "its last chunk is missing" }
                    : throw CutShort("PNG");
            }

            var type = image.Slice(at + 4, 4);
            CheckSegments("PNG", "chunks", ++chunks, limits);
            if (at == 8)
            {
                if (!type.SequenceEqual("IHDR"u8) || length != 13)
                {
                    throw FrameException.Unreadable("the PNG does not begin with its header chunk");
                }

                header = new FrameHeader(
                    FrameFormat.Png,
                    Extent(BinaryPrimitives.ReadUInt32BigEndian(image[(at + 8)..])),
                    Extent(BinaryPrimitives.ReadUInt32BigEndian(image[(at + 12)..])));
            }
            else if (type.SequenceEqual("acTL"u8))
            {
                throw FrameException.Unreadable("the PNG is animated; send one frame at a time");
            }
            else if (type.SequenceEqual("eXIf"u8))
            {
                orientation = ExifOrientation.Read(image.Slice(at + 8, (int)length));
            }
            else if (type.SequenceEqual("IEND"u8))
            {
                return header with { Orientation = orientation };
            }

            pictured |= type.SequenceEqual("IDAT"u8);
            at += 12 + (int)length;
        }
    }

    private static FrameHeader ReadWebP(ReadOnlySpan<byte> image, FrameOptions limits)
    {
        if (image.Length < 30)
        {
            throw CutShort("WebP");
        }

        var missing = BinaryPrimitives.ReadUInt32LittleEndian(image[4..]) > image.Length - 8 ? "it is shorter than it says" : null;
        var (at, chunks) = (12, 0);
        var orientation = SKEncodedOrigin.TopLeft;
        while (image.Length - at >= 8 && BinaryPrimitives.ReadUInt32LittleEndian(image[(at + 4)..]) is var length && length <= image.Length - at - 8)
        {
            CheckSegments("WebP", "chunks", ++chunks, limits);
            if (image[at..].StartsWith("EXIF"u8))
            {
                orientation = ExifOrientation.Read(image.Slice(at + 8, (int)length));
            }

            at += 8 + (int)length + (int)(length & 1);
        }

        var body = image[20..];
        switch (image.Slice(12, 4))
        {
            case var lossy when lossy.SequenceEqual("VP8 "u8):
                return new FrameHeader(
                    FrameFormat.WebP,
                    BinaryPrimitives.ReadUInt16LittleEndian(body[6..]) & 0x3FFF,
                    BinaryPrimitives.ReadUInt16LittleEndian(body[8..]) & 0x3FFF)
                { Missing = missing };
            case var lossless when lossless.SequenceEqual("VP8L"u8):
                var bits = BinaryPrimitives.ReadUInt32LittleEndian(body[1..]);
                return new FrameHeader(FrameFormat.WebP, (int)(bits & 0x3FFF) + 1, (int)((bits >> 14) & 0x3FFF) + 1) { Missing = missing };
            case var extended when extended.SequenceEqual("VP8X"u8):
                if ((body[0] & 0x02) != 0)
                {
                    throw FrameException.Unreadable("the WebP is animated; send one frame at a time");
                }

                return new FrameHeader(FrameFormat.WebP, UInt24(body[4..]) + 1, UInt24(body[7..]) + 1) { Missing = missing, Orientation = orientation };
            default:
                throw FrameException.Unreadable("the WebP holds no picture");
        }
    }

    // Decoders keep each of them: many empty ones are an attack on their memory.
    private static void CheckSegments(string format, string what, int count, FrameOptions limits)
    {
        if (count > limits.MaxSegments)
        {
            throw FrameException.TooLarge($"the {format} has more than {limits.MaxSegments} {what} (Frames:MaxSegments); encode it without what is not the picture");
        }
    }

    private static int UInt24(ReadOnlySpan<byte> bytes) => bytes[0] | (bytes[1] << 8) | (bytes[2] << 16);

    private static int Extent(uint extent) => extent > int.MaxValue ? int.MaxValue : (int)extent;

    private static FrameException CutShort(string format) => FrameException.Unreadable($"the {format} is cut short; send the whole file");
}

using System.Buffers.Binary;

namespace TtaService.Serving.Frames;

/// <summary>What the headers of a Windows bitmap tell of its picture, without decoding.</summary>
internal static class BmpHeader
{
    private const int FileHeaderBytes = 14;
    private const int CoreHeaderBytes = 12;
    private const int InfoHeaderBytes = 40;
    private const int Uncompressed = 0;
    private const int BitFields = 3;

    /// <summary>Whether a file begins as BMP, with a header of one of its versions.</summary>
    public static bool Begins(ReadOnlySpan<byte> image) => image.StartsWith("BM"u8)
        && (image.Length < FileHeaderBytes + 4 || BinaryPrimitives.ReadUInt32LittleEndian(image[FileHeaderBytes..]) is CoreHeaderBytes or (>= 16 and <= 124));

    /// <exception cref="FrameException">Its headers are cut short.</exception>
    public static FrameHeader Read(ReadOnlySpan<byte> image)
    {
        var info = image.Length >= FileHeaderBytes + CoreHeaderBytes ? image[FileHeaderBytes..] : throw CutShort();
        if (BinaryPrimitives.ReadUInt32LittleEndian(info) == CoreHeaderBytes)
        {
            return Picture(
                image,
                BinaryPrimitives.ReadUInt16LittleEndian(info[4..]),
                BinaryPrimitives.ReadUInt16LittleEndian(info[6..]),
                BinaryPrimitives.ReadUInt16LittleEndian(info[10..]),
                Uncompressed);
        }

        return info.Length < InfoHeaderBytes
            ? throw CutShort()
            : Picture(
                image,
                BinaryPrimitives.ReadInt32LittleEndian(info[4..]),
                BinaryPrimitives.ReadInt32LittleEndian(info[8..]),
                BinaryPrimitives.ReadUInt16LittleEndian(info[14..]),
                BinaryPrimitives.ReadInt32LittleEndian(info[16..]));
    }

    private static FrameException CutShort() => FrameException.Unreadable("the BMP is cut short; send the whole file");

    // A negative height means that the rows begin at the top.
    private static FrameHeader Picture(ReadOnlySpan<byte> image, int width, int height, int bits, int compression)
    {
        height = height == int.MinValue ? int.MaxValue : Math.Abs(height);
        var from = BinaryPrimitives.ReadUInt32LittleEndian(image[10..]);
        var rowBytes = (((long)width * bits) + 31) / 32 * 4;
        var needed = compression is Uncompressed or BitFields ? from + (rowBytes * height) : BinaryPrimitives.ReadUInt32LittleEndian(image[2..]);
        return new FrameHeader(FrameFormat.Bmp, width, height) { Missing = needed > image.Length ? "it is shorter than it says" : null };
    }
}

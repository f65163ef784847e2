using System.Buffers.Binary;
using SkiaSharp;

namespace TtaService.Serving.Frames;

/// <summary>Finds the orientation in EXIF data: tag 274 of a TIFF file's first directory.</summary>
internal static class ExifOrientation
{
    private const int Tag = 274;
    private const int EntryBytes = 12;
    private const ushort ShortType = 3;

    /// <summary>The orientation, upright when the data have none or are broken.</summary>
    public static SKEncodedOrigin Read(ReadOnlySpan<byte> exif)
    {
        // Some writers put JPEG's prefix into PNG's chunk, too.
        var tiff = exif.StartsWith("Exif\0\0"u8) ? exif[6..] : exif;
        if (tiff.Length < 8 || !(tiff.StartsWith("II*\0"u8) || tiff.StartsWith("MM\0*"u8)))
        {
            return SKEncodedOrigin.TopLeft;
        }

        var little = tiff[0] == (byte)'I';
        var directory = little ? BinaryPrimitives.ReadUInt32LittleEndian(tiff[4..]) : BinaryPrimitives.ReadUInt32BigEndian(tiff[4..]);
        if (directory > tiff.Length - 2)
        {
            return SKEncodedOrigin.TopLeft;
        }

        var entries = tiff[(int)directory..];
        var count = UInt16(entries, little);
        entries = entries[2..];
        for (var i = 0; i < count && entries.Length >= EntryBytes; i++, entries = entries[EntryBytes..])
        {
            if (UInt16(entries, little) == Tag && UInt16(entries[2..], little) == ShortType)
            {
                return UInt16(entries[8..], little) is >= 1 and <= 8 and var origin ? (SKEncodedOrigin)origin : SKEncodedOrigin.TopLeft;
            }
        }

        return SKEncodedOrigin.TopLeft;
    }

    private static ushort UInt16(ReadOnlySpan<byte> bytes, bool little) => little ? BinaryPrimitives.ReadUInt16LittleEndian(bytes) : BinaryPrimitives.ReadUInt16BigEndian(bytes);
}

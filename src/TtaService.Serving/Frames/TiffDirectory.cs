using System.Buffers.Binary;

namespace TtaService.Serving.Frames;

/// <summary>The first directory of a TIFF file, or of EXIF data: numbered fields (TIFF 6.0, section 2). Whatever it says is held against the file's length.</summary>
internal readonly ref struct TiffDirectory
{
    public const int ImageWidth = 256;
    public const int ImageLength = 257;
    public const int StripOffsets = 273;
    public const int Orientation = 274;
    public const int StripByteCounts = 279;
    public const int TileOffsets = 324;
    public const int TileByteCounts = 325;

    private const int EntryBytes = 12;
    private const ushort ShortType = 3;
    private const ushort LongType = 4;

    private readonly ReadOnlySpan<byte> _file;
    private readonly ReadOnlySpan<byte> _entries;
    private readonly bool _little;

    private TiffDirectory(ReadOnlySpan<byte> file, ReadOnlySpan<byte> entries, bool little, bool isLast)
    {
        _file = file;
        _entries = entries;
        _little = little;
        IsLast = isLast;
    }

    /// <summary>No other page follows.</summary>
    public bool IsLast { get; }

    /// <summary>Whether a file begins as TIFF.</summary>
    public static bool Begins(ReadOnlySpan<byte> file) => file.StartsWith("II*\0"u8) || file.StartsWith("MM\0*"u8);

    /// <summary>Finds the directory; false where it isn't within the file. Entries past the end are not seen.</summary>
    public static bool TryOpen(ReadOnlySpan<byte> file, out TiffDirectory directory)
    {
        directory = default;
        if (file.Length < 8 || !Begins(file))
        {
            return false;
        }

        var little = file[0] == (byte)'I';
        var at = UInt32(file[4..], little);
        if (at > file.Length - 2)
        {
            return false;
        }

        var entries = file[(int)at..];
        var bytes = EntryBytes * UInt16(entries, little);
        entries = entries[2..];
        var isWhole = entries.Length >= bytes;
        var isLast = entries.Length < bytes + 4 || UInt32(entries[bytes..], little) == 0;
        directory = new TiffDirectory(file, isWhole ? entries[..bytes] : entries[..(entries.Length / EntryBytes * EntryBytes)], little, isLast);
        return true;
    }

    /// <summary>A field's first number; null when there is none of whole numbers.</summary>
    public uint? Number(int tag) => TryFind(tag, out var values, out var isShort) ? At(values, 0, isShort) : null;

    /// <summary>Whether two fields of as many numbers give parts, positions and lengths, that lie within the file.</summary>
    public bool? PartsFit(int offsetsTag, int lengthsTag)
    {
        if (!TryFind(offsetsTag, out var offsets, out var shortOffsets) || !TryFind(lengthsTag, out var lengths, out var shortLengths))
        {
            return null;
        }

        var count = offsets.Length / (shortOffsets ? 2 : 4);
        if (count != lengths.Length / (shortLengths ? 2 : 4))
        {
            return false;
        }

        for (var i = 0; i < count; i++)
        {
            if ((long)At(offsets, i, shortOffsets) + At(lengths, i, shortLengths) > _file.Length)
            {
                return false;
            }
        }

        return true;
    }

    private static ushort UInt16(ReadOnlySpan<byte> bytes, bool little) => little ? BinaryPrimitives.ReadUInt16LittleEndian(bytes) : BinaryPrimitives.ReadUInt16BigEndian(bytes);

    private static uint UInt32(ReadOnlySpan<byte> bytes, bool little) => little ? BinaryPrimitives.ReadUInt32LittleEndian(bytes) : BinaryPrimitives.ReadUInt32BigEndian(bytes);

    private uint At(ReadOnlySpan<byte> values, int index, bool isShort) => isShort ? UInt16(values[(2 * index)..], _little) : UInt32(values[(4 * index)..], _little);

    // A field's values of 16 or 32 bits: within the entry where they fit, else where it points.
    private bool TryFind(int tag, out ReadOnlySpan<byte> values, out bool isShort)
    {
        values = [];
        isShort = false;
        for (var rest = _entries; rest.Length >= EntryBytes; rest = rest[EntryBytes..])
        {
            if (UInt16(rest, _little) != tag)
            {
                continue;
            }

            var type = UInt16(rest[2..], _little);
            isShort = type == ShortType;
            var bytes = (isShort ? 2L : 4L) * UInt32(rest[4..], _little);
            var at = bytes <= 4 ? 0 : UInt32(rest[8..], _little);
            var from = bytes <= 4 ? rest[8..EntryBytes] : _file;
            if (type is not (ShortType or LongType) || bytes == 0 || at + bytes > from.Length)
            {
                return false;
            }

            values = from.Slice((int)at, (int)bytes);
            return true;
        }

        return false;
    }
}

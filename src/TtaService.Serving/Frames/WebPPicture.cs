using System.Buffers.Binary;

namespace TtaService.Serving.Frames;

/// <summary>The chunk of a WebP file that holds its picture.</summary>
/// <param name="type">"VP8 " or "VP8L".</param>
/// <param name="data">Its payload.</param>
internal readonly ref struct WebPPicture(ReadOnlySpan<byte> type, ReadOnlySpan<byte> data)
{
    private readonly ReadOnlySpan<byte> _type = type;
    private readonly ReadOnlySpan<byte> _data = data;

    private bool IsLossy => _type[3] == (byte)' ';

    /// <summary>Finds the picture.</summary>
    /// <param name="file">A whole RIFF file.</param>
    /// <param name="picture">The picture.</param>
    public static bool Find(ReadOnlySpan<byte> file, out WebPPicture picture)
    {
        for (var at = 12; file.Length - at >= 8;)
        {
            var length = BinaryPrimitives.ReadUInt32LittleEndian(file[(at + 4)..]);
            if (length > file.Length - at - 8)
            {
                break;
            }

            var type = file.Slice(at, 4);
            if (type.SequenceEqual("VP8 "u8) || type.SequenceEqual("VP8L"u8))
            {
                picture = new WebPPicture(type, file.Slice(at + 8, (int)length));
                return true;
            }

            at += 8 + (int)length + (int)(length & 1);
        }

        picture = default;
        return false;
    }

    /// <summary>What of it is damaged; null when nothing is.</summary>
    /// <param name="width">Of the file's header, which limits were held against.</param>
    /// <param name="height">Of the file's header.</param>
    public string? FindDamage(int width, int height)
    {
        if (ReadSize() is not { } size)
        {
            return "its picture's header is broken";
        }

        return size != (width, height) ? $"its picture is {size.Width}x{size.Height} pixels" : IsLossy ? Vp8Walk.FindDamage(_data) : Vp8LWalk.FindDamage(_data);
    }

    private (int Width, int Height)? ReadSize()
    {
        if (IsLossy)
        {
            return _data.Length < Vp8Walk.HeaderBytes
                ? null
                : (BinaryPrimitives.ReadUInt16LittleEndian(_data[6..]) & 0x3FFF, BinaryPrimitives.ReadUInt16LittleEndian(_data[8..]) & 0x3FFF);
        }

        if (_data.Length <= Vp8LWalk.HeaderBytes)
        {
            return null;
        }

        var bits = BinaryPrimitives.ReadUInt32LittleEndian(_data[1..]);
        return ((int)(bits & 0x3FFF) + 1, (int)((bits >> 14) & 0x3FFF) + 1);
    }
}

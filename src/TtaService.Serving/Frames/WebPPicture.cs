using System.Buffers.Binary;

namespace TtaService.Serving.Frames;

/// <summary>The chunk of a WebP file that holds its picture.</summary>
/// <param name="type">"VP8 " or "VP8L".</param>
/// <param name="data">Its payload.</param>
internal readonly ref struct WebPPicture(ReadOnlySpan<byte> type, ReadOnlySpan<byte> data)
{
    private const int HeaderBytes = 20;
    private const int FrameHeaderBytes = 10;

    // Encoders end with at most four bytes that say nothing (libvpx flushes 32 bits, libwebp two bytes). A lossless picture ends with less than one,
    // but libwebp does not mind when its last symbol, of 60 bits at most, is missing.
    private const int LossyTail = 6;
    private const int LosslessTail = 9;

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

    /// <summary>What of its frame is damaged; null when nothing is.</summary>
    public string? FindDamage()
    {
        if (!IsLossy)
        {
            return _data.Length > 5 && _data[0] == 0x2F ? null : "its picture's header is broken";
        }

        if (_data.Length < FrameHeaderBytes || (_data[0] & 1) != 0 || !_data[3..].StartsWith((ReadOnlySpan<byte>)[0x9D, 0x01, 0x2A]))
        {
            return "its picture's header is broken";
        }

        var first = (_data[0] | (_data[1] << 8) | (_data[2] << 16)) >> 5;
        return first > _data.Length - FrameHeaderBytes ? "its first partition is longer than its picture" : null;
    }

    /// <summary>
    /// The file without the last bytes of its picture. A decoder must miss them: arithmetic and Huffman codes have no checksum, and what was coded wrong ends at another place than what was written.
    /// </summary>
    /// <returns>Null when the picture is too small for that.</returns>
    public byte[]? WithoutTail()
    {
        var length = _data.Length - (IsLossy ? LossyTail : LosslessTail);
        if (length < FrameHeaderBytes)
        {
            return null;
        }

        var file = new byte[HeaderBytes + length + (length & 1)];
        "RIFF"u8.CopyTo(file);
        BinaryPrimitives.WriteInt32LittleEndian(file.AsSpan(4), file.Length - 8);
        "WEBP"u8.CopyTo(file.AsSpan(8));
        _type.CopyTo(file.AsSpan(12));
        BinaryPrimitives.WriteInt32LittleEndian(file.AsSpan(16), length);
        _data[..length].CopyTo(file.AsSpan(HeaderBytes));
        return file;
    }
}

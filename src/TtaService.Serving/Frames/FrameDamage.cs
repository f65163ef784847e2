using System.Buffers.Binary;

namespace TtaService.Serving.Frames;

/// <summary>Finds out from a file's own data whether its picture is whole. Decoders invent what is missing.</summary>
internal static class FrameDamage
{
    // Upper case: a decoder can't do without the chunk.
    private const byte AncillaryBit = 0x20;

    /// <summary>What is damaged; null when nothing is to be seen before decoding.</summary>
    /// <param name="image">The file.</param>
    /// <param name="header">What its header says.</param>
    public static string? Find(ReadOnlySpan<byte> image, FrameHeader header) => header.Format switch
    {
        // Without its end marker a JPEG may be whole all the same.
        FrameFormat.Jpeg => JpegWalk.FindDamage(image),
        _ when header.Missing is not null => header.Missing,
        FrameFormat.Png => FindInPng(image),
        FrameFormat.WebP => FindInWebP(image, header),

        // They have no checksums; what is cut off, the header misses.
        _ => null,
    };

    // Chunks fit: the header's walk has been over them.
    private static string? FindInPng(ReadOnlySpan<byte> image)
    {
        for (var at = 8; ;)
        {
            var length = (int)BinaryPrimitives.ReadUInt32BigEndian(image[at..]);
            var type = image.Slice(at + 4, 4);
            if (type.ContainsAnyExceptInRange((byte)'A', (byte)'z'))
            {
                return $"byte {at} begins no chunk";
            }

            if ((type[0] & AncillaryBit) == 0 && Crc32.Of(image.Slice(at + 4, 4 + length)) != BinaryPrimitives.ReadUInt32BigEndian(image[(at + 8 + length)..]))
            {
                return $"the checksum of the {System.Text.Encoding.ASCII.GetString(type)} chunk at byte {at} is wrong";
            }

            if (type.SequenceEqual("IEND"u8))
            {
                return null;
            }

            at += 12 + length;
        }
    }

    private static string? FindInWebP(ReadOnlySpan<byte> image, FrameHeader header)
    {
        // The RIFF size counts what follows it; the header made sure that it is there.
        image = image[..(8 + (int)BinaryPrimitives.ReadUInt32LittleEndian(image[4..]))];
        return WebPPicture.Find(image, out var picture) ? picture.FindDamage(header.Width, header.Height) : "its chunks end before its picture";
    }
}

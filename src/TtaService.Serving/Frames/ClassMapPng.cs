using System.Buffers.Binary;
using System.IO.Compression;

namespace TtaService.Serving.Frames;

/// <summary>Writes a class a pixel as an indexed PNG, in the colours that PASCAL VOC gives to classes.</summary>
internal static class ClassMapPng
{
    private static readonly byte[] Signature = [0x89, (byte)'P', (byte)'N', (byte)'G', 0x0D, 0x0A, 0x1A, 0x0A];
    private static readonly byte[] Palette = Colours();

    /// <summary>The file.</summary>
    /// <param name="classes">Row by row.</param>
    /// <param name="width">Pixels in a row.</param>
    /// <param name="height">Rows.</param>
    public static byte[] Encode(ReadOnlySpan<byte> classes, int width, int height)
    {
        using var file = new MemoryStream();
        file.Write(Signature);
        Span<byte> header = stackalloc byte[13];
        BinaryPrimitives.WriteInt32BigEndian(header, width);
        BinaryPrimitives.WriteInt32BigEndian(header[4..], height);
        // Eight bits, indexed, deflate, plain filters, not interlaced.
        header[8] = 8;
        header[9] = 3;
        header[10..].Clear();
        Chunk(file, "IHDR"u8, header);
        Chunk(file, "PLTE"u8, Palette);
        using var data = new MemoryStream();
        using (var deflate = new ZLibStream(data, CompressionLevel.Fastest, leaveOpen: true))
        {
            for (var y = 0; y < height; y++)
            {
                // Neighbouring classes are equal, so filters gain nothing.
                deflate.WriteByte(0);
                deflate.Write(classes.Slice(y * width, width));
            }
        }

        Chunk(file, "IDAT"u8, data.GetBuffer().AsSpan(0, (int)data.Length));
        Chunk(file, "IEND"u8, []);
        return file.ToArray();
    }

    private static void Chunk(MemoryStream file, ReadOnlySpan<byte> name, ReadOnlySpan<byte> data)
    {
        Span<byte> number = stackalloc byte[4];
        BinaryPrimitives.WriteInt32BigEndian(number, data.Length);
        file.Write(number);
        var from = (int)file.Position;
        file.Write(name);
        file.Write(data);
        BinaryPrimitives.WriteUInt32BigEndian(number, Crc32.Of(file.GetBuffer().AsSpan(from, (int)file.Position - from)));
        file.Write(number);
    }

    // The bits of the index, spread over the three channels from their highest bits on.
    private static byte[] Colours()
    {
        var colours = new byte[3 * 256];
        for (var index = 0; index < 256; index++)
        {
            for (var bit = 0; bit < 8; bit++)
            {
                colours[(3 * index) + (bit % 3)] |= (byte)(((index >> bit) & 1) << (7 - (bit / 3)));
            }
        }

        return colours;
    }
}

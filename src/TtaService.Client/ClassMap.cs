using System.Buffers.Binary;
using System.IO.Compression;
using TtaService.V1;

namespace TtaService.Client;

/// <summary>A class for each pixel of a frame, as a segmentation model answered it.</summary>
/// <param name="Width">Pixels in a row.</param>
/// <param name="Height">Rows.</param>
/// <param name="Classes">Row by row, Width * Height of them; <see cref="Outside"/> where the model did not see the frame.</param>
public sealed record ClassMap(int Width, int Height, byte[] Classes)
{
    /// <summary>The class of pixels that the model did not see.</summary>
    public const byte Outside = 255;

    // IHDR is the first chunk: signature, length and name before it.
    private const int HeaderAt = 16;
    private const int FirstChunk = 8;

    /// <summary>The class of a pixel, from the top left.</summary>
    public int At(int x, int y) => Classes[(y * Width) + x];

    /// <summary>Reads the map of an answer, whichever way it was written.</summary>
    /// <param name="prediction">Of a segmentation model.</param>
    /// <exception cref="InvalidOperationException">It holds no map: another kind of model, or the map was not asked for.</exception>
    /// <exception cref="InvalidDataException">The map is not one that a TtaService writes.</exception>
    public static ClassMap Read(FramePrediction prediction)
    {
        ArgumentNullException.ThrowIfNull(prediction);
        return prediction.Segmentation?.MapCase switch
        {
            Segmentation.MapOneofCase.Png => FromPng(prediction.Segmentation.Png.Span),
            Segmentation.MapOneofCase.Runs => FromRuns(prediction.Segmentation.Runs, prediction.Width, prediction.Height),
            _ => throw new InvalidOperationException("the answer holds no class map: the model answers something else, or ReplyOptions.mask_encoding is NONE"),
        };
    }

    private static ClassMap FromRuns(RunLengths runs, int width, int height)
    {
        var (classes, filled) = (new byte[checked(width * height)], 0);
        if (runs.Classes.Count != runs.Lengths.Count || runs.Lengths.Sum(length => (long)length) != classes.Length)
        {
            throw new InvalidDataException($"runs of {runs.Lengths.Sum(length => (long)length)} pixels do not fill a frame of {width}x{height}");
        }

        for (var i = 0; i < runs.Lengths.Count; i++)
        {
            classes.AsSpan(filled, runs.Lengths[i]).Fill((byte)runs.Classes[i]);
            filled += runs.Lengths[i];
        }

        return new ClassMap(width, height, classes);
    }

    private static ClassMap FromPng(ReadOnlySpan<byte> png)
    {
        if (png.Length < HeaderAt + 13 || !png[12..16].SequenceEqual("IHDR"u8) || png[HeaderAt + 8] != 8 || png[HeaderAt + 9] != 3)
        {
            throw new InvalidDataException("the map is no indexed PNG of eight bits");
        }

        var (width, height) = (BinaryPrimitives.ReadInt32BigEndian(png[HeaderAt..]), BinaryPrimitives.ReadInt32BigEndian(png[(HeaderAt + 4)..]));
        using var data = new MemoryStream();
        for (var at = FirstChunk; at + 12 <= png.Length;)
        {
            var length = BinaryPrimitives.ReadInt32BigEndian(png[at..]);
            if (length < 0 || length > png.Length - at - 12)
            {
                throw new InvalidDataException("the map's PNG is cut short");
            }

            if (png.Slice(at + 4, 4).SequenceEqual("IDAT"u8))
            {
                data.Write(png.Slice(at + 8, length));
            }

            at += length + 12;
        }

        data.Position = 0;
        var classes = new byte[checked(width * height)];
        using var inflate = new ZLibStream(data, CompressionMode.Decompress);
        for (var y = 0; y < height; y++)
        {
            if (inflate.ReadByte() != 0)
            {
                throw new InvalidDataException("the map's PNG has filtered rows, which a TtaService does not write; read it with an image library");
            }

            inflate.ReadExactly(classes.AsSpan(y * width, width));
        }

        return new ClassMap(width, height, classes);
    }
}

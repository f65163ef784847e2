using System.Buffers;
using SkiaSharp;

namespace TtaService.Serving.Frames;

/// <summary>Decodes files to 8-bit RGBA, alpha ignored and no colours managed:
/// checked first without a library, then by the one that <see cref="FrameOptions.Decoder"/> names.</summary>
internal static class FrameDecoder
{
    /// <summary>Pixels in rented memory, packed RGBA rows; the caller disposes.</summary>
    /// <param name="Memory">The pixels.</param>
    /// <param name="Width">Pixels in a row.</param>
    /// <param name="Height">Rows.</param>
    /// <param name="Orientation">How the picture is to be turned.</param>
    /// <param name="Source">The size of the file's picture; more than the pixels' when it was decoded at a smaller scale.</param>
    /// <param name="Damage">What is damaged; null when the picture is whole.</param>
    internal readonly record struct Decoded(
        IMemoryOwner<byte> Memory,
        int Width,
        int Height,
        SKEncodedOrigin Orientation,
        (int Width, int Height) Source,
        string? Damage = null) : IDisposable
    {
        /// <summary>The picture's sides are exchanged when it is turned.</summary>
        public bool LiesOnItsSide => Orientation >= SKEncodedOrigin.LeftTop;

        public Span<byte> Pixels => Memory.Memory.Span[..(4 * Width * Height)];

        public void Dispose() => Memory.Dispose();
    }

    /// <summary>Decodes a whole image.</summary>
    /// <param name="encoded">The file.</param>
    /// <param name="limits">What is taken.</param>
    /// <param name="needed">Height and width that the model takes of a picture of the given height and width; null for the full size.</param>
    /// <param name="turns">The picture will be turned as its EXIF data say.</param>
    /// <exception cref="FrameException">Refused by its header, or damaged.</exception>
    public static Decoded Decode(ReadOnlySpan<byte> encoded, FrameOptions limits, Func<int, int, (int Height, int Width)>? needed = null, bool turns = false)
    {
        var header = FrameHeader.Read(encoded, limits);
        var damage = FrameDamage.Find(encoded, header);
        if (damage is not null)
        {
            RefuseUnlessAnswered(header, damage, limits);
        }

        if (header is not { Format: FrameFormat.Jpeg, Missing: not null })
        {
            return DecodeBy(encoded, header, limits, damage, needed, turns);
        }

        // Without an end marker the decoder waits for more in place of giving the last rows.
        var ended = ArrayPool<byte>.Shared.Rent(encoded.Length + 2);
        try
        {
            encoded.CopyTo(ended);
            (ended[encoded.Length], ended[encoded.Length + 1]) = (0xFF, JpegMarker.EndOfImage);
            return DecodeBy(ended.AsSpan(0, encoded.Length + 2), header, limits, damage, needed, turns);
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(ended);
        }
    }

    /// <summary>A file that can be answered in part only is refused, unless the operator chose otherwise.</summary>
    /// <exception cref="FrameException">It is refused.</exception>
    public static void RefuseUnlessAnswered(FrameHeader header, string damage, FrameOptions limits)
    {
        if (limits.Damaged == DamagedFrames.Refuse)
        {
            throw FrameException.Unreadable($"the {header.Format} of {header.Width}x{header.Height} pixels is damaged: {damage}; "
                + "send the file as the camera wrote it, or set Frames:Damaged to answer");
        }
    }

    /// <summary>Nothing of the file can be answered.</summary>
    public static FrameException Unreadable(FrameHeader header, string why) =>
        FrameException.Unreadable($"the {header.Format} of {header.Width}x{header.Height} pixels can't be decoded: {why}; send the file as the camera wrote it");

    private static Decoded DecodeBy(
        ReadOnlySpan<byte> encoded,
        FrameHeader header,
        FrameOptions limits,
        string? damage,
        Func<int, int, (int Height, int Width)>? needed,
        bool turns) => limits.Decoder == FrameLibrary.ImageSharp
            ? ImageSharpPixels.Decode(encoded, header, limits, damage)
            : SkiaPixels.Decode(encoded, header, limits, damage, needed, turns);
}

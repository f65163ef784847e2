using System.Buffers;
using SkiaSharp;

namespace TtaService.Serving.Frames;

/// <summary>Decodes JPEG, PNG and WebP to 8-bit RGBA through Skia, with the pixel values that Pillow gives: no colour management, alpha ignored.</summary>
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
            return Decode(encoded, header, limits, damage, needed, turns);
        }

        // Without an end marker the decoder waits for more in place of giving the last rows.
        var ended = ArrayPool<byte>.Shared.Rent(encoded.Length + 2);
        try
        {
            encoded.CopyTo(ended);
            (ended[encoded.Length], ended[encoded.Length + 1]) = (0xFF, JpegMarker.EndOfImage);
            return Decode(ended.AsSpan(0, encoded.Length + 2), header, limits, damage, needed, turns);
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(ended);
        }
    }

    private static unsafe Decoded Decode(
        ReadOnlySpan<byte> encoded,
        FrameHeader header,
        FrameOptions limits,
        string? damage,
        Func<int, int, (int Height, int Width)>? needed,
        bool turns)
    {
        fixed (byte* bytes = encoded)
        {
            using var data = SKData.Create((nint)bytes, encoded.Length);
            using var codec = SKCodec.Create(data) ?? throw Unreadable(header, "its header can't be read");
            if ((codec.Info.Width, codec.Info.Height) != (header.Width, header.Height) || codec.FrameCount > 1)
            {
                throw Unreadable(header, "its parts contradict each other");
            }

            var orientation = header.Format == FrameFormat.Png ? header.PngOrientation : codec.EncodedOrigin;
            var size = header.Format == FrameFormat.Jpeg && needed is not null ? ScaledSize(codec, needed, turns && orientation >= SKEncodedOrigin.LeftTop) : codec.Info.Size;

            // Without a colour space nothing is converted, as in Pillow.
            var alpha = codec.Info.AlphaType == SKAlphaType.Opaque ? SKAlphaType.Opaque : SKAlphaType.Unpremul;
            var info = new SKImageInfo(size.Width, size.Height, SKColorType.Rgba8888, alpha, colorspace: null);
            var memory = MemoryPool<byte>.Shared.Rent(info.BytesSize);
            try
            {
                using var pinned = memory.Memory.Pin();
                if (limits.Damaged == DamagedFrames.Answer)
                {
                    // Rows that the decoder does not reach must not show another camera's picture.
                    memory.Memory.Span.Clear();
                }

                var result = codec.GetPixels(info, (nint)pinned.Pointer);
                if (result is SKCodecResult.IncompleteInput or SKCodecResult.ErrorInInput)
                {
                    damage ??= result == SKCodecResult.IncompleteInput ? "it is cut short" : "its data are corrupt";
                    RefuseUnlessAnswered(header, damage, limits);
                }
                else if (result != SKCodecResult.Success)
                {
                    throw Unreadable(header, $"it is broken ({result})");
                }

                return new Decoded(memory, size.Width, size.Height, orientation, (header.Width, header.Height), damage);
            }
            catch
            {
                memory.Dispose();
                throw;
            }
        }
    }

    // The smallest scale of the DCT that leaves as much as the model takes.
    private static SKSizeI ScaledSize(SKCodec codec, Func<int, int, (int Height, int Width)> needed, bool onItsSide)
    {
        var (width, height) = (codec.Info.Width, codec.Info.Height);
        var least = onItsSide ? needed(width, height) : needed(height, width);
        least = onItsSide ? (least.Width, least.Height) : least;
        foreach (var scale in (ReadOnlySpan<float>)[1 / 8f, 1 / 4f, 1 / 2f])
        {
            var scaled = codec.GetScaledDimensions(scale);
            if (scaled.Width >= least.Width && scaled.Height >= least.Height)
            {
                return scaled;
            }
        }

        return codec.Info.Size;
    }

    private static void RefuseUnlessAnswered(FrameHeader header, string damage, FrameOptions limits)
    {
        if (limits.Damaged == DamagedFrames.Refuse)
        {
            throw FrameException.Unreadable($"the {header.Format} of {header.Width}x{header.Height} pixels is damaged: {damage}; "
                + "send the file as the camera wrote it, or set Frames:Damaged to answer");
        }
    }

    private static FrameException Unreadable(FrameHeader header, string why) =>
        FrameException.Unreadable($"the {header.Format} of {header.Width}x{header.Height} pixels can't be decoded: {why}; send the file as the camera wrote it");
}

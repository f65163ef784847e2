using System.Buffers;
using SkiaSharp;

namespace TtaService.Serving.Frames;

/// <summary>Decodes JPEG, PNG and WebP through Skia, which is native code, with the pixel values that Pillow gives.</summary>
internal static class SkiaPixels
{
    public static unsafe FrameDecoder.Decoded Decode(
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
            using var codec = SKCodec.Create(data) ?? throw FrameDecoder.Unreadable(header, "its header can't be read");
            if ((codec.Info.Width, codec.Info.Height) != (header.Width, header.Height) || codec.FrameCount > 1)
            {
                throw FrameDecoder.Unreadable(header, "its parts contradict each other");
            }

            var size = header.Format == FrameFormat.Jpeg && needed is not null
                ? ScaledSize(codec, needed, turns && header.Orientation >= SKEncodedOrigin.LeftTop)
                : codec.Info.Size;

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
                    FrameDecoder.RefuseUnlessAnswered(header, damage, limits);
                }
                else if (result != SKCodecResult.Success)
                {
                    throw FrameDecoder.Unreadable(header, $"it is broken ({result})");
                }

                return new FrameDecoder.Decoded(memory, size.Width, size.Height, header.Orientation, (header.Width, header.Height), damage);
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
}

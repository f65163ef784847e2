using System.Buffers;
using SkiaSharp;

namespace TtaService.Serving.Frames;

/// <summary>Decodes JPEG, PNG and WebP to 8-bit RGBA through Skia, with the pixel values that Pillow gives: no colour management, alpha ignored.</summary>
internal static class FrameDecoder
{
    /// <summary>Pixels in rented memory, packed RGBA rows; the caller disposes.</summary>
    internal readonly record struct Decoded(IMemoryOwner<byte> Memory, int Width, int Height, SKEncodedOrigin Orientation) : IDisposable
    {
        public Span<byte> Pixels => Memory.Memory.Span[..(4 * Width * Height)];

        public void Dispose() => Memory.Dispose();
    }

    /// <summary>Decodes a whole image.</summary>
    /// <exception cref="FrameException">Refused by its header, cut short or broken.</exception>
    public static unsafe Decoded Decode(ReadOnlySpan<byte> encoded, FrameOptions limits)
    {
        var header = FrameHeader.Read(encoded, limits);
        if (header.Missing is { } missing)
        {
            throw Unreadable(header, missing);
        }

        fixed (byte* bytes = encoded)
        {
            using var data = SKData.Create((nint)bytes, encoded.Length);
            using var codec = SKCodec.Create(data) ?? throw Unreadable(header, "its header can't be read");
            if ((codec.Info.Width, codec.Info.Height) != (header.Width, header.Height) || codec.FrameCount > 1)
            {
                throw Unreadable(header, "its parts contradict each other");
            }

            // Without a colour space nothing is converted, as in Pillow.
            var alpha = codec.Info.AlphaType == SKAlphaType.Opaque ? SKAlphaType.Opaque : SKAlphaType.Unpremul;
            var info = new SKImageInfo(header.Width, header.Height, SKColorType.Rgba8888, alpha, colorspace: null);
            var memory = MemoryPool<byte>.Shared.Rent(4 * header.Width * header.Height);
            try
            {
                using var pinned = memory.Memory.Pin();
                var result = codec.GetPixels(info, (nint)pinned.Pointer);
                return result switch
                {
                    SKCodecResult.Success => new Decoded(memory, header.Width, header.Height, header.Format == FrameFormat.Png ? header.PngOrientation : codec.EncodedOrigin),
                    SKCodecResult.IncompleteInput => throw Unreadable(header, "it is cut short"),
                    _ => throw Unreadable(header, $"it is broken ({result})"),
                };
            }
            catch
            {
                memory.Dispose();
                throw;
            }
        }
    }

    private static FrameException Unreadable(FrameHeader header, string why) =>
        FrameException.Unreadable($"the {header.Format} of {header.Width}x{header.Height} pixels can't be decoded: {why}; send the file as the camera wrote it");
}

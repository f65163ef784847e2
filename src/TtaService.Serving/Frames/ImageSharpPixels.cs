using System.Buffers;
using SixLabors.ImageSharp;
using SixLabors.ImageSharp.Formats;
using SixLabors.ImageSharp.Formats.Bmp;
using SixLabors.ImageSharp.Formats.Jpeg;
using SixLabors.ImageSharp.Formats.Png;
using SixLabors.ImageSharp.Formats.Tiff;
using SixLabors.ImageSharp.Formats.Webp;
using SixLabors.ImageSharp.Memory;
using SixLabors.ImageSharp.Metadata;
using SixLabors.ImageSharp.PixelFormats;

namespace TtaService.Serving.Frames;

/// <summary>Decodes JPEG, PNG, WebP, BMP and TIFF through ImageSharp: managed code only.</summary>
internal static class ImageSharpPixels
{
    // A pixel takes 16 bytes at most on its way, of the largest frame that the limits' range allows.
    private const int LargestAllocationMegabytes = 4096;
    private const int PoolMegabytes = 128;

    // In the header chunk, behind the signature, its length and name, width and height.
    private const int PngBitDepth = 24;

    private static readonly Configuration Settings = new()
    {
        MaxDegreeOfParallelism = 1,
        MemoryAllocator = MemoryAllocator.Create(new MemoryAllocatorOptions { AllocationLimitMegabytes = LargestAllocationMegabytes, MaximumPoolSizeMegabytes = PoolMegabytes }),
    };

    public static FrameDecoder.Decoded Decode(ReadOnlySpan<byte> encoded, FrameHeader header, FrameOptions limits, string? damage)
    {
        var decoded = new FrameDecoder.Decoded(
            MemoryPool<byte>.Shared.Rent(4 * header.Width * header.Height),
            header.Width,
            header.Height,
            header.Orientation,
            (header.Width, header.Height),
            damage);
        try
        {
            if (IsDeepPng(encoded, header))
            {
                using var deep = Load<Rgba64>(encoded, header);
                TakeHighBytes(deep, decoded.Pixels);
            }
            else
            {
                using var image = Load<Rgba32>(encoded, header);
                image.CopyPixelDataTo(decoded.Pixels);
                ChromaInterpolation.Apply(decoded.Pixels, header.Width, header.Height, header.ChromaBlock);
            }

            return decoded;
        }
        catch
        {
            decoded.Dispose();
            throw;
        }
    }

    private static bool IsDeepPng(ReadOnlySpan<byte> encoded, FrameHeader header) => header.Format == FrameFormat.Png && encoded[PngBitDepth] == 16;

    // Pillow and Skia cut 16 bits to 8 where ImageSharp rounds.
    private static void TakeHighBytes(Image<Rgba64> image, Span<byte> pixels)
    {
        for (var y = 0; y < image.Height; y++)
        {
            for (var x = 0; x < image.Width; x++)
            {
                var (pixel, at) = (image[x, y], 4 * ((y * image.Width) + x));
                pixels[at] = (byte)(pixel.R >> 8);
                pixels[at + 1] = (byte)(pixel.G >> 8);
                pixels[at + 2] = (byte)(pixel.B >> 8);
                pixels[at + 3] = (byte)(pixel.A >> 8);
            }
        }
    }

    // Of hostile files it throws what its code happens to meet; none of that may reach others.
    private static Image<TPixel> Load<TPixel>(ReadOnlySpan<byte> encoded, FrameHeader header)
        where TPixel : unmanaged, IPixel<TPixel>
    {
        Image<TPixel> image;
        try
        {
            image = Image.Load<TPixel>(Settings, encoded, DecoderOf(header.Format));
        }
        catch (Exception broken) when (broken is not OutOfMemoryException)
        {
            throw FrameDecoder.Unreadable(header, broken is ImageFormatException or NotSupportedException ? $"it is broken or of a rare kind ({broken.Message})" : "it is broken");
        }

        if ((image.Width, image.Height) == (header.Width, header.Height))
        {
            return image;
        }

        image.Dispose();
        throw FrameDecoder.Unreadable(header, "its parts contradict each other");
    }

    private static IImageDecoder DecoderOf(FrameFormat format) => format switch
    {
        FrameFormat.Jpeg => new JpegDecoder { IgnoreMetadata = true },
        FrameFormat.Png => new PngDecoder { IgnoreMetadata = true },
        FrameFormat.WebP => new WebpDecoder { IgnoreMetadata = true },
        FrameFormat.Bmp => new BmpDecoder(),
        _ => new TiffDecoder { IgnoreMetadata = true, DecodingMode = FrameDecodingMode.First },
    };
}

using SkiaSharp;

namespace TtaService.Serving.Frames;

/// <summary>Finds the orientation in EXIF data, which are a TIFF file's first directory (tag 274).</summary>
internal static class ExifOrientation
{
    /// <summary>What begins a JPEG segment that holds EXIF data. Some writers put it into PNG's and WebP's chunks, too.</summary>
    public static ReadOnlySpan<byte> Prefix => "Exif\0\0"u8;

    /// <summary>The orientation, upright when the data have none or are broken.</summary>
    public static SKEncodedOrigin Read(ReadOnlySpan<byte> exif) =>
        TiffDirectory.TryOpen(exif.StartsWith(Prefix) ? exif[Prefix.Length..] : exif, out var directory) ? Of(directory) : SKEncodedOrigin.TopLeft;

    /// <summary>The orientation that a directory names.</summary>
    public static SKEncodedOrigin Of(TiffDirectory directory) =>
        directory.Number(TiffDirectory.Orientation) is >= 1 and <= 8 and var origin ? (SKEncodedOrigin)(int)origin : SKEncodedOrigin.TopLeft;
}

namespace TtaService.Serving.Frames;

/// <summary>What a TIFF file's directory tells of its picture, without decoding.</summary>
internal static class TiffHeader
{
    /// <exception cref="FrameException">Cut short, without a picture, or of several pages.</exception>
    public static FrameHeader Read(ReadOnlySpan<byte> image)
    {
        if (!TiffDirectory.TryOpen(image, out var directory))
        {
            throw FrameException.Unreadable("the TIFF is cut short; send the whole file");
        }

        if (!directory.IsLast)
        {
            throw FrameException.Unreadable("the TIFF has several pages; send one frame at a time");
        }

        if (directory.Number(TiffDirectory.ImageWidth) is not { } width || directory.Number(TiffDirectory.ImageLength) is not { } height)
        {
            throw FrameException.Unreadable("the TIFF's directory does not say the size of a picture; send the whole file");
        }

        var fits = directory.PartsFit(TiffDirectory.StripOffsets, TiffDirectory.StripByteCounts)
            ?? directory.PartsFit(TiffDirectory.TileOffsets, TiffDirectory.TileByteCounts)
            ?? throw FrameException.Unreadable("the TIFF's directory does not say where its picture is; send the whole file");
        return new FrameHeader(FrameFormat.Tiff, (int)Math.Min(width, int.MaxValue), (int)Math.Min(height, int.MaxValue))
        {
            Missing = fits ? null : "parts of its picture lie outside of the file",
            Orientation = ExifOrientation.Of(directory),
        };
    }
}

#pragma warning disable CA1822
using SkiaSharp;
namespace TtaService.Host.Frames;
internal sealed class FrameException(string reason, string message) : Exception(message) { public string Reason { get; } = reason; }
internal sealed class FramePipeline
{
    public long FrameBytes => Channels * Height * Width;
    public int Channels { get; } = 3;
    public int Height { get; } = 16;
    public int Width { get; } = 16;
    public void DecodeEncoded(ReadOnlySpan<byte> encoded, Span<byte> chw)
    {
        if (encoded.Length > 8 << 20) { throw new FrameException("FRAME_TOO_LARGE", $"frame has {encoded.Length} bytes, limit {8 << 20} (Frames:MaxBytes); send a smaller frame"); }
        using var data = SKData.CreateCopy(encoded);
        using var codec = SKCodec.Create(data) ?? throw new FrameException("FRAME_UNREADABLE", "not a JPEG, PNG or WebP");
        if ((long)codec.Info.Width * codec.Info.Height > 8294400) { throw new FrameException("FRAME_TOO_LARGE", "pixels"); }
        using var bmp = new SKBitmap(new SKImageInfo(codec.Info.Width, codec.Info.Height, SKColorType.Rgba8888));
        if (codec.GetPixels(bmp.Info, bmp.GetPixels()) != SKCodecResult.Success) { throw new FrameException("FRAME_UNREADABLE", "cut short"); }
        for (var y = 0; y < 16; y++) { for (var x = 0; x < 16; x++) { var c = bmp.GetPixel(x * bmp.Width / 16, y * bmp.Height / 16); var o = (y * 16) + x; chw[o] = c.Red; chw[o + 256] = c.Green; chw[o + 512] = c.Blue; } }
    }
    public void DecodeRaw(ReadOnlySpan<byte> pixels, int width, int height, int stride, int channels, Span<byte> chw)
    {
        for (var y = 0; y < 16; y++) { for (var x = 0; x < 16; x++) { var o = (y * 16) + x; for (var c = 0; c < 3; c++) { chw[o + (256 * c)] = pixels[(y * height / 16 * stride) + (x * width / 16 * channels) + (channels == 1 ? 0 : c)]; } } }
    }
}

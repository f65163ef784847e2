using System.ComponentModel.DataAnnotations;

namespace TtaService.Serving.Frames;

/// <summary>What an image frame may be, section <c>Frames</c>. Checked on the header, before native code sees the file.</summary>
public sealed class FrameOptions
{
    /// <summary>Bytes of an encoded frame. Default 8 MiB: a PNG of 1920x1080 with camera noise has about 5.</summary>
    [Range(1024, 1 << 30)]
    public int MaxBytes { get; set; } = 8 << 20;

    /// <summary>Pixels of a frame. Default 8,294,400: 3840x2160.</summary>
    [Range(1, 1 << 28)]
    public int MaxPixels { get; set; } = 3840 * 2160;

    /// <summary>Longest side in pixels. Default 8,192.</summary>
    [Range(1, 65_535)]
    public int MaxSide { get; set; } = 8192;

    /// <summary>Scans of a progressive JPEG. Default 32: encoders write 10; thousands of empty ones are an attack on the decoder's time.</summary>
    [Range(1, 100)]
    public int MaxScans { get; set; } = 32;

    /// <summary>Segments of a JPEG, chunks of a PNG or WebP. Default 4,096: a PNG of <see cref="MaxBytes"/> in chunks of 2 KiB; decoders keep each of them, also the empty ones.</summary>
    [Range(16, 1 << 20)]
    public int MaxSegments { get; set; } = 4096;
}

using System.ComponentModel.DataAnnotations;

namespace TtaService.Serving.Frames;

/// <summary>What becomes of a frame whose file is damaged and can be decoded all the same.</summary>
public enum DamagedFrames
{
    /// <summary>It is an error. An answer from invented pixels looks like any other to a client that does not read why a frame was not learned.</summary>
    Refuse,

    /// <summary>It is answered and never learned.</summary>
    Answer,
}

/// <summary>Kinds of frames without a picture.</summary>
[Flags]
public enum UnlearnedFrames
{
    /// <summary>Every frame is learned.</summary>
    None = 0,

    /// <summary>White, black or grey all over, with or without noise.</summary>
    Blank = 1,

    /// <summary>The same as the frame before, to the last bit.</summary>
    Frozen = 2,

    /// <summary>Black or white nearly all over.</summary>
    Saturated = 4,

    /// <summary>One colour all over.</summary>
    SingleColor = 8,

    /// <summary>Bars, ramps, and slates of which a clock moves.</summary>
    TestPattern = 16,

    /// <summary>All of these.</summary>
    All = Blank | Frozen | Saturated | SingleColor | TestPattern,
}

/// <summary>Libraries that decode image files.</summary>
public enum FrameLibrary
{
    /// <summary>SkiaSharp: native code; JPEG, PNG and WebP with Pillow's pixels.</summary>
    Skia,

    /// <summary>SixLabors.ImageSharp: managed code only; BMP and TIFF besides.</summary>
    ImageSharp,
}

/// <summary>What an image frame may be, and what is learned from it, section <c>Frames</c>. Limits are checked on the header, before native code sees the file.</summary>
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

    /// <summary>Segments of a JPEG, chunks of a PNG or WebP. Default 4,096: a PNG of <see cref="MaxBytes"/> in chunks of 2 KiB; decoders keep each of them, also the empty
    /// ones.</summary>
    [Range(16, 1 << 20)]
    public int MaxSegments { get; set; } = 4096;

    /// <summary>What decodes image files. Default skia; imagesharp lets no native code see them, takes longer, and reads BMP and TIFF, too.</summary>
    public FrameLibrary Decoder { get; set; } = FrameLibrary.Skia;

    /// <summary>What becomes of a JPEG, PNG or WebP that is cut short or corrupt. Default refuse. A JPEG that lacks only its end marker is whole.</summary>
    public DamagedFrames Damaged { get; set; } = DamagedFrames.Refuse;

    /// <summary>Decode a JPEG at the smallest of 1/8, 1/4 and 1/2 of its size that is not under what the model takes. Default false: it changes the pixels.
    /// By <see cref="FrameLibrary.Skia"/> only.</summary>
    public bool FastDecode { get; set; }

    /// <summary>Frames that are answered and not learned, because there is no picture in them. Default All.</summary>
    public UnlearnedFrames NotLearned { get; set; } = UnlearnedFrames.All;
}

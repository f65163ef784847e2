using TtaService.Serving.Streams;

namespace TtaService.Serving.Front;

/// <summary>What a frame was sent as.</summary>
public enum FrameKind
{
    /// <summary>Nothing; refused.</summary>
    None,

    /// <summary>A JPEG, PNG or WebP file.</summary>
    Encoded,

    /// <summary>Uncompressed pixels.</summary>
    Raw,

    /// <summary>Preprocessed float32 values.</summary>
    Tensor,
}

/// <summary>The layout of raw pixels. A protocol passes on what it was sent, also what does not exist.</summary>
public enum PixelFormat
{
    /// <summary>Not said; refused.</summary>
    Unspecified,

    /// <summary>Three bytes a pixel: red, green, blue.</summary>
    Rgb8,

    /// <summary>One byte a pixel.</summary>
    Gray8,
}

/// <summary>A frame as a client sent it. The bytes stay the protocol's and must not change until the step has its outcome.</summary>
public readonly record struct SentFrame
{
    /// <summary>What it was sent as.</summary>
    public FrameKind Kind { get; private init; }

    /// <summary>The file, the pixels row by row, or the values as little-endian float32.</summary>
    public ReadOnlyMemory<byte> Data { get; private init; }

    /// <summary>Of raw pixels.</summary>
    public PixelFormat Format { get; private init; }

    /// <summary>Of raw pixels.</summary>
    public int Width { get; private init; }

    /// <summary>Of raw pixels.</summary>
    public int Height { get; private init; }

    /// <summary>Of raw pixels: bytes from one row to the next, 0 for packed rows.</summary>
    public int Stride { get; private init; }

    /// <summary>Of a tensor: [C,H,W]. Null otherwise.</summary>
    public IReadOnlyList<int>? Shape { get; private init; }

    /// <summary>A JPEG, PNG or WebP file.</summary>
    public static SentFrame Encoded(ReadOnlyMemory<byte> file) => new() { Kind = FrameKind.Encoded, Data = file };

    /// <summary>Uncompressed pixels.</summary>
    /// <param name="pixels">Row by row.</param>
    /// <param name="format">Their layout.</param>
    /// <param name="width">Pixels of a row.</param>
    /// <param name="height">Rows.</param>
    /// <param name="stride">Bytes from one row to the next; 0 for packed rows.</param>
    public static SentFrame Raw(ReadOnlyMemory<byte> pixels, PixelFormat format, int width, int height, int stride) =>
        new() { Kind = FrameKind.Raw, Data = pixels, Format = format, Width = width, Height = height, Stride = stride };

    /// <summary>Values that are used as they are.</summary>
    /// <param name="values">Little-endian float32.</param>
    /// <param name="shape">[C,H,W].</param>
    public static SentFrame Tensor(ReadOnlyMemory<byte> values, IReadOnlyList<int> shape) => new() { Kind = FrameKind.Tensor, Data = values, Shape = shape };

    /// <summary>A frame of a step, for refusals.</summary>
    internal static string Field(int index) => $"step.frames[{index}]";
}

/// <summary>A step as a client sent it. Nothing of it is checked yet.</summary>
public sealed record SentStep
{
    /// <summary>The client's number; 0 for none.</summary>
    public ulong Sequence { get; init; }

    /// <summary>They are normalized together and update the stream once.</summary>
    public required IReadOnlyList<SentFrame> Frames { get; init; }

    /// <summary>Overrides the stream's setting; null keeps it.</summary>
    public bool? Freeze { get; init; }

    /// <summary>Seconds from the submission; a step that has not begun by then never runs. Null for no limit.</summary>
    public double? Timeout { get; init; }

    /// <summary>What the answer is to carry.</summary>
    public ReplyContent Content { get; init; } = new(ReplyContent.DefaultTopK, RawOutputs: false);

    /// <summary>Takes the step back while it has not begun.</summary>
    public CancellationToken Cancel { get; init; }

    /// <summary>Called once the step's bytes are counted by the batcher, so that the protocol need not count them any more.</summary>
    public Action? Admitted { get; init; }
}

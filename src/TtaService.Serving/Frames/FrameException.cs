namespace TtaService.Serving.Frames;

/// <summary>A frame that is not taken: its sender's mistake.</summary>
internal sealed class FrameException(string reason, string message) : Exception(message)
{
    /// <summary>For programs: FRAME_TOO_LARGE, FRAME_TOO_SMALL, FRAME_UNREADABLE, FRAME_FORMAT_UNKNOWN, RAW_SIZE_WRONG.</summary>
    public string Reason { get; } = reason;

    public static FrameException TooLarge(string message) => new("FRAME_TOO_LARGE", message);

    public static FrameException Unreadable(string message) => new("FRAME_UNREADABLE", message);
}

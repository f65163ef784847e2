namespace TtaService.Engine.Answers;

/// <summary>How a frame lies in the model's input: x of the input is x of the frame * <paramref name="ScaleX"/> + <paramref name="OffsetX"/>,
/// and so is y; pixel edges, not centres.</summary>
/// <param name="Width">Of the frame, in pixels.</param>
/// <param name="Height">Of the frame, in pixels.</param>
/// <param name="ScaleX">Input pixels a frame pixel.</param>
/// <param name="ScaleY">Input pixels a frame pixel.</param>
/// <param name="OffsetX">Of the frame's left edge in the input; negative where the input shows its centre only.</param>
/// <param name="OffsetY">Of the frame's upper edge in the input.</param>
public readonly record struct FramePlacement(int Width, int Height, double ScaleX, double ScaleY, double OffsetX, double OffsetY)
{
    /// <summary>A frame that is the input.</summary>
    public static FramePlacement Identity(int width, int height) => new(width, height, 1, 1, 0, 0);

    /// <summary>A point of the input in the frame's pixels, moved to its border where it lies outside.</summary>
    public (float X, float Y) ToFrame(double x, double y) =>
        ((float)Math.Clamp((x - OffsetX) / ScaleX, 0, Width), (float)Math.Clamp((y - OffsetY) / ScaleY, 0, Height));
}

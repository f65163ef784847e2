namespace TtaService.Evaluation;

/// <summary>8-bit pixels.</summary>
/// <param name="Height">Rows.</param>
/// <param name="Width">Pixels in a row.</param>
/// <param name="Channels">1 (grey) or 3 (red, green, blue).</param>
/// <param name="Pixels">[Height,Width,Channels], row-major.</param>
public sealed record Image(int Height, int Width, int Channels, byte[] Pixels);

namespace TtaService.Serving.Frames;

/// <summary>Pillow's resampling filters.</summary>
internal enum Interpolation
{
    Nearest,
    Box,
    Bilinear,
    Bicubic,
    Lanczos,
}

using TtaService.Engine.Normalization;
using static TorchSharp.torch;

namespace TtaService.Engine.Onnx;

/// <summary>What the graph fuses behind a normalization: y = clamp(norm(x) + residual, Minimum, Maximum).</summary>
/// <param name="Minimum">Lower bound; negative infinity when there is none. ReLU is 0.</param>
/// <param name="Maximum">Upper bound; positive infinity when there is none. ReLU6 is 6.</param>
internal readonly record struct Epilogue(float Minimum, float Maximum)
{
    public static readonly Epilogue None = new(float.NegativeInfinity, float.PositiveInfinity);
    public static readonly Epilogue Relu = new(0, float.PositiveInfinity);
    public bool Clamps => !float.IsNegativeInfinity(Minimum) || !float.IsPositiveInfinity(Maximum);
}

/// <summary>Normalizes the input of a site during a forward pass.</summary>
internal interface ISiteNormalizer
{
    /// <summary>Returns the normalized tensor, of x's shape. It may be x itself, overwritten, when <paramref name="mayOverwrite"/> says that nobody reads x later.</summary>
    /// <param name="site">The site.</param>
    /// <param name="x">[B,C] or [B,C,...], float32.</param>
    /// <param name="mayOverwrite">True when x dies here.</param>
    /// <param name="residual">Added before the clamp; of x's shape; null when the graph has none.</param>
    /// <param name="epilogue">The clamp.</param>
    Tensor Normalize(NormalizationSite site, Tensor x, bool mayOverwrite, Tensor? residual, Epilogue epilogue);
}

namespace TtaService.Engine.Normalization;

/// <summary>One BatchNormalization node of a model: the place where a method decides which statistics normalize a frame.</summary>
/// <param name="Index">Position in execution order, from 0.</param>
/// <param name="Name">The node's weight initializer without the suffix (<c>layer1.0.bn1</c>).</param>
/// <param name="Epsilon">Added to the variance inside the square root.</param>
/// <param name="Momentum">PyTorch's convention: the weight of new statistics (ONNX stores one minus it). Published default 0.1.</param>
/// <param name="Weight">Scale (gamma), [C].</param>
/// <param name="Bias">Shift (beta), [C].</param>
/// <param name="Mean">Source mean, [C].</param>
/// <param name="Variance">Source variance, [C].</param>
public sealed record NormalizationSite(
    int Index,
    string Name,
    float Epsilon,
    float Momentum,
    float[] Weight,
    float[] Bias,
    float[] Mean,
    float[] Variance)
{
    /// <summary>Number of channels C.</summary>
    public int Channels => Weight.Length;
}

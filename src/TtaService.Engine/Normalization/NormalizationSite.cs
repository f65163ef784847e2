using System.Numerics.Tensors;

namespace TtaService.Engine.Normalization;

/// <summary>A place in a model where a channel-wise affine map of statistics is swapped: where a method decides which statistics normalize a frame.</summary>
/// <param name="Index">Position in execution order, from 0.</param>
/// <param name="Name">Of a BatchNormalization node its weight initializer without the suffix (<c>layer1.0.bn1</c>); of a virtual site that of its convolution or sum.</param>
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
    // BatchNormalization's own epsilon, but in units of what the site sees: a convolution's output has any scale.
    private const float RelativeEpsilon = 1e-5f;
    private const float LeastEpsilon = 1e-12f;

    /// <summary>Number of channels C.</summary>
    public int Channels => Weight.Length;

    /// <summary>What of the graph it is.</summary>
    public SiteKind Kind { get; init; }

    /// <summary>Of a virtual site: whether no BatchNormalization was ever there, since the network normalizes otherwise.</summary>
    internal bool IsFeature { get; init; }

    /// <summary>Whether the graph has its channels on the last axis ([B,N,C], [B,H,W,C]); a pass shows them on the second in any case.</summary>
    internal bool ChannelsLast { get; init; }

    /// <summary>Of a virtual site its convolution's own bias, [C], into which BatchNormalization's mean was folded, 0 where it has none; empty of another.</summary>
    public float[] Origin { get; init; } = [];

    /// <summary>A virtual site: (y - m) / s * s_source + m_source, the identity where a stream's statistics are the source's.</summary>
    /// <param name="index">Position in execution order.</param>
    /// <param name="name">The convolution's name.</param>
    /// <param name="mean">m_source, [C].</param>
    /// <param name="variance">s_source squared, [C].</param>
    /// <param name="origin">The convolution's own bias, [C].</param>
    internal static NormalizationSite Virtual(int index, string name, float[] mean, float[] variance, float[] origin)
    {
        var epsilon = MathF.Max(LeastEpsilon, RelativeEpsilon * TensorPrimitives.Average<float>(variance));
        // Summed and rooted as the kernels do, so that the scale at the source is exactly 1.
        var deviation = Array.ConvertAll(variance, value => MathF.Sqrt(value + epsilon));
        return new NormalizationSite(index, name, epsilon, 0.1f, deviation, mean, mean, variance) { Kind = SiteKind.Virtual, Origin = origin };
    }
}

/// <summary>What of a graph a site is.</summary>
public enum SiteKind
{
    /// <summary>A BatchNormalization node.</summary>
    BatchNorm,

    /// <summary>The output of a convolution, its BatchNormalization folded away or never there, or of a residual block of a network that normalizes otherwise; its source
    /// statistics come from a calibration.</summary>
    Virtual,
}

using System.Diagnostics.CodeAnalysis;
using TorchSharp;
using static TorchSharp.torch;

namespace TtaService.Engine.Tensors;

/// <summary>The matrix product. TorchSharp's own lets torch's error about shapes out as a C++ exception that nobody catches, which ends the process; so shapes are
/// checked before it.</summary>
public static class MatrixProduct
{
    /// <summary>As NumPy's matmul: the last two axes are matrices, those before them are broadcast, a tensor of one axis is a row or a column.</summary>
    /// <param name="left">[..., n, k], or [k].</param>
    /// <param name="right">[..., k, m], or [k].</param>
    /// <returns>[..., n, m].</returns>
    /// <exception cref="ArgumentException">The tensors do not fit each other.</exception>
    [SuppressMessage("ApiDesign", "RS0030:Do not use banned APIs", Justification = "Guarded here, and here only.")]
    public static Tensor Of(Tensor left, Tensor right) => WhyNot(left.shape, right.shape, left.dtype, right.dtype) is { } reason
        ? throw new ArgumentException($"matrices of shapes [{string.Join(',', left.shape)}] and [{string.Join(',', right.shape)}] can't be multiplied: {reason}")
        : matmul(left, right);

    private static string? WhyNot(long[] left, long[] right, ScalarType leftType, ScalarType rightType)
    {
        if (leftType != rightType)
        {
            return $"one is {leftType}, the other {rightType}";
        }

        if (left.Length == 0 || right.Length == 0)
        {
            return "a single number is no matrix";
        }

        if (left[^1] != (right.Length == 1 ? right[0] : right[^2]))
        {
            return "the first has not as many columns as the second has rows";
        }

        for (var axis = 3; axis <= Math.Min(left.Length, right.Length); axis++)
        {
            if (left[^axis] != right[^axis] && left[^axis] != 1 && right[^axis] != 1)
            {
                return "the axes before the matrices differ";
            }
        }

        return null;
    }
}

using TorchSharp;
using TtaService.Engine.Tensors;
using static TorchSharp.torch;

namespace TtaService.Engine.Onnx.Operators;

/// <summary>Gemm, MatMul and Einsum.</summary>
internal static class Linear
{
    public static IEnumerable<Operator> All { get; } =
    [
        new("MatMul", [], _ => inputs => [MatrixProduct.Of(inputs[0]!, inputs[1]!)]),
        new("Einsum", ["equation"], node =>
        {
            var equation = node.Text("equation", "");
            return inputs => [einsum(equation, inputs!)];
        }),
        new("Gemm", ["alpha", "beta", "transA", "transB"], node =>
        {
            var (alpha, beta) = (node.Float("alpha", 1), node.Float("beta", 1));
            var (transA, transB) = (node.Int("transA", 0) != 0, node.Int("transB", 0) != 0);
            return inputs =>
            {
                using var a = transA ? inputs[0]!.t() : inputs[0]!.alias();
                using var b = transB ? inputs[1]!.t() : inputs[1]!.alias();
                return [inputs.Length > 2 && inputs[2] is { } c ? addmm(c, a, b, beta, alpha) : alpha == 1 ? mm(a, b) : mm(a, b).MultiplyInPlace(alpha)];
            };
        }),
    ];
}

using TtaService.Engine.Onnx.Wire;

namespace TtaService.Engine.Onnx.Compiling;

/// <summary>Knows the operators whose results never share memory with an input.</summary>
internal static class MemoryMakers
{
    // All others count as views: most are (Slice, Reshape, Transpose, Identity, Expand, Split), the rest can be (Clip without bounds, Cast to the same type).
    private static readonly HashSet<string> Makers =
    [
        "Conv", "ConvTranspose", "QuantizeLinear", "DequantizeLinear", "Gemm", "MatMul", "Concat", "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool",
        "Relu", "LeakyRelu", "Elu", "Sigmoid", "HardSigmoid", "HardSwish", "Tanh", "Erf", "Exp", "Sqrt", "Neg", "Add", "Sub", "Mul", "Div",
    ];

    /// <summary>Whether a node's results lie in memory of their own.</summary>
    // A concatenation of one tensor is that tensor.
    public static bool Include(NodeProto node) => Makers.Contains(node.OpType) && (node.OpType != "Concat" || node.Input.Count > 1);
}

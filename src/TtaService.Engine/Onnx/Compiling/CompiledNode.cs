using TtaService.Engine.Normalization;
using TtaService.Engine.Onnx.Operators;
using TtaService.Engine.Onnx.Wire;

namespace TtaService.Engine.Onnx.Compiling;

/// <summary>A node that runs with every pass: an operator with its kernel, or a site.</summary>
/// <param name="Proto">Names of what it reads and writes.</param>
/// <param name="View">Attributes and constant inputs; of a virtual site, its convolution's.</param>
/// <param name="Kernel">Null for a site.</param>
/// <param name="Site">Null for an operator.</param>
internal sealed record CompiledNode(NodeProto Proto, Node View, Kernel? Kernel, NormalizationSite? Site)
{
    /// <summary>How many channels the result has, as far as the weights tell.</summary>
    public static long? Channels(Node producer)
    {
        if (producer.Constant(1)?.shape is not { Length: >= 2 } weight)
        {
            return null;
        }

        return producer.Type switch
        {
            "Conv" => weight[0],
            "ConvTranspose" => weight[1] * producer.Int("group", 1),
            "Gemm" => producer.Int("transB", 0) != 0 ? weight[0] : weight[1],
            _ => null,
        };
    }
}

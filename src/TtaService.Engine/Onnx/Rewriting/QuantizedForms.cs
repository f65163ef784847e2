using TtaService.Engine.Onnx.Wire;
using DataType = TtaService.Engine.Onnx.Wire.TensorProto.Types.DataType;

namespace TtaService.Engine.Onnx.Rewriting;

/// <summary>Layers on quantized values (QLinearConv, MatMulInteger, …, and what ONNX Runtime's optimizer makes in its own domain) as DequantizeLinear, the layer in floating
/// point, and QuantizeLinear.</summary>
/// <remarks>Weights are dequantized at load. A sum of products of 8-bit integers is exact in float32 up to 2^24 and off by less than 1e-6 of it beyond: within one quantization
/// step.</remarks>
internal sealed class QuantizedForms
{
    private readonly Dictionary<string, DataType> _types = new(StringComparer.Ordinal);
    private readonly List<NodeProto> _nodes = [];

    public QuantizedForms(GraphProto graph) => FindTypes(graph);

    /// <summary>Expands in a graph and its subgraphs.</summary>
    public void Expand(GraphProto graph)
    {
        foreach (var node in graph.Node)
        {
            foreach (var subgraph in GraphRewriter.Subgraphs(node))
            {
                new QuantizedForms(_types).Expand(subgraph);
            }

            Expand(node);
        }

        graph.Node.Clear();
        graph.Node.Add(_nodes);
        _nodes.Clear();
    }

    private QuantizedForms(Dictionary<string, DataType> types) => _types = types;

    // Integers are of one type once they are read; what saturates needs the declared one.
    private void FindTypes(GraphProto graph)
    {
        foreach (var input in graph.Input.Where(input => input.Type?.TensorType is not null))
        {
            _types[input.Name] = (DataType)input.Type.TensorType.ElemType;
        }

        foreach (var initializer in graph.Initializer)
        {
            _types[initializer.Name] = (DataType)initializer.DataType;
        }

        foreach (var node in graph.Node)
        {
            foreach (var subgraph in GraphRewriter.Subgraphs(node))
            {
                FindTypes(subgraph);
            }

            DataType? type = node.OpType switch
            {
                "Constant" => (DataType?)Attribute(node, "value")?.T?.DataType,
                "Cast" => (DataType?)Attribute(node, "to")?.I,
                "Identity" or "Reshape" or "Squeeze" or "Unsqueeze" when node.Input.Count > 0 && _types.TryGetValue(node.Input[0], out var same) => same,
                _ => null,
            };
            if (type is { } known && node.Output.Count > 0)
            {
                _types[node.Output[0]] = known;
            }
        }
    }

    private void Expand(NodeProto node)
    {
        switch (node.Domain, node.OpType)
        {
            case ("" or "ai.onnx" or "com.microsoft", "QuantizeLinear"):
                node.Domain = string.Empty;
                if (Attribute(node, "output_dtype") is null or { I: 0 } && In(node, 2) is { Length: > 0 } zero && _types.TryGetValue(zero, out var type))
                {
                    node.Attribute.Add(new AttributeProto { Name = "output_dtype", I = (long)type });
                }

                _nodes.Add(node);
                return;
            case ("com.microsoft", "DequantizeLinear"):
                node.Domain = string.Empty;
                _nodes.Add(node);
                return;
            case ("" or "ai.onnx" or "com.microsoft", "QLinearConv"):
                QLinearConv(node);
                return;
            case ("" or "ai.onnx", "ConvInteger"):
                Layer(node, "Conv", [Dequantize(node, 0, One(node), In(node, 2), 1), Dequantize(node, 1, One(node), In(node, 3), 0)], node.Attribute, node.Output[0]);
                return;
            case ("" or "ai.onnx", "QLinearMatMul"):
                Quantize(node, Layer(node, "MatMul", [Dequantize(node, 0, In(node, 1), In(node, 2), -2), Dequantize(node, 3, In(node, 4), In(node, 5), -1)], []), 6, 7);
                return;
            case ("" or "ai.onnx", "MatMulInteger"):
                Layer(node, "MatMul", [Dequantize(node, 0, One(node), In(node, 2), -2), Dequantize(node, 1, One(node), In(node, 3), -1)], [], node.Output[0]);
                return;
            case ("com.microsoft", "QLinearAdd" or "QLinearMul"):
                Quantize(
                    node,
                    Layer(node, node.OpType["QLinear".Length..], [Dequantize(node, 0, In(node, 1), In(node, 2), 1), Dequantize(node, 3, In(node, 4), In(node, 5), 1)], []),
                    6,
                    7);
                return;
            case ("com.microsoft", "QLinearSigmoid" or "QLinearLeakyRelu" or "QLinearSoftmax" or "QLinearAveragePool" or "QLinearGlobalAveragePool")
                when Attribute(node, "channels_last") is null or { I: 0 }:
                Quantize(
                    node,
                    Layer(
                        node,
                        node.OpType["QLinear".Length..],
                        [Dequantize(node, 0, In(node, 1), In(node, 2), 1)],
                        node.Attribute.Where(attribute => attribute.Name is not ("channels_last" or "opset"))),
                    3,
                    4);
                return;
            case ("com.microsoft", "QLinearConcat"):
                var parts = Enumerable.Range(0, (node.Input.Count - 2) / 3).Select(i => Dequantize(node, (3 * i) + 2, In(node, (3 * i) + 3), In(node, (3 * i) + 4), 1)).ToArray();
                Quantize(node, Layer(node, "Concat", parts, node.Attribute), 0, 1);
                return;
            case ("com.microsoft", "QGemm"):
                QGemm(node);
                return;
            case ("com.microsoft", "MatMulIntegerToFloat"):
                Biased(node, Layer(node, "MatMul", [Dequantize(node, 0, In(node, 2), In(node, 4), -2), Dequantize(node, 1, In(node, 3), In(node, 5), -1)], []), 6);
                return;
            case ("com.microsoft", "FusedConv"):
                FusedConv(node);
                return;
            case ("com.microsoft", "Gelu"):
                Layer(node, "Gelu", [In(node, 0)], [], node.Output[0]);
                return;
            default:
                _nodes.Add(node);
                return;
        }
    }

    private void QLinearConv(NodeProto node)
    {
        List<string> inputs = [Dequantize(node, 0, In(node, 1), In(node, 2), 1), Dequantize(node, 3, In(node, 4), In(node, 5), 0)];
        if (In(node, 8).Length > 0)
        {
            inputs.Add(Dequantize(node, 8, Layer(node, "Mul", [In(node, 1), In(node, 4)], []), string.Empty, 0));
        }

        Quantize(node, Layer(node, "Conv", [.. inputs], node.Attribute.Where(attribute => attribute.Name != "channels_last" || attribute.I != 0)), 6, 7);
    }

    private void QGemm(NodeProto node)
    {
        var transposed = Attribute(node, "transB") is { I: not 0 };
        List<string> inputs = [Dequantize(node, 0, In(node, 1), In(node, 2), 0), Dequantize(node, 3, In(node, 4), In(node, 5), transposed ? 0 : 1)];
        if (In(node, 6).Length > 0)
        {
            var scale = Layer(node, "Mul", [In(node, 1), In(node, 4)], []);
            inputs.Add(Dequantize(node, 6, Attribute(node, "alpha") is { F: not 1 } alpha ? Layer(node, "Mul", [scale, Number(node, alpha.F)], []) : scale, string.Empty, -1));
        }

        if (In(node, 7).Length == 0)
        {
            Layer(node, "Gemm", [.. inputs], node.Attribute, node.Output[0]);
            return;
        }

        Quantize(node, Layer(node, "Gemm", [.. inputs], node.Attribute), 7, 8);
    }

    private void FusedConv(NodeProto node)
    {
        var activation = Attribute(node, "activation")?.S.ToStringUtf8() ?? string.Empty;
        var parameters = Attribute(node, "activation_params")?.Floats.ToArray() ?? [];
        (string Name, int Count, string[] Attributes) known = activation switch
        {
            "" or "Relu" or "Sigmoid" or "Tanh" => (activation, 0, []),
            "LeakyRelu" => (activation, 1, ["alpha"]),
            "HardSigmoid" => (activation, 2, ["alpha", "beta"]),
            "Clip" => (activation, 2, []),
            _ => (string.Empty, -1, []),
        };
        if (known.Count != parameters.Length && known.Count != 0)
        {
            // Refused by its name.
            _nodes.Add(node);
            return;
        }

        var attributes = node.Attribute.Where(attribute => attribute.Name is not ("activation" or "activation_params"));
        var last = activation.Length == 0;
        var y = Layer(
            node,
            "Conv",
            In(node, 2).Length > 0 ? [In(node, 0), In(node, 1), In(node, 2)] : [In(node, 0), In(node, 1)],
            attributes,
            last && In(node, 3).Length == 0 ? node.Output[0] : null);
        if (In(node, 3).Length > 0)
        {
            y = Layer(node, "Add", [y, In(node, 3)], [], last ? node.Output[0] : null);
        }

        if (activation == "Clip")
        {
            Layer(node, "Clip", [y, Number(node, parameters[0]), Number(node, parameters[1])], [], node.Output[0]);
        }
        else if (!last)
        {
            Layer(node, activation, [y], known.Attributes.Select((name, i) => new AttributeProto { Name = name, F = parameters[i] }), node.Output[0]);
        }
    }

    private void Biased(NodeProto node, string product, int bias)
    {
        var given = In(node, bias);
        Layer(node, given.Length > 0 ? "Add" : "Identity", given.Length > 0 ? [product, given] : [product], [], node.Output[0]);
    }

    private string Dequantize(NodeProto node, int input, string scale, string zeroPoint, long axis) =>
        Layer(node, "DequantizeLinear", zeroPoint.Length > 0 ? [In(node, input), scale, zeroPoint] : [In(node, input), scale], [new AttributeProto { Name = "axis", I = axis }]);

    private void Quantize(NodeProto node, string value, int scale, int zeroPoint)
    {
        var zero = In(node, zeroPoint);
        var type = _types.TryGetValue(zero, out var known) ? known : _types.GetValueOrDefault(In(node, 0), DataType.Uint8);
        Layer(
            node,
            "QuantizeLinear",
            zero.Length > 0 ? [value, In(node, scale), zero] : [value, In(node, scale)],
            [new AttributeProto { Name = "output_dtype", I = (long)type }],
            node.Output[0]);
    }

    private string One(NodeProto node) => Number(node, 1);

    private string Number(NodeProto node, float value) => Layer(node, "Constant", [], [new AttributeProto { Name = "value_float", F = value }]);

    // A node that takes the place of part of another, under its name.
    private string Layer(NodeProto node, string type, string[] inputs, IEnumerable<AttributeProto> attributes, string? output = null)
    {
        var made = new NodeProto { OpType = type, Name = node.Name, Input = { inputs }, Output = { output ?? $"{node.Output[0]}\n{type}\n{_nodes.Count}" } };
        made.Attribute.Add(attributes.Select(attribute => attribute.Clone()));
        _nodes.Add(made);
        return made.Output[0];
    }

    private static string In(NodeProto node, int input) => input < node.Input.Count ? node.Input[input] : string.Empty;

    private static AttributeProto? Attribute(NodeProto node, string name) => node.Attribute.FirstOrDefault(attribute => attribute.Name == name);
}

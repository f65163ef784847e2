using System.Runtime.InteropServices;
using Google.Protobuf;
using Microsoft.ML.OnnxRuntime;
using Microsoft.ML.OnnxRuntime.Tensors;
using TtaService.Engine.Onnx.Wire;
using DataType = TtaService.Engine.Onnx.Wire.TensorProto.Types.DataType;

namespace TtaService.Engine.Tests.Onnx;

/// <summary>How a network is quantized.</summary>
/// <param name="Linear">QLinearConv and its kind, else float layers between QuantizeLinear and DequantizeLinear (QDQ).</param>
/// <param name="PerChannel">A scale for each filter, else one for all weights.</param>
/// <param name="SignedWeights">int8 around 0, else uint8.</param>
/// <param name="SignedActivations">int8, else uint8.</param>
public sealed record Quantizing(bool Linear, bool PerChannel, bool SignedWeights, bool SignedActivations);

/// <summary>A network as ONNX Runtime's static quantizer writes it, with the ranges that its values had on some frames. Knows Conv, Relu, Add, GlobalAveragePool, Flatten
/// and Gemm.</summary>
/// <remarks>Weights have 7 bits: with 8, ONNX Runtime's sums saturate on processors without VNNI.</remarks>
internal sealed class QuantizedModel
{
    private readonly ModelProto _model;
    private readonly GraphProto _graph;
    private readonly Dictionary<string, float[]> _values;
    private readonly Dictionary<string, (float Low, float High)> _ranges;
    private readonly Quantizing _how;
    private readonly List<NodeProto> _nodes = [];
    private readonly Dictionary<string, float> _scales = [];

    private QuantizedModel(ModelProto folded, Dictionary<string, (float Low, float High)> ranges, Quantizing how)
    {
        (_model, _ranges, _how) = (folded.Clone(), ranges, how);
        _graph = _model.Graph;
        _values = _graph.Initializer.ToDictionary(initializer => initializer.Name, initializer => initializer.RawData.Length > 0
            ? MemoryMarshal.Cast<byte, float>(initializer.RawData.Span).ToArray()
            : [.. initializer.FloatData]);
    }

    /// <summary>The network and the step of what is quantized last.</summary>
    public static (ModelProto Model, float Step) Of(ModelProto folded, Dictionary<string, (float Low, float High)> ranges, Quantizing how)
    {
        var made = new QuantizedModel(folded, ranges, how);
        return (made.Write(), made.Scale(how.Linear ? Product(folded.Graph.Output[0].Name) : folded.Graph.Output[0].Name));
    }

    /// <summary>From where to where each value of the network goes on these frames, by ONNX Runtime.</summary>
    public static Dictionary<string, (float Low, float High)> Ranges(ModelProto folded, DenseTensor<float> frames)
    {
        var all = folded.Clone();
        all.Graph.Output.Clear();
        all.Graph.Output.Add(folded.Graph.Node.Select(node => new ValueInfoProto
        {
            Name = node.Output[0],
            Type = new TypeProto { TensorType = new TypeProto.Types.Tensor { ElemType = (int)DataType.Float } },
        }));
        using var session = new InferenceSession(all.ToByteArray());
        var input = folded.Graph.Input[0].Name;
        using var results = session.Run([NamedOnnxValue.CreateFromTensor(input, frames)]);
        var ranges = results.ToDictionary(result => result.Name, result => (result.AsEnumerable<float>().Min(), result.AsEnumerable<float>().Max()));
        ranges[input] = (frames.Min(), frames.Max());
        return ranges;
    }

    private ModelProto Write()
    {
        // Folding left those of shared parameters without a reader.
        var source = _graph.Node.Where(node => node.OpType != "Identity").ToList();
        _graph.Node.Clear();
        var input = _graph.Input[0].Name;
        Quantize(input, input);
        var taken = new HashSet<NodeProto>();
        foreach (var node in source.Where(node => !taken.Contains(node)))
        {
            // A rectifier goes with the layer before it: its range begins at 0.
            var readers = source.Where(other => other.Input.Contains(node.Output[0])).ToList();
            var relu = node.OpType is "Conv" or "Add" && readers is [{ OpType: "Relu" }] ? readers[0] : null;
            if (relu is not null)
            {
                taken.Add(relu);
            }

            if (_how.Linear)
            {
                Linear(node, (relu ?? node).Output[0]);
            }
            else
            {
                Floating(node, relu);
            }
        }

        _graph.Node.Add(_nodes);
        var read = _nodes.SelectMany(node => node.Input).ToHashSet();
        foreach (var unread in _graph.Initializer.Where(initializer => !read.Contains(initializer.Name)).ToList())
        {
            _graph.Initializer.Remove(unread);
        }

        _model.OpsetImport.Add(new OperatorSetIdProto { Domain = "com.microsoft", Version = 1 });
        return _model;
    }

    private void Floating(NodeProto node, NodeProto? relu)
    {
        var layer = node.Clone();
        var output = (relu ?? node).Output[0];
        var isLast = output == _graph.Output[0].Name;
        layer.Input[0] = Dequantized(node.Input[0]);
        if (node.OpType == "Add")
        {
            layer.Input[1] = Dequantized(node.Input[1]);
        }
        else if (node.OpType is "Conv" or "Gemm")
        {
            layer.Input[1] = Node("DequantizeLinear", [.. Weights(node)], Axis(0));
            layer.Input[2] = Node("DequantizeLinear", [Bias(node), $"{node.Input[1]}_bias_scale"], Axis(0));
        }

        layer.Output[0] = $"{node.Output[0]}\nfloat";
        _nodes.Add(layer);
        var last = layer.Output[0];
        if (relu is not null)
        {
            last = Node("Relu", [last]);
        }

        Quantize(last, output);
        if (isLast)
        {
            _nodes.Add(new NodeProto { OpType = "DequantizeLinear", Input = { Whole(output), ScaleOf(output), ZeroOf(output) }, Output = { output } });
        }
    }

    private void Linear(NodeProto node, string output)
    {
        string[] Of(string value) => [Whole(value), ScaleOf(value), ZeroOf(value)];
        switch (node.OpType)
        {
            case "Conv":
                Add(node, "QLinearConv", string.Empty, [.. Of(node.Input[0]), .. Weights(node), ScaleOf(output), ZeroOf(output), Bias(node)], Whole(output), [.. node.Attribute]);
                break;
            case "Add":
                Add(node, "QLinearAdd", "com.microsoft", [.. Of(node.Input[0]), .. Of(node.Input[1]), ScaleOf(output), ZeroOf(output)], Whole(output));
                break;
            case "GlobalAveragePool":
                Add(node, "QLinearGlobalAveragePool", "com.microsoft", [.. Of(node.Input[0]), ScaleOf(output), ZeroOf(output)], Whole(output), Number("channels_last", 0));
                break;
            case "Flatten":
                Add(node, "Flatten", string.Empty, [Whole(node.Input[0])], Whole(output), [.. node.Attribute]);
                _ranges[output] = _ranges[node.Input[0]];
                break;
            default:
                // The product, then its bias in floating point.
                var bias = _values[node.Input[2]];
                var product = Product(output);
                _ranges[product] = (_ranges[output].Low - bias.Max(), _ranges[output].High - bias.Min());
                Add(node, "QLinearMatMul", string.Empty, [.. Of(node.Input[0]), .. Weights(node, transposes: true), ScaleOf(product), ZeroOf(product)], Whole(product));
                var value = Node("DequantizeLinear", [Whole(product), ScaleOf(product), ZeroOf(product)]);
                _nodes.Add(new NodeProto { OpType = "Add", Input = { value, node.Input[2] }, Output = { output } });
                break;
        }
    }

    private void Add(NodeProto node, string type, string domain, string[] inputs, string output, params AttributeProto[] attributes) =>
        _nodes.Add(new NodeProto { OpType = type, Domain = domain, Name = node.Name, Input = { inputs }, Output = { output }, Attribute = { attributes } });

    private string Node(string type, string[] inputs, params AttributeProto[] attributes)
    {
        var output = $"{inputs[0]}\n{type}\n{_nodes.Count}";
        _nodes.Add(new NodeProto { OpType = type, Input = { inputs }, Output = { output }, Attribute = { attributes } });
        return output;
    }

    private void Quantize(string from, string name) =>
        _nodes.Add(new NodeProto { OpType = "QuantizeLinear", Input = { from, ScaleOf(name), ZeroOf(name) }, Output = { Whole(name) } });

    private string Dequantized(string value) => Node("DequantizeLinear", [Whole(value), ScaleOf(value), ZeroOf(value)]);

    private static string Product(string value) => $"{value}\nproduct";

    private static string Whole(string value) => $"{value}\nquantized";

    private static AttributeProto Axis(long axis) => Number("axis", axis);

    private static AttributeProto Number(string name, long value) => new() { Name = name, I = value, Type = AttributeProto.Types.AttributeType.Int };

    private float Scale(string value)
    {
        _ = ScaleOf(value);
        return _scales[value];
    }

    private string ScaleOf(string value)
    {
        if (!_scales.ContainsKey(value))
        {
            var (low, high) = (Math.Min(0, _ranges[value].Low), Math.Max(0, _ranges[value].High));
            var scale = (high - low) / 255;
            _scales[value] = scale;
            var zero = (int)Math.Clamp(MathF.Round(-low / scale), 0, 255);
            _graph.Initializer.Add(OnnxFiles.Floats($"{value}\nscale", [], scale));
            _graph.Initializer.Add(Integers($"{value}\nzero", [], _how.SignedActivations ? DataType.Int8 : DataType.Uint8, _how.SignedActivations ? zero - 128 : zero));
        }

        return $"{value}\nscale";
    }

    private string ZeroOf(string value)
    {
        _ = ScaleOf(value);
        return $"{value}\nzero";
    }

    // Names of the weights, their scales and zero points.
    private string[] Weights(NodeProto node, bool transposes = false)
    {
        var (name, weights) = (node.Input[1], _values[node.Input[1]]);
        long[] shape = [.. _graph.Initializer.First(initializer => initializer.Name == name).Dims];
        var filters = (int)shape[0];
        var perFilter = weights.Length / filters;
        var scales = new float[_how.PerChannel ? filters : 1];
        for (var i = 0; i < weights.Length; i++)
        {
            ref var scale = ref scales[_how.PerChannel ? i / perFilter : 0];
            scale = Math.Max(scale, Math.Abs(weights[i]) / 63);
        }

        var zero = _how.SignedWeights ? 0 : 128;
        int[] whole = [.. weights.Select((weight, i) => zero + (int)MathF.Round(weight / scales[_how.PerChannel ? i / perFilter : 0]))];
        if (transposes)
        {
            whole = [.. Enumerable.Range(0, whole.Length).Select(i => whole[(i % filters * perFilter) + (i / filters)])];
            shape = [shape[1], shape[0]];
        }

        var type = _how.SignedWeights ? DataType.Int8 : DataType.Uint8;
        long[] each = _how.PerChannel ? [filters] : [];
        _graph.Initializer.Add(Integers($"{name}\nquantized", shape, type, whole));
        _graph.Initializer.Add(OnnxFiles.Floats($"{name}\nscale", each, scales));
        _graph.Initializer.Add(Integers($"{name}\nzero", each, type, [.. scales.Select(_ => zero)]));
        var input = Scale(node.Input[0]);
        var bias = _values[node.Input[2]];
        _graph.Initializer.Add(Integers(
            $"{name}_bias",
            [bias.Length],
            DataType.Int32,
            [.. bias.Select((value, i) => (int)Math.Round((double)value / ((double)input * scales[_how.PerChannel ? i : 0])))]));
        _graph.Initializer.Add(OnnxFiles.Floats($"{name}_bias_scale", each, [.. scales.Select(scale => scale * input)]));
        return [$"{name}\nquantized", $"{name}\nscale", $"{name}\nzero"];
    }

    private static string Bias(NodeProto node) => $"{node.Input[1]}_bias";

    private static TensorProto Integers(string name, long[] shape, DataType type, params int[] values) => new()
    {
        Name = name,
        Dims = { shape },
        DataType = (int)type,
        RawData = ByteString.CopyFrom(type == DataType.Int32 ? MemoryMarshal.AsBytes<int>(values) : [.. values.Select(value => unchecked((byte)value))]),
    };
}

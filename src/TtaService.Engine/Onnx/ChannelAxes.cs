using TtaService.Engine.Onnx.Wire;
using static TorchSharp.torch;

namespace TtaService.Engine.Onnx;

/// <summary>Where a value holds its channels, and how many there are.</summary>
/// <param name="IsLast">On the last axis ([B,N,C], [B,H,W,C]); on the second otherwise.</param>
/// <param name="Channels">C.</param>
internal readonly record struct ChannelAxis(bool IsLast, long Channels);

/// <summary>Tells from weights which axis of a graph's values holds channels: convolutions have them second, layers of tokens last, and transpositions move them.</summary>
internal sealed class ChannelAxes
{
    // They change values one by one, or leave the channels' axis alone.
    private static readonly HashSet<string> Alike =
    [
        "Identity", "Dropout", "Cast", "Relu", "LeakyRelu", "Elu", "Gelu", "Erf", "Sigmoid", "HardSigmoid", "HardSwish", "Tanh", "Clip", "Softplus", "Mish", "MaxPool",
        "AveragePool", "QuantizeLinear", "DequantizeLinear",
    ];

    private readonly Dictionary<string, ChannelAxis> _axes = new(StringComparer.Ordinal);
    private readonly Func<string, Tensor?> _constant;

    /// <param name="nodes">In execution order.</param>
    /// <param name="constant">Values known at load time.</param>
    public ChannelAxes(IEnumerable<NodeProto> nodes, Func<string, Tensor?> constant)
    {
        _constant = constant;
        foreach (var node in nodes)
        {
            if (Made(node) is { } axis)
            {
                _axes[node.Output[0]] = axis;
            }
        }
    }

    /// <summary>Of what makes the value, or of one that reads it; null where neither tells.</summary>
    public ChannelAxis? Of(string value, IEnumerable<NodeProto> readers) =>
        _axes.TryGetValue(value, out var made) ? made : readers.Select(reader => Taken(reader, value)).FirstOrDefault(axis => axis is not null);

    private ChannelAxis? Made(NodeProto node)
    {
        switch (node.OpType)
        {
            case "Conv":
                return _constant(node.Input[1]) is { } kernel ? new(false, kernel.shape[0]) : null;
            case "ConvTranspose":
                return _constant(node.Input[1]) is { } transposed ? new(false, transposed.shape[1] * (Attribute(node, "group")?.I ?? 1)) : null;
            case "MatMul":
                return Matrix(node.Input[1]) is { } matrix ? new(true, matrix.shape[1]) : null;
            case "Gemm":
                return Matrix(node.Input[1]) is { } weight ? new(true, weight.shape[Attribute(node, "transB")?.I == 1 ? 0 : 1]) : null;
            case "LayerNormalization":
                return Scale(node) is { } scale ? new(true, scale.numel()) : null;
            case "Transpose":
                return Moved(node);
            case "Add" or "Sub" or "Mul" or "Div":
                return node.Input.Select(PerChannel).FirstOrDefault(axis => axis is not null) ?? Known(node.Input);
            default:
                return Alike.Contains(node.OpType) ? Known(node.Input.Take(1)) : null;
        }
    }

    private ChannelAxis? Taken(NodeProto reader, string value)
    {
        if (reader.Input[0] != value)
        {
            return null;
        }

        return reader.OpType switch
        {
            "Conv" => _constant(reader.Input[1]) is { } kernel ? new(false, kernel.shape[1] * (Attribute(reader, "group")?.I ?? 1)) : null,
            "MatMul" => Matrix(reader.Input[1]) is { } matrix ? new(true, matrix.shape[0]) : null,
            "LayerNormalization" => Scale(reader) is { } scale ? new(true, scale.numel()) : null,
            _ => null,
        };
    }

    private ChannelAxis? Moved(NodeProto node)
    {
        if (Known(node.Input.Take(1)) is not { } given || Attribute(node, "perm")?.Ints is not { Count: > 2 } order)
        {
            return null;
        }

        var at = order.IndexOf(given.IsLast ? order.Count - 1 : 1);
        return at == order.Count - 1 ? given with { IsLast = true } : at == 1 ? given with { IsLast = false } : null;
    }

    private ChannelAxis? Known(IEnumerable<string> values)
    {
        foreach (var value in values)
        {
            if (_axes.TryGetValue(value, out var axis))
            {
                return axis;
            }
        }

        return null;
    }

    // A bias or a scale.
    private ChannelAxis? PerChannel(string value) => _constant(value) switch
    {
        { } map when VirtualSiteFinder.PerChannel(map) is not null => new(false, map.numel()),
        { } vector when vector.dim() == 1 && vector.numel() > 1 => new(true, vector.numel()),
        _ => null,
    };

    private Tensor? Matrix(string value) => _constant(value) is { } matrix && matrix.dim() == 2 ? matrix : null;

    // Of a normalization over the last axis alone.
    private Tensor? Scale(NodeProto normalization) =>
        Attribute(normalization, "axis")?.I is null or -1 && _constant(normalization.Input[1]) is { } scale && scale.dim() == 1 ? scale : null;

    private static AttributeProto? Attribute(NodeProto node, string name) => node.Attribute.FirstOrDefault(attribute => attribute.Name == name);
}

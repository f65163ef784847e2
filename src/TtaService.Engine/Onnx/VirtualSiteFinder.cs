using TtaService.Engine.Onnx.Operators;
using TtaService.Engine.Onnx.Wire;
using static TorchSharp.torch;

namespace TtaService.Engine.Onnx;

/// <summary>Finds the values that a virtual site can normalize: of a network that was trained with BatchNormalization the outputs of convolutions, those of spatial maps that
/// nothing in the graph normalizes and that are no answer; of one that normalizes each frame by itself instead the features of its blocks.</summary>
/// <remarks>
/// Left out are outputs that a normalization takes on every way, through copies, concatenations, pooling and sums (pre-activation networks); those of a head: outputs of
/// the graph, what goes to them on every
/// way without another layer (convolution, Gemm, MatMul, recurrent), and what a softmax, an arg-max, a top-k or a non-maximum suppression decides on without another
/// layer; those behind a global pooling
/// (squeeze and excitation), which show one value a channel; and those that read what a layer, group or instance normalization gives (ConvNeXt): they were trained
/// without BatchNormalization.
/// A graph without BatchNormalization, with more layer, group or instance normalizations than convolutions that nothing normalizes, is one of the other kind (ConvNeXt, ViT,
/// Swin, ResNets with GroupNorm): what such a normalization leaves of a change of the camera, and it leaves most, shows in the channels' statistics over frames and pixels (or
/// tokens). Its places are the outputs of all convolutions of maps, the first into patches too, and the sums that end residual blocks (the idea of PEA, ICLR 2026).
/// A convolution whose output also skips to the last sum of a network is no head.
/// A BatchNormalization that was exported as a multiplication and an addition of a constant a channel is a site at its sum where no convolution of its own is before it, as in
/// pre-activation networks; behind a convolution of its own the site is at the convolution, which is the same but for that map.
/// </remarks>
internal sealed class VirtualSiteFinder
{
    // What a normalization behind them takes as they give it: they move, add or pool values and keep their channels apart.
    private static readonly HashSet<string> Linear =
    [
        "Identity", "Dropout", "Cast", "Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Concat", "Split", "Slice", "Pad", "DepthToSpace", "SpaceToDepth",
        "AveragePool", "MaxPool", "GlobalAveragePool", "GlobalMaxPool", "Resize", "Upsample", "Add",
    ];

    private static readonly HashSet<string> Normalizing =
        ["BatchNormalization", "InstanceNormalization", "LayerNormalization", "GroupNormalization", "MeanVarianceNormalization", "LRN", "LpNormalization"];

    private static readonly HashSet<string> Layers =
        ["Conv", "ConvTranspose", "ConvInteger", "QLinearConv", "DeformConv", "Gemm", "MatMul", "MatMulInteger", "QLinearMatMul", "Einsum", "LSTM", "GRU", "RNN"];

    private static readonly HashSet<string> Deciding = ["Softmax", "LogSoftmax", "ArgMax", "TopK", "NonMaxSuppression"];

    // Of one value a channel they make a map.
    private static readonly HashSet<string> Spreading = ["Resize", "Upsample", "Expand", "Tile", "Pad", "ConvTranspose"];

    private readonly Func<string, Tensor?> _constant;
    private readonly HashSet<string> _outputs;
    private readonly Dictionary<string, List<NodeProto>> _readers = new(StringComparer.Ordinal);
    private readonly Dictionary<string, NodeProto> _producers = new(StringComparer.Ordinal);
    private readonly HashSet<string> _learned = new(StringComparer.Ordinal);
    private readonly HashSet<string> _pooled = new(StringComparer.Ordinal);
    private readonly HashSet<string> _centred = new(StringComparer.Ordinal);
    private readonly HashSet<string> _standardized = new(StringComparer.Ordinal);
    private readonly HashSet<string> _normalized = new(StringComparer.Ordinal);
    private readonly HashSet<string> _answers = new(StringComparer.Ordinal);
    private readonly HashSet<string> _decided = new(StringComparer.Ordinal);
    private readonly ChannelAxes _axes;

    /// <param name="nodes">In execution order.</param>
    /// <param name="outputs">Names of the graph's outputs.</param>
    /// <param name="constant">Values known at load time.</param>
    public VirtualSiteFinder(IReadOnlyList<NodeProto> nodes, IEnumerable<string> outputs, Func<string, Tensor?> constant)
    {
        (_constant, _outputs, _axes) = (constant, outputs.ToHashSet(StringComparer.Ordinal), new ChannelAxes(nodes, constant));
        foreach (var node in nodes.Where(node => node.OpType is not ("Shape" or "Size")))
        {
            foreach (var input in node.Input.Distinct())
            {
                (_readers.TryGetValue(input, out var readers) ? readers : _readers[input] = []).Add(node);
            }

            foreach (var output in Named(node))
            {
                _producers[output] = node;
            }

            if (Layers.Contains(node.OpType) || node.Input.Any(_learned.Contains))
            {
                _learned.UnionWith(Named(node));
            }

            if (IsPooled(node))
            {
                _pooled.UnionWith(Named(node));
            }

            if (node.OpType == "Sub" && IsCentring(node))
            {
                _centred.UnionWith(Named(node));
            }

            if (IsStandardized(node))
            {
                _standardized.UnionWith(Named(node));
            }
        }

        // Whoever reads a value comes behind it. What nobody reads decides nothing: it is whatever is asked for.
        foreach (var output in nodes.Reverse().SelectMany(node => node.Output).Where(output => output.Length > 0))
        {
            var readers = Readers(output);
            if (!_outputs.Contains(output)
                && readers.TrueForAll(reader => Normalizes(reader, output) || (Linear.Contains(reader.OpType) && Named(reader).All(_normalized.Contains))))
            {
                _normalized.Add(output);
            }

            if (readers.TrueForAll(reader => !Layers.Contains(reader.OpType) && Named(reader).All(_answers.Contains)))
            {
                _answers.Add(output);
            }

            if (readers.Exists(reader => Deciding.Contains(reader.OpType) || (!Layers.Contains(reader.OpType) && reader.Output.Any(_decided.Contains))))
            {
                _decided.Add(output);
            }
        }

        HasFeatures = !nodes.Any(node => node.OpType == "BatchNormalization") && nodes.Count(NormalizesFrames) > nodes.Count(IsFolded);
    }

    /// <summary>Whether the network normalizes otherwise than by BatchNormalization, so that its places are the features of its blocks.</summary>
    public bool HasFeatures { get; }

    /// <summary>Where the channels are of what a virtual site can normalize at the node's output; null where none can be.</summary>
    public ChannelAxis? Place(NodeProto node)
    {
        if (IsFolded(node))
        {
            return _axes.Of(node.Output[0], []);
        }

        var isFeature = HasFeatures && IsInside(node) && (IsBlock(node) || (IsConvolution(node) && !Readers(node.Output[0]).TrueForAll(IsInstanceNormalization)));
        return isFeature ? _axes.Of(node.Output[0], Readers(node.Output[0])) : null;
    }

    // A convolution that BatchNormalization was folded into, or its parts.
    private bool IsFolded(NodeProto node) =>
        ((IsConvolution(node) && !_standardized.Contains(node.Input[0])) || ScaledBy(node) is not null) && !_normalized.Contains(node.Output[0]) && IsInside(node);

    // Read by a layer behind it, and no answer.
    private bool IsInside(NodeProto node) =>
        Readers(node.Output[0]).Count > 0 && !_outputs.Contains(node.Output[0]) && !_answers.Contains(node.Output[0]) && !_decided.Contains(node.Output[0]);

    // Of maps or tokens, not of what was pooled.
    private bool IsBlock(NodeProto node) =>
        node is { OpType: "Add", Input.Count: 2 } && node.Input.All(input => _constant(input) is null && _learned.Contains(input) && !_pooled.Contains(input));

    private static bool IsInstanceNormalization(NodeProto node) => node.OpType == "InstanceNormalization";

    /// <summary>The constant of a map of one value a channel, [C,1,1] or [1,C,1,1]; null for another value.</summary>
    public static Tensor? PerChannel(Tensor? constant) =>
        constant is not null && constant.dim() is 3 or 4 && constant.numel() > 1 && constant.shape[^3] == constant.numel() ? constant : null;

    private bool IsConvolution(NodeProto node) =>
        node is { OpType: "Conv" or "ConvTranspose", Input.Count: >= 2, Output.Count: 1 }
        && _constant(node.Input[1]) is { } weight && weight.dim() >= 3
        && !_pooled.Contains(node.Input[0]);

    // Of a sum that ends a BatchNormalization in parts, x * scale + shift, the product; null for another node. What is done to the graph's input is its preprocessing.
    private NodeProto? ScaledBy(NodeProto sum)
    {
        if (sum.OpType != "Add" || Scaled(sum) is not { } product || !_producers.TryGetValue(product, out var scaling) || scaling.OpType != "Mul" || Readers(product).Count != 1)
        {
            return null;
        }

        var isOwn = Scaled(scaling) is { } x && _learned.Contains(x) && !_standardized.Contains(x) && !_pooled.Contains(x)
            && !(_producers.TryGetValue(x, out var before) && before.OpType is "Conv" or "ConvTranspose" && Readers(x).Count == 1);
        return isOwn ? scaling : null;
    }

    // The other input beside a constant of one value a channel.
    private string? Scaled(NodeProto node)
    {
        var maps = node.Input.Where(input => PerChannel(_constant(input)) is not null).ToArray();
        return node.Input.Count == 2 && maps.Length == 1 ? node.Input.First(input => input != maps[0]) : null;
    }

    private static IEnumerable<string> Named(NodeProto node) => node.Output.Where(output => output.Length > 0);

    private List<NodeProto> Readers(string value) => _readers.TryGetValue(value, out var readers) ? readers : [];

    private bool IsPooled(NodeProto node)
    {
        if (node.OpType is "GlobalAveragePool" or "GlobalMaxPool" or "GlobalLpPool" || (node.OpType.StartsWith("Reduce", StringComparison.Ordinal) && ReducesMaps(node)))
        {
            return true;
        }

        // Weights and shapes say nothing of where a value comes from.
        var computed = Moved(node).Where(input => input.Length > 0 && _constant(input) is null).ToArray();
        return computed.Length > 0 && !Spreading.Contains(node.OpType) && computed.All(_pooled.Contains);
    }

    // What a normalization of the frame's own gives, one node or in parts: (x - ReduceMean(x)) / d * weight + bias.
    private bool IsStandardized(NodeProto node) => node.OpType switch
    {
        "Mul" or "Add" => node.Input.Any(_standardized.Contains) && node.Input.Any(input => _constant(input) is not null),
        _ => NormalizesFrames(node)
            || (Linear.Contains(node.OpType)
                && node.Input.Any(_standardized.Contains)
                && Moved(node).All(input => input.Length == 0 || _standardized.Contains(input) || _constant(input) is not null)),
    };

    // Each by itself; BatchNormalization knows no frame.
    private bool NormalizesFrames(NodeProto node) => node.OpType == "Div" ? _centred.Contains(node.Input[0])
        : Normalizing.Contains(node.OpType) && node.OpType is not ("BatchNormalization" or "LRN" or "LpNormalization");

    // What a node takes values from; of a Reshape not the shape.
    private static IEnumerable<string> Moved(NodeProto node) => node.Input.Take(node.OpType == "Reshape" ? 1 : node.Input.Count);

    private bool ReducesMaps(NodeProto node)
    {
        long[]? axes = node.Attribute.FirstOrDefault(attribute => attribute.Name == "axes") is { } attribute ? [.. attribute.Ints]
            : node.Input.Count > 1 && _constant(node.Input[1]) is { } constant ? constant.Longs()
            : null;
        // Of [B,C,H,W].
        return axes is not null && axes.Select(axis => HostValues.Axis(axis, 4)).Order().SequenceEqual([2, 3]);
    }

    // A node that normalizes, or the parts of one: x - ReduceMean(x).
    private bool Normalizes(NodeProto reader, string value) => Normalizing.Contains(reader.OpType) || reader.OpType switch
    {
        "Sub" => reader.Input[0] == value && IsCentring(reader),
        "Mul" => Readers(reader.Output[0]) is [var sum] && ScaledBy(sum) == reader && Scaled(reader) == value,
        "ReduceMean" => Readers(reader.Output[0]).Exists(other => other.OpType == "Sub" && other.Input[0] == value),
        _ => false,
    };

    private bool IsCentring(NodeProto subtraction) => Readers(subtraction.Input[0]).Exists(other => other.OpType == "ReduceMean" && other.Output[0] == subtraction.Input[1]);
}

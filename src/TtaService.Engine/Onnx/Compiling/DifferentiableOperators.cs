using TtaService.Engine.Normalization;

namespace TtaService.Engine.Onnx.Compiling;

/// <summary>Knows the operators whose kernels gradients pass through, and whether they get from an output back to the sites.</summary>
internal static class DifferentiableOperators
{
    private const int NamedNodes = 3;

    // Each is compared with finite differences (DifferentiableOperatorTests). What is left out rounds, chooses, loops, or was never asked for.
    private static readonly HashSet<string> Known =
    [
        "Conv", "ConvTranspose", "Gemm", "MatMul", "BatchNormalization", "InstanceNormalization", "LayerNormalization", "GroupNormalization", "LpNormalization", "LRN",
        "Relu", "LeakyRelu", "PRelu", "Elu", "Selu", "Celu", "Gelu", "Sigmoid", "HardSigmoid", "HardSwish", "Tanh", "Erf", "Clip", "Softplus", "Softsign", "Mish", "Softmax",
        "LogSoftmax", "Add", "Sub", "Mul", "Div", "Pow", "Max", "Min", "Sum", "Mean", "Abs", "Neg", "Sqrt", "Exp", "Log", "Reciprocal", "Where", "MaxPool", "AveragePool",
        "GlobalAveragePool", "GlobalMaxPool", "ReduceMean", "ReduceSum", "ReduceMax", "ReduceL2", "Identity", "Dropout", "Flatten", "Reshape", "Squeeze", "Unsqueeze",
        "Transpose", "Concat", "Split", "Slice", "Gather", "Expand", "Tile", "Pad", "DepthToSpace", "SpaceToDepth", "Resize", "Upsample",
    ];

    /// <summary>The operators' types.</summary>
    public static IReadOnlySet<string> All => Known;

    /// <summary>Null when the gradient of an output reaches every chosen site that the output depends on, else why not.</summary>
    /// <param name="nodes">Of the graph.</param>
    /// <param name="flow">Who makes each value.</param>
    /// <param name="output">The output's name.</param>
    /// <param name="chosen">Which sites are to be reached.</param>
    public static string? WhyNot(IReadOnlyList<CompiledNode> nodes, ValueFlow flow, string output, Func<NormalizationSite, bool> chosen)
    {
        var (all, smooth) = (Before(output, flow, _ => true), Before(output, flow, HasGradient));
        var sites = nodes.Where(node => node.Site is { } site && chosen(site) && all.Contains(node)).ToHashSet();
        if (sites.Count == 0)
        {
            return $"none of the chosen sites lies before output '{output}'";
        }

        sites.ExceptWith(smooth);
        if (sites.Count == 0)
        {
            return null;
        }

        // The nodes where the way back ends, behind a site that is not reached by another way.
        string[] cuts = [.. smooth.SelectMany(node => node.Proto.Input).Append(output).Select(flow.Producer).OfType<CompiledNode>()
            .Where(node => !HasGradient(node) && Before(node, flow, _ => true).Overlaps(sites)).Distinct().Select(node => $"'{node.View.Name}' ({node.Proto.OpType})")];
        var more = cuts.Length > NamedNodes ? $" and {cuts.Length - NamedNodes} more" : string.Empty;
        return $"no gradient passes {string.Join(", ", cuts.Take(NamedNodes))}{more} between output '{output}' and {sites.Count} of the sites";
    }

    private static bool HasGradient(CompiledNode node) => node.Site is not null || Known.Contains(node.Proto.OpType);

    private static HashSet<CompiledNode> Before(string value, ValueFlow flow, Func<CompiledNode, bool> passes) =>
        flow.Producer(value) is { } producer && passes(producer) ? Before(producer, flow, passes) : [];

    // A node and all that it depends on, as far as the way passes.
    private static HashSet<CompiledNode> Before(CompiledNode node, ValueFlow flow, Func<CompiledNode, bool> passes)
    {
        var found = new HashSet<CompiledNode>(ReferenceEqualityComparer.Instance) { node };
        var open = new Stack<CompiledNode>([node]);
        while (open.TryPop(out var next))
        {
            foreach (var producer in next.Proto.Input.Select(flow.Producer).OfType<CompiledNode>().Where(producer => passes(producer) && found.Add(producer)))
            {
                open.Push(producer);
            }
        }

        return found;
    }
}

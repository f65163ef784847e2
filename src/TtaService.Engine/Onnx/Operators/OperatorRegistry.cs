namespace TtaService.Engine.Onnx.Operators;

/// <summary>An operator: the attributes it understands, and how a node becomes a kernel.</summary>
internal sealed record Operator(string Type, string[] Attributes, Func<Node, Kernel> Compile);

/// <summary>Every operator of the ai.onnx domain that the reader runs.</summary>
internal static class OperatorRegistry
{
    private static readonly Dictionary<string, Operator> ByType = new[]
    {
        Convolutions.All, Pooling.All, Activations.All, Arithmetic.All, Linear.All, Normalizations.All, Reductions.All, Shapes.All, Indexing.All, Resizing.All,
        Quantization.All, Selecting.All, Boxes.All, Sampling.All, Recurrent.All, ControlFlow.All,
    }.SelectMany(family => family).ToDictionary(op => op.Type, StringComparer.Ordinal);

    public static IReadOnlyCollection<Operator> All => ByType.Values;

    public static Operator? Find(string type) => ByType.GetValueOrDefault(type);

    /// <summary>The node's kernel, checked for the size of what it makes; null where the operator is not known.</summary>
    public static Kernel? Compile(Node node)
    {
        if (node.Domain is not ("" or "ai.onnx"))
        {
            node.Refuse($"operators of domain '{node.Domain}' are not supported");
            return null;
        }

        if (Find(node.Type) is not { } op)
        {
            node.Refuse("the operator is not supported");
            return null;
        }

        foreach (var attribute in node.AttributeNames.Where(attribute => !op.Attributes.Contains(attribute)))
        {
            node.Refuse($"attribute '{attribute}' is not supported");
        }

        return SizeLimit.Guard(node, op.Compile(node));
    }
}

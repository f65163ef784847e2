namespace TtaService.Engine.Onnx.Operators;

/// <summary>An operator: the attributes it understands, and how a node becomes a kernel.</summary>
internal sealed record Operator(string Type, string[] Attributes, Func<Node, Kernel> Compile);

/// <summary>Every operator of the ai.onnx domain that the reader runs.</summary>
internal static class OperatorRegistry
{
    private static readonly Dictionary<string, Operator> ByType = new[]
    {
        Convolutions.All, Pooling.All, Activations.All, Arithmetic.All, Linear.All, Normalizations.All, Reductions.All, Shapes.All, Indexing.All, Resizing.All,
    }.SelectMany(family => family).ToDictionary(op => op.Type, StringComparer.Ordinal);

    public static IReadOnlyCollection<Operator> All => ByType.Values;

    public static Operator? Find(string type) => ByType.GetValueOrDefault(type);
}

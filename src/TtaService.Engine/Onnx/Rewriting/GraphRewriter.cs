using TtaService.Engine.Onnx.Wire;

namespace TtaService.Engine.Onnx.Rewriting;

/// <summary>Brings a graph into the form that the compiler takes: functions and decided branches inlined, quantized layers in parts, what subgraphs read from outside among their
/// node's inputs.</summary>
internal static class GraphRewriter
{
    /// <summary>Of a node with subgraphs: how many of its last inputs are values that the subgraphs capture.</summary>
    public const string Captured = "captured\n";

    // The largest networks have tens of thousands; functions that call functions can ask for any number.
    private const int MostNodes = 1 << 18;

    /// <summary>Rewrites the model's graph in place.</summary>
    /// <exception cref="ModelLoadException">Functions that call themselves, or that expand to more nodes than can be meant.</exception>
    public static void Rewrite(string path, ModelProto model, long opset)
    {
        FunctionInliner.Inline(path, model, opset, MostNodes);
        new BranchInliner(path).Inline(model.Graph);
        new QuantizedForms(model.Graph).Expand(model.Graph);
        Lower(model.Graph);
    }

    /// <summary>The graphs among a node's attributes.</summary>
    public static IEnumerable<GraphProto> Subgraphs(NodeProto node) =>
        node.Attribute.SelectMany(attribute => attribute.G is null ? attribute.Graphs : attribute.Graphs.Prepend(attribute.G));

    /// <summary>Renames what a node reads and writes, in its subgraphs too.</summary>
    public static void Rename(NodeProto node, Func<string, string> rename)
    {
        for (var i = 0; i < node.Input.Count; i++)
        {
            node.Input[i] = node.Input[i].Length == 0 ? string.Empty : rename(node.Input[i]);
        }

        for (var i = 0; i < node.Output.Count; i++)
        {
            node.Output[i] = node.Output[i].Length == 0 ? string.Empty : rename(node.Output[i]);
        }

        foreach (var graph in Subgraphs(node))
        {
            Rename(graph, rename);
        }
    }

    private static void Rename(GraphProto graph, Func<string, string> rename)
    {
        foreach (var value in graph.Input.Concat(graph.Output))
        {
            value.Name = rename(value.Name);
        }

        foreach (var initializer in graph.Initializer)
        {
            initializer.Name = rename(initializer.Name);
        }

        foreach (var node in graph.Node)
        {
            Rename(node, rename);
        }
    }

    // Constants of subgraphs move out, so that they are placed as all others are; then a subgraph reads its inputs and what it captures.
    private static void Lower(GraphProto graph)
    {
        var nodes = new List<NodeProto>(graph.Node.Count);
        foreach (var node in graph.Node)
        {
            Trim(node);
            var captured = new List<string>();
            foreach (var (subgraph, index) in Subgraphs(node).Select((subgraph, index) => (subgraph, index)))
            {
                Lower(subgraph);
                nodes.AddRange(Hoist(subgraph, graph, $"{node.Output.FirstOrDefault()}\n{index}\n"));
                captured.AddRange(Free(subgraph));
            }

            foreach (var attribute in node.Attribute.Where(attribute => attribute.Name == Captured).ToList())
            {
                node.Attribute.Remove(attribute);
            }

            if (Subgraphs(node).Any())
            {
                string[] distinct = [.. captured.Distinct(StringComparer.Ordinal)];
                node.Input.Add(distinct);
                node.Attribute.Add(new AttributeProto { Name = Captured, I = distinct.Length });
            }

            nodes.Add(node);
        }

        graph.Node.Clear();
        graph.Node.Add(nodes);
    }

    // Optional outputs that nobody names are none.
    private static void Trim(NodeProto node)
    {
        while (node.Output.Count > 1 && node.Output[^1].Length == 0)
        {
            node.Output.RemoveAt(node.Output.Count - 1);
        }
    }

    private static List<NodeProto> Hoist(GraphProto subgraph, GraphProto outer, string prefix)
    {
        var inputs = subgraph.Input.Select(input => input.Name).ToHashSet(StringComparer.Ordinal);
        var initializers = subgraph.Initializer.Where(initializer => !inputs.Contains(initializer.Name)).ToList();
        var constants = subgraph.Node.Where(node => node.OpType == "Constant" && node.Output.Count == 1).ToList();
        var moved = initializers.Select(initializer => initializer.Name).Concat(constants.Select(node => node.Output[0])).ToHashSet(StringComparer.Ordinal);
        Rename(subgraph, name => moved.Contains(name) ? prefix + name : name);
        foreach (var initializer in initializers)
        {
            subgraph.Initializer.Remove(initializer);
        }

        foreach (var constant in constants)
        {
            subgraph.Node.Remove(constant);
        }

        outer.Initializer.Add(initializers);
        return constants;
    }

    private static IEnumerable<string> Free(GraphProto subgraph)
    {
        var defined = subgraph.Input.Select(input => input.Name).Concat(subgraph.Node.SelectMany(node => node.Output)).ToHashSet(StringComparer.Ordinal);
        return subgraph.Node.SelectMany(node => node.Input).Concat(subgraph.Output.Select(output => output.Name)).Where(name => name.Length > 0 && !defined.Contains(name));
    }
}

using TtaService.Engine.Onnx.Wire;

namespace TtaService.Engine.Onnx.Rewriting;

/// <summary>Puts the branch of an If whose condition is a constant in its place, so that its nodes are compiled as all others: fused, and with their sites.</summary>
internal sealed class BranchInliner(string path)
{
    private int _branches;

    /// <summary>Inlines in a graph and its subgraphs.</summary>
    public void Inline(GraphProto graph)
    {
        var constants = graph.Initializer
            .Where(initializer => graph.Input.All(input => input.Name != initializer.Name))
            .GroupBy(initializer => initializer.Name, StringComparer.Ordinal)
            .ToDictionary(group => group.Key, group => group.First(), StringComparer.Ordinal);
        var nodes = new List<NodeProto>();
        Inline([.. graph.Node], nodes, graph, constants);
        graph.Node.Clear();
        graph.Node.Add(nodes);
    }

    private void Inline(List<NodeProto> nodes, List<NodeProto> into, GraphProto graph, Dictionary<string, TensorProto> constants)
    {
        foreach (var node in nodes)
        {
            if (node is { OpType: "Constant", Output.Count: 1 } && node.Attribute.FirstOrDefault(attribute => attribute.Name == "value")?.T is { } value)
            {
                constants[node.Output[0]] = value;
            }
            else if (node is { OpType: "Identity", Input.Count: 1, Output.Count: 1 } && constants.TryGetValue(node.Input[0], out var same))
            {
                constants[node.Output[0]] = same;
            }

            if (node is { OpType: "If", Input.Count: > 0 } && constants.TryGetValue(node.Input[0], out var condition) && Decided(condition) is { } taken
                && node.Attribute.FirstOrDefault(attribute => attribute.Name == (taken ? "then_branch" : "else_branch"))?.G is { } branch)
            {
                Inline(Body(branch, node, graph, constants), into, graph, constants);
                continue;
            }

            foreach (var subgraph in GraphRewriter.Subgraphs(node))
            {
                Inline(subgraph);
            }

            into.Add(node);
        }
    }

    private bool? Decided(TensorProto condition)
    {
        if (condition.DataType != (int)TensorProto.Types.DataType.Bool || condition.Dims.Any(extent => extent != 1))
        {
            return null;
        }

        using var value = new TensorDecoder(Path.GetDirectoryName(Path.GetFullPath(path))!).Decode(condition);
        return value.data<bool>()[0];
    }

    private List<NodeProto> Body(GraphProto branch, NodeProto call, GraphProto graph, Dictionary<string, TensorProto> constants)
    {
        var prefix = $"{call.Name}\n{_branches++}\n";
        var made = branch.Node.SelectMany(node => node.Output).Where(name => name.Length > 0).ToHashSet(StringComparer.Ordinal);
        var names = made.Concat(branch.Initializer.Select(initializer => initializer.Name)).Distinct().ToDictionary(name => name, name => prefix + name, StringComparer.Ordinal);
        var passed = new List<NodeProto>();
        var renamed = new HashSet<string>(StringComparer.Ordinal);
        for (var i = 0; i < Math.Min(branch.Output.Count, call.Output.Count); i++)
        {
            if (call.Output[i].Length == 0)
            {
                continue;
            }

            if (made.Contains(branch.Output[i].Name) && renamed.Add(branch.Output[i].Name))
            {
                names[branch.Output[i].Name] = call.Output[i];
            }
            else
            {
                passed.Add(new NodeProto { OpType = "Identity", Input = { branch.Output[i].Name }, Output = { call.Output[i] } });
            }
        }

        foreach (var initializer in branch.Initializer)
        {
            var copy = initializer.Clone();
            copy.Name = names[initializer.Name];
            graph.Initializer.Add(copy);
            constants[copy.Name] = copy;
        }

        var body = branch.Node.Select(node => node.Clone()).ToList();
        body.ForEach(node => GraphRewriter.Rename(node, Renamed));
        passed.ForEach(node => node.Input[0] = Renamed(node.Input[0]));
        return [.. body, .. passed];

        string Renamed(string name) => names.GetValueOrDefault(name, name);
    }
}

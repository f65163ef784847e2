using TtaService.Engine.Onnx.Rewriting;
using TtaService.Engine.Onnx.Wire;
using static TorchSharp.torch;

namespace TtaService.Engine.Onnx.Operators;

/// <summary>A graph inside a node: a branch, or the body of a loop.</summary>
internal sealed class Subgraph
{
    private readonly List<(Kernel Kernel, int[] Inputs, int[] Outputs)> _steps = [];
    private readonly Dictionary<string, int> _slots = new(StringComparer.Ordinal);
    private readonly (int Input, int Slot)[] _captured;
    private readonly int[] _inputs;
    private readonly int[] _outputs;

    private Subgraph(GraphProto graph, Node node)
    {
        var known = new Dictionary<string, Tensor>(StringComparer.Ordinal);
        for (var i = Formal(node); i < node.Inputs; i++)
        {
            if (node.Constant(i) is { } constant)
            {
                known[node.InputName(i)] = constant;
            }
        }

        _captured = [.. Enumerable.Range(Formal(node), node.Inputs - Formal(node)).Select(i => (i, Slot(node.InputName(i))))];
        _inputs = [.. graph.Input.Select(input => Slot(input.Name))];
        var defined = _slots.Keys.ToHashSet(StringComparer.Ordinal);
        foreach (var proto in graph.Node)
        {
            var inner = node.Inner(proto, known);
            foreach (var input in proto.Input.Where(input => input.Length > 0 && !defined.Contains(input)))
            {
                inner.Refuse($"reads '{input}', which nothing before it makes (the graph is cyclic, unsorted or incomplete)");
            }

            if (OperatorRegistry.Compile(inner) is { } kernel)
            {
                _steps.Add((kernel, Slots(proto.Input), Slots(proto.Output)));
            }

            defined.UnionWith(proto.Output);
        }

        foreach (var output in graph.Output.Where(output => !defined.Contains(output.Name)))
        {
            node.Refuse($"output '{output.Name}' of its subgraph is made by no node");
        }

        _outputs = [.. graph.Output.Select(output => Slot(output.Name))];
    }

    /// <summary>How many outputs the graph has.</summary>
    public int Outputs => _outputs.Length;

    /// <summary>How many inputs the graph has.</summary>
    public int Inputs => _inputs.Length;

    /// <summary>How many inputs a node has besides what its subgraphs capture.</summary>
    public static int Formal(Node node) => node.Inputs - (int)node.Int(GraphRewriter.Captured, 0);

    /// <summary>Compiles the graph of an attribute; null, and a problem noted, where there is none.</summary>
    public static Subgraph? Compile(Node node, string attribute)
    {
        if (node.Graph(attribute) is { } graph)
        {
            return new Subgraph(graph, node);
        }

        node.Refuse($"has no {attribute}");
        return null;
    }

    /// <summary>Runs it. What the results do not hold dies at once.</summary>
    /// <param name="given">The node's inputs, of which the captured ones are read.</param>
    /// <param name="arguments">The graph's inputs.</param>
    public Tensor[] Run(Tensor?[] given, params Tensor[] arguments)
    {
        using var scope = NewDisposeScope();
        var values = new Tensor?[_slots.Count];
        foreach (var (input, slot) in _captured)
        {
            values[slot] = given[input];
        }

        for (var i = 0; i < _inputs.Length; i++)
        {
            values[_inputs[i]] = arguments[i];
        }

        foreach (var (kernel, inputs, outputs) in _steps)
        {
            var results = kernel([.. inputs.Select(slot => slot < 0 ? null : values[slot])]);
            for (var i = 0; i < Math.Min(results.Length, outputs.Length); i++)
            {
                if (outputs[i] >= 0)
                {
                    values[outputs[i]] = results[i];
                }
            }
        }

        return [.. _outputs.Select(slot => values[slot]!.alias().MoveToOuterDisposeScope())];
    }

    private int[] Slots(IEnumerable<string> names) => [.. names.Select(name => name.Length == 0 ? -1 : Slot(name))];

    private int Slot(string name)
    {
        if (!_slots.TryGetValue(name, out var slot))
        {
            _slots.Add(name, slot = _slots.Count);
        }

        return slot;
    }
}

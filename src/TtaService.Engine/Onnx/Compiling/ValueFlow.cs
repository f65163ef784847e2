namespace TtaService.Engine.Onnx.Compiling;

/// <summary>Who makes and who reads each value of a graph.</summary>
internal sealed class ValueFlow
{
    private readonly Dictionary<string, CompiledNode> _producers = new(StringComparer.Ordinal);
    private readonly Dictionary<string, CompiledNode> _consumers = new(StringComparer.Ordinal);
    private readonly Dictionary<string, int> _uses = new(StringComparer.Ordinal);
    private readonly Dictionary<CompiledNode, int> _order = new(ReferenceEqualityComparer.Instance);

    /// <param name="nodes">In their order.</param>
    /// <param name="outputs">Names of the graph's outputs, which count as read.</param>
    public ValueFlow(IReadOnlyList<CompiledNode> nodes, IEnumerable<string> outputs)
    {
        foreach (var node in nodes)
        {
            _order.Add(node, _order.Count);
            foreach (var output in node.Proto.Output)
            {
                _producers[output] = node;
            }

            foreach (var input in node.Proto.Input)
            {
                _consumers[input] = node;
                _uses[input] = Uses(input) + 1;
            }
        }

        foreach (var output in outputs)
        {
            _uses[output] = Uses(output) + 1;
        }
    }

    /// <summary>The node that makes a value; null for an input or a constant.</summary>
    public CompiledNode? Producer(string value) => _producers.GetValueOrDefault(value);

    /// <summary>How often a value is read, as an output of the graph too.</summary>
    public int Uses(string value) => _uses.GetValueOrDefault(value);

    /// <summary>The one node that reads a node's first result; null when several do or the graph's caller does.</summary>
    public CompiledNode? Next(CompiledNode node) => Uses(node.Proto.Output[0]) == 1 ? _consumers.GetValueOrDefault(node.Proto.Output[0]) : null;

    /// <summary>Whether a node runs behind another.</summary>
    public bool IsBehind(CompiledNode node, CompiledNode other) => _order[node] > _order[other];
}

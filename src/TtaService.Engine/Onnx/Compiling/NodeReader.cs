using TtaService.Engine.Onnx.Operators;
using TtaService.Engine.Onnx.Wire;

namespace TtaService.Engine.Onnx.Compiling;

/// <summary>Reads the nodes of a graph in their order: checks their names, computes what depends on constants alone, and gives each other node its kernel or its site.</summary>
internal sealed class NodeReader
{
    private readonly GraphConstants _constants;
    private readonly SiteReader _sites;
    private readonly List<string> _problems;
    private readonly HashSet<string> _defined;
    private readonly List<CompiledNode> _nodes = [];
    private int _siteCount;

    /// <param name="constants">With the graph's initializers; those computed here are added.</param>
    /// <param name="sites">Names the sites.</param>
    /// <param name="problems">What can't be run, added to.</param>
    /// <param name="inputs">Names that exist before the first node.</param>
    public NodeReader(GraphConstants constants, SiteReader sites, List<string> problems, IEnumerable<string> inputs)
    {
        _constants = constants;
        _sites = sites;
        _problems = problems;
        _defined = inputs.Concat(constants.ByName.Keys).ToHashSet(StringComparer.Ordinal);
    }

    /// <summary>The nodes that run with every pass.</summary>
    public List<CompiledNode> Read(GraphProto graph, long opset)
    {
        foreach (var proto in graph.Node)
        {
            try
            {
                Add(proto, opset);
            }
            catch (Exception malformed) when (malformed is not (OutOfMemoryException or ModelLoadException))
            {
                // Weights of the wrong rank, attributes of the wrong length: a file may hold anything.
                _problems.Add($"node '{proto.Name}' ({proto.OpType}, opset {opset}): is malformed ({malformed.Message.Split('\n')[0]})");
            }
        }

        foreach (var output in graph.Output.Where(output => !_defined.Contains(output.Name)))
        {
            _problems.Add($"output '{output.Name}' is made by no node");
        }

        return _nodes;
    }

    private void Add(NodeProto proto, long opset)
    {
        var node = new Node(proto, opset, _constants.ByName, _problems);
        foreach (var input in proto.Input.Where(input => input.Length > 0 && !_defined.Contains(input)))
        {
            node.Refuse($"reads '{input}', which nothing before it makes (the graph is cyclic, unsorted or incomplete)");
        }

        foreach (var output in proto.Output.Where(output => output.Length > 0 && !_defined.Add(output)))
        {
            node.Refuse($"writes '{output}', which exists already");
        }

        if (SiteReader.IsSite(node))
        {
            if (_sites.Read(node, proto, _siteCount, ChannelsBefore(proto.Input[0])) is { } site)
            {
                _siteCount++;
                _nodes.Add(new CompiledNode(proto, node, null, site));
            }

            return;
        }

        if (OperatorRegistry.Compile(node) is not { } kernel)
        {
            return;
        }

        // Once there is a problem the model is refused, and computing would only cost time.
        if (_problems.Count == 0 && proto.Input.All(input => input.Length == 0 || _constants.ByName.ContainsKey(input)))
        {
            _constants.Fold(proto, node, kernel);
            return;
        }

        _nodes.Add(new CompiledNode(proto, node, kernel, null));
    }

    private long? ChannelsBefore(string value) =>
        _nodes.LastOrDefault(node => node.Proto.Output.Contains(value)) is { } producer ? CompiledNode.Channels(producer.View) : null;
}

using TtaService.Engine.Onnx.Wire;

namespace TtaService.Engine.Onnx.Rewriting;

/// <summary>Puts the nodes of a model's own functions where they are called.</summary>
internal sealed class FunctionInliner
{
    private const int DeepestCall = 64;

    private readonly string _path;
    private readonly int _most;
    private readonly Dictionary<(string Domain, string Name), FunctionProto> _functions = [];
    private int _calls;
    private int _made;

    private FunctionInliner(string path, ModelProto model, long opset, int most)
    {
        (_path, _most) = (path, most);
        foreach (var function in model.Functions)
        {
            var own = function.OpsetImport.FirstOrDefault(import => import.Domain is "" or "ai.onnx")?.Version ?? opset;
            if (own != opset)
            {
                throw new ModelLoadException($"{path}: function '{function.Name}' is written for opset {own}, the model for {opset}; "
                    + $"export with one opset, or inline the functions with onnx.inliner");
            }

            _functions[(function.Domain, function.Name)] = function;
        }
    }

    /// <summary>Inlines all calls; the graph may have the given number of nodes afterwards.</summary>
    public static void Inline(string path, ModelProto model, long opset, int most)
    {
        if (model.Functions.Count > 0)
        {
            new FunctionInliner(path, model, opset, most).Inline(model.Graph);
        }
    }

    private void Inline(GraphProto graph)
    {
        var nodes = new List<NodeProto>();
        Inline([.. graph.Node], nodes, 0);
        graph.Node.Clear();
        graph.Node.Add(nodes);
    }

    private void Inline(List<NodeProto> nodes, List<NodeProto> into, int depth)
    {
        foreach (var node in nodes)
        {
            if (++_made > _most)
            {
                throw new ModelLoadException($"{_path}: its functions expand to more than {_most:N0} nodes, which is the limit");
            }

            if (_functions.TryGetValue((node.Domain, node.OpType), out var function))
            {
                if (depth == DeepestCall)
                {
                    throw new ModelLoadException($"{_path}: function '{function.Name}' is called {DeepestCall} deep; functions may not call themselves");
                }

                Inline(Body(function, node), into, depth + 1);
                continue;
            }

            foreach (var subgraph in GraphRewriter.Subgraphs(node))
            {
                Inline(subgraph);
            }

            into.Add(node);
        }
    }

    // The function's nodes, with the names and attributes of this call.
    private List<NodeProto> Body(FunctionProto function, NodeProto call)
    {
        var prefix = $"{(call.Name.Length > 0 ? call.Name : function.Name)}\n{_calls++}\n";
        var names = new Dictionary<string, string>(StringComparer.Ordinal);
        for (var i = 0; i < function.Input.Count; i++)
        {
            names[function.Input[i]] = i < call.Input.Count ? call.Input[i] : string.Empty;
        }

        var passed = new List<NodeProto>();
        for (var i = 0; i < Math.Min(function.Output.Count, call.Output.Count); i++)
        {
            if (call.Output[i].Length > 0 && !names.TryAdd(function.Output[i], call.Output[i]))
            {
                passed.Add(new NodeProto { OpType = "Identity", Input = { names[function.Output[i]] }, Output = { call.Output[i] } });
            }
        }

        var body = new List<NodeProto>();
        foreach (var node in function.Node)
        {
            var copy = node.Clone();
            Resolve(copy, function, call);
            GraphRewriter.Rename(copy, name => names.TryGetValue(name, out var given) ? given : prefix + name);
            copy.Name = call.Name.Length > 0 && node.Name.Length > 0 ? $"{call.Name}/{node.Name}" : node.Name;
            body.Add(copy);
        }

        return [.. body, .. passed];
    }

    // Attributes that refer to the call's.
    private static void Resolve(NodeProto node, FunctionProto function, NodeProto call)
    {
        foreach (var attribute in node.Attribute.Where(attribute => attribute.RefAttrName.Length > 0).ToList())
        {
            node.Attribute.Remove(attribute);
            var given = call.Attribute.FirstOrDefault(candidate => candidate.Name == attribute.RefAttrName)
                ?? function.AttributeProto.FirstOrDefault(candidate => candidate.Name == attribute.RefAttrName);
            if (given is not null)
            {
                var copy = given.Clone();
                copy.Name = attribute.Name;
                node.Attribute.Add(copy);
            }
        }

        foreach (var inner in GraphRewriter.Subgraphs(node).SelectMany(subgraph => subgraph.Node))
        {
            Resolve(inner, function, call);
        }
    }
}

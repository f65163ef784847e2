using TtaService.Engine.Onnx.Wire;

namespace TtaService.Engine.Onnx;

/// <summary>Reads from the last nodes before an output what was done to its numbers.</summary>
internal static class GraphTail
{
    // They move numbers, or change their type, but leave them what they are.
    private static readonly HashSet<string> Passing =
        ["Identity", "Cast", "CastLike", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Dropout", "QuantizeLinear", "DequantizeLinear"];

    /// <summary>The operator that decides what the output's numbers are (Softmax, LogSoftmax, Sigmoid, ArgMax, …); null when it is an ordinary one.</summary>
    public static string? Activation(GraphProto graph, string output)
    {
        var producers = Producers(graph);

        // No longer than the graph, so that a malformed one ends, too.
        for (var steps = 0; steps <= graph.Node.Count && producers.TryGetValue(output, out var node); steps++)
        {
            if (!Passing.Contains(node.OpType) || node.Input.Count == 0)
            {
                return Name(node, producers);
            }

            output = node.Input[0];
        }

        return null;
    }

    /// <summary>The value that an output's class scores are computed from by one layer, and that layer; null where they come otherwise.</summary>
    /// <param name="graph">The graph.</param>
    /// <param name="output">Name of the output.</param>
    /// <param name="isConstant">Whether a value is the same for every frame.</param>
    public static (string Features, NodeProto Layer)? Classifier(GraphProto graph, string output, Func<string, bool> isConstant)
    {
        var producers = Producers(graph);
        for (var steps = 0; steps <= graph.Node.Count && producers.TryGetValue(output, out var node) && node.Input.Count > 0; steps++)
        {
            switch (node.OpType)
            {
                case "Gemm" or "MatMul" or "Conv" when node.Input.Count > 1 && isConstant(node.Input[1]):
                    return (node.Input[0], node);
                case "Add" or "Sub" or "Mul" or "Div" when node.Input.Count(isConstant) == 1:
                    output = node.Input.First(input => !isConstant(input));
                    break;
                case "Softmax" or "LogSoftmax" or "Log" or "Exp":
                case var type when Passing.Contains(type):
                    output = node.Input[0];
                    break;
                default:
                    return null;
            }
        }

        return null;
    }

    private static Dictionary<string, NodeProto> Producers(GraphProto graph)
    {
        var producers = new Dictionary<string, NodeProto>(StringComparer.Ordinal);
        foreach (var node in graph.Node)
        {
            foreach (var made in node.Output)
            {
                producers.TryAdd(made, node);
            }
        }

        return producers;
    }

    private static string? Name(NodeProto node, Dictionary<string, NodeProto> producers)
    {
        NodeProto? Input(int index) => index < node.Input.Count ? producers.GetValueOrDefault(node.Input[index]) : null;

        switch (node.OpType)
        {
            case "Softmax" or "LogSoftmax" or "Hardmax":
                // Over an axis of the classes; over the frames' it says nothing about one of them.
                return node.Attribute.FirstOrDefault(attribute => attribute.Name == "axis")?.I == 0 ? null : node.OpType == "Hardmax" ? "Softmax" : node.OpType;
            case "Sigmoid" or "HardSigmoid":
                return "Sigmoid";
            case "ArgMax" or "ArgMin" or "TopK" or "NonMaxSuppression" or "LpNormalization":
                return node.OpType;
            case "Log" when Input(0)?.OpType == "Softmax":
                return "LogSoftmax";
            case "Exp" when Input(0)?.OpType == "LogSoftmax":
                return "Softmax";
            case "Div" when Input(0)?.OpType == "Exp" && Input(1) is { OpType: "ReduceSum" } sum && sum.Input.FirstOrDefault() == node.Input[0]:
                return "Softmax";
            case "Div" when ScaledBy(Input(1), node.Input[0], producers):
                return "LpNormalization";
            default:
                return null;
        }
    }

    // x / max(norm(x), epsilon), as torch.nn.functional.normalize is exported.
    private static bool ScaledBy(NodeProto? divisor, string vector, Dictionary<string, NodeProto> producers)
    {
        for (var steps = 0; divisor is not null && steps < 4; steps++)
        {
            if (divisor.OpType == "ReduceL2")
            {
                return divisor.Input.FirstOrDefault() == vector;
            }

            if (divisor.OpType is not ("Expand" or "Clip" or "Max" or "Identity") || divisor.Input.Count == 0)
            {
                return false;
            }

            divisor = producers.GetValueOrDefault(divisor.Input[0]);
        }

        return false;
    }
}

using TtaService.Engine.Onnx.Wire;
using static TorchSharp.torch;

namespace TtaService.Engine.Onnx.Operators;

/// <summary>Runs a node: tensors in the node's input order (null for an omitted one), tensors out that the caller owns.</summary>
internal delegate Tensor[] Kernel(Tensor?[] inputs);

/// <summary>A node as its operator sees it at load time: attributes, opset, and the inputs that are constants.</summary>
internal sealed class Node(NodeProto proto, long opset, IReadOnlyDictionary<string, Tensor> constants, ICollection<string> problems)
{
    private readonly Dictionary<string, AttributeProto> _attributes = proto.Attribute.ToDictionary(a => a.Name, StringComparer.Ordinal);

    public string Type => proto.OpType;

    public string Domain => proto.Domain;

    public string Name => proto.Name.Length > 0 ? proto.Name : proto.Output[0];

    public long Opset => opset;

    public int Inputs => proto.Input.Count;

    public int Outputs => proto.Output.Count;

    public IEnumerable<string> AttributeNames => _attributes.Keys;

    public bool Has(string attribute) => _attributes.ContainsKey(attribute);

    public long Int(string attribute, long missing) => _attributes.TryGetValue(attribute, out var a) ? a.I : missing;

    public float Float(string attribute, float missing) => _attributes.TryGetValue(attribute, out var a) ? a.F : missing;

    public string Text(string attribute, string missing) => _attributes.TryGetValue(attribute, out var a) ? a.S.ToStringUtf8() : missing;

    public long[]? Ints(string attribute) => _attributes.TryGetValue(attribute, out var a) ? [.. a.Ints] : null;

    public float[]? Floats(string attribute) => _attributes.TryGetValue(attribute, out var a) ? [.. a.Floats] : null;

    public string[]? Texts(string attribute) => _attributes.TryGetValue(attribute, out var a) ? [.. a.Strings.Select(text => text.ToStringUtf8())] : null;

    public GraphProto? Graph(string attribute) => _attributes.TryGetValue(attribute, out var a) ? a.G : null;

    public TensorProto? TensorValue(string attribute) => _attributes.TryGetValue(attribute, out var a) ? a.T : null;

    public bool HasInput(int input) => input < proto.Input.Count && proto.Input[input].Length > 0;

    /// <summary>An input that is known at load time, or null.</summary>
    public Tensor? Constant(int input) => input < proto.Input.Count ? constants.GetValueOrDefault(proto.Input[input]) : null;

    /// <summary>Name of an input.</summary>
    public string InputName(int input) => proto.Input[input];

    /// <summary>A node of a subgraph of this one.</summary>
    public Node Inner(NodeProto inner, IReadOnlyDictionary<string, Tensor> known) => new(inner, opset, known, problems);

    /// <summary>Notes what can't be run; loading ends with all problems together.</summary>
    public void Refuse(string problem) => problems.Add($"node '{Name}' ({Type}, opset {opset}): {problem}");
}

/// <summary>Small integer tensors as .NET values; they lie in host memory, so this does not wait for a device.</summary>
internal static class HostValues
{
    public static long[] Longs(this Tensor tensor)
    {
        using var wide = tensor.to_type(ScalarType.Int64).cpu().contiguous();
        return [.. wide.data<long>()];
    }

    public static float[] Singles(this Tensor tensor)
    {
        using var wide = tensor.to_type(ScalarType.Float32).cpu().contiguous();
        return [.. wide.data<float>()];
    }

    /// <summary>A non-negative axis.</summary>
    public static long Axis(long axis, long rank) => axis < 0 ? axis + rank : axis;
}

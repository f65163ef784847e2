using TorchSharp;
using TtaService.Engine.Onnx.Operators;
using TtaService.Engine.Onnx.Wire;
using static TorchSharp.torch;

namespace TtaService.Engine.Onnx.Compiling;

/// <summary>The constants of a graph by name: its weights, what is computed from constants alone, and where they lie on the device. Owns what it was asked to keep.</summary>
internal sealed class GraphConstants(Device device, ScalarType precision) : IDisposable
{
    // Constants that were computed at load, together: 512 MiB of float32. Weights come as initializers; what a graph computes from its constants are shapes, anchors and masks.
    private const long MaxFoldedElements = 1L << 27;

    private readonly Dictionary<string, Tensor> _byName = new(StringComparer.Ordinal);
    private readonly Dictionary<Tensor, Tensor> _placed = new(ReferenceEqualityComparer.Instance);
    private readonly HashSet<Tensor> _owned = new(ReferenceEqualityComparer.Instance);
    private long _folded;

    /// <summary>In host memory, where compiling reads them.</summary>
    public IReadOnlyDictionary<string, Tensor> ByName => _byName;

    /// <summary>Whether convolutions run on the host in float32, where oneDNN can keep their weights packed.</summary>
    public bool AreForHost => device.type == DeviceType.CPU && precision == ScalarType.Float32;

    /// <summary>Decodes the initializers; one that can't be read is a problem, and a zero from there on.</summary>
    public void Read(string path, GraphProto graph, ICollection<string> problems)
    {
        var decoder = new TensorDecoder(Path.GetDirectoryName(Path.GetFullPath(path))!);
        foreach (var initializer in graph.Initializer)
        {
            try
            {
                _byName[initializer.Name] = decoder.Decode(initializer);
            }
            catch (ModelLoadException e)
            {
                problems.Add(e.Message);
                _byName[initializer.Name] = zeros(1);
            }
        }
    }

    /// <summary>Computes a node that depends on constants alone.</summary>
    public void Fold(NodeProto proto, Node node, Kernel kernel)
    {
        try
        {
            Tensor?[] inputs = [.. proto.Input.Select(input => input.Length == 0 ? null : _byName[input])];
            if (_folded + SizeLimit.Elements(node, inputs) > MaxFoldedElements)
            {
                node.Refuse($"would be a constant of {SizeLimit.Elements(node, inputs):N0} values; constants computed at load may have {MaxFoldedElements:N0} in all");
                return;
            }

            var results = kernel(inputs);
            for (var i = 0; i < proto.Output.Count; i++)
            {
                _byName[proto.Output[i]] = results[i];
                _folded += results[i].numel();
            }
        }
        catch (Exception e) when (e is not OutOfMemoryException)
        {
            node.Refuse($"can't be computed from its constants ({e.GetType().Name})");
        }
    }

    /// <summary>Keeps those that are read. What was folded into others dies with the caller's scope: quantized weights are held eightfold until then.</summary>
    public void Keep(IReadOnlySet<string> read)
    {
        foreach (var name in _byName.Keys.Where(name => !read.Contains(name)).ToList())
        {
            _byName.Remove(name);
        }

        foreach (var constant in _byName.Values)
        {
            Own(constant);
        }
    }

    /// <summary>A constant where programs read it. Shape values stay in host memory, where operators read them.</summary>
    public Tensor Place(Tensor constant)
    {
        if (!constant.is_floating_point())
        {
            return Own(constant);
        }

        if (!_placed.TryGetValue(constant, out var placed))
        {
            var type = constant.dtype == ScalarType.Float32 ? precision : constant.dtype;
            placed = device.type == DeviceType.CPU && constant.dtype == type ? constant : constant.to(type, device, copy: true);
            _placed.Add(constant, Own(placed));
        }

        return placed;
    }

    /// <summary>Adds a constant under a name of its own.</summary>
    public Tensor Add(string name, Tensor constant) => _byName[name] = Own(constant);

    /// <summary>Weights as convolutions read them: channels-last, as their activations lie.</summary>
    public static Tensor ChannelsLast(Tensor weight) =>
        weight.dim() == 4 ? weight.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2) : weight;

    public void Dispose()
    {
        foreach (var constant in _owned)
        {
            constant.Dispose();
        }

        _owned.Clear();
    }

    private Tensor Own(Tensor constant)
    {
        if (_owned.Add(constant))
        {
            constant.DetachFromDisposeScope();
        }

        return constant;
    }
}

using static TorchSharp.torch;

namespace TtaService.Engine.Onnx.Compiling;

/// <summary>The slots of a model's values by name; its programs share the numbers.</summary>
internal sealed class SlotNames
{
    private readonly Dictionary<string, int> _byName = new(StringComparer.Ordinal);

    public int Count { get; private set; }

    public int this[string name]
    {
        get
        {
            if (!_byName.TryGetValue(name, out var slot))
            {
                slot = New();
                _byName.Add(name, slot);
            }

            return slot;
        }
    }

    /// <summary>A slot without a name.</summary>
    public int New() => Count++;
}

/// <summary>The slots of a program that is being compiled, and the constants that fill theirs before its first instruction.</summary>
internal sealed class ProgramSlots
{
    private readonly SlotNames _names;
    private readonly GraphConstants _constants;
    private readonly Dictionary<int, Tensor> _filled = [];

    public ProgramSlots(SlotNames names, GraphConstants constants)
    {
        _names = names;
        _constants = constants;
        foreach (var (name, constant) in constants.ByName)
        {
            _filled[names[name]] = constants.Place(constant);
        }
    }

    /// <summary>The slot of a value; -1 for one that is left out.</summary>
    public int Of(string name) => name.Length == 0 ? -1 : _names[name];

    public bool IsConstant(int slot) => _filled.ContainsKey(slot);

    /// <summary>A slot with a constant of this program alone, which lies where it is read.</summary>
    public int Add(Tensor placed)
    {
        var slot = _names.New();
        _filled[slot] = placed;
        return slot;
    }

    /// <summary>What a node reads; a convolution its weights channels-last.</summary>
    public int[] InputsOf(CompiledNode node)
    {
        int[] slots = [.. node.Proto.Input.Select(Of)];
        if (node.Proto.OpType == "Conv" && node.View.Constant(1) is { } weight && weight.dim() == 4)
        {
            var name = $"{node.Proto.Input[1]}\nchannels_last";
            var relaid = Of(name);
            if (!IsConstant(relaid))
            {
                _filled[relaid] = _constants.Place(_constants.Add(name, GraphConstants.ChannelsLast(_constants.ByName[node.Proto.Input[1]])));
            }

            slots[1] = relaid;
        }

        return slots;
    }

    public int[] OutputsOf(CompiledNode node) => [.. node.Proto.Output.Select(Of)];

    /// <summary>The constants by slot, once the program is complete.</summary>
    public Tensor?[] Constants()
    {
        var filled = new Tensor?[_names.Count];
        foreach (var (slot, constant) in _filled)
        {
            filled[slot] = constant;
        }

        return filled;
    }
}

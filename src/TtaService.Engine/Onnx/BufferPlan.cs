using TtaService.Engine.Onnx.Wire;

namespace TtaService.Engine.Onnx;

/// <summary>Decides where a site may overwrite its input: where the memory was made by the node before it and no other value that may be a view of it is read later.</summary>
internal static class BufferPlan
{
    // Operators whose results never share memory with an input. All others count as views: most are (Slice, Reshape, Transpose, Identity, Expand, Split), the rest can be (Clip
    // without bounds, Cast to the same type).
    private static readonly HashSet<string> Makers =
    [
        "Conv", "ConvTranspose", "QuantizeLinear", "DequantizeLinear", "Gemm", "MatMul", "Concat", "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool",
        "Relu", "LeakyRelu", "Elu", "Sigmoid", "HardSigmoid", "HardSwish", "Tanh", "Erf", "Exp", "Sqrt", "Neg", "Add", "Sub", "Mul", "Div",
    ];

    /// <summary>Whether a node's results lie in memory of their own.</summary>
    // A concatenation of one tensor is that tensor.
    public static bool MakesMemory(NodeProto node) => Makers.Contains(node.OpType) && (node.OpType != "Concat" || node.Input.Count > 1);

    /// <summary>Sets <see cref="SiteInstruction.MayOverwrite"/>.</summary>
    public static void Overwrite(IReadOnlyList<Instruction> instructions, IEnumerable<int> outputs, Func<int, bool> isConstant)
    {
        var (made, lastRead) = (new Dictionary<int, int>(), new Dictionary<int, int>());
        var views = new Views();
        for (var i = 0; i < instructions.Count; i++)
        {
            var instruction = instructions[i];
            foreach (var slot in instruction.Outputs.Where(slot => slot >= 0))
            {
                made[slot] = lastRead[slot] = i;
            }

            foreach (var slot in instruction.Inputs.Where(slot => slot >= 0))
            {
                lastRead[slot] = i;
            }

            if (!instruction.MakesMemory)
            {
                views.Join(instruction.Inputs.Concat(instruction.Outputs).Where(slot => slot >= 0 && !isConstant(slot)));
            }
        }

        foreach (var output in outputs)
        {
            lastRead[output] = int.MaxValue;
        }

        for (var i = 0; i < instructions.Count; i++)
        {
            if (instructions[i] is SiteInstruction site)
            {
                site.MayOverwrite = made.TryGetValue(site.Input, out var maker)
                    && instructions[maker].MakesMemory
                    && views.Of(site.Input).All(slot => slot == site.Input ? lastRead[slot] == i : slot != site.Residual && !(Exists(slot, i) && lastRead[slot] > i));
            }
        }

        bool Exists(int slot, int at) => !made.TryGetValue(slot, out var when) || when < at;
    }

    /// <summary>Sets of slots that may share memory.</summary>
    private sealed class Views
    {
        private readonly Dictionary<int, HashSet<int>> _sets = [];

        public HashSet<int> Of(int slot) => _sets.TryGetValue(slot, out var set) ? set : [slot];

        public void Join(IEnumerable<int> slots)
        {
            HashSet<int> joined = [];
            foreach (var slot in slots)
            {
                joined.UnionWith(Of(slot));
            }

            foreach (var slot in joined)
            {
                _sets[slot] = joined;
            }
        }
    }
}

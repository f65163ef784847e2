namespace TtaService.Engine.Onnx.Compiling;

/// <summary>Knows when values die and which may share memory: what is given back behind each instruction, and where a site may overwrite its input.</summary>
internal sealed class SlotPlan
{
    private readonly IReadOnlyList<Instruction> _instructions;
    private readonly HashSet<int> _outputs;
    private readonly Func<int, bool> _isConstant;
    private readonly Dictionary<int, int> _made = [];
    private readonly Dictionary<int, int> _lastRead = [];
    private readonly SharedSlots _views = new();

    private SlotPlan(IReadOnlyList<Instruction> instructions, IEnumerable<int> outputs, Func<int, bool> isConstant)
    {
        _instructions = instructions;
        _outputs = [.. outputs];
        _isConstant = isConstant;
        for (var i = 0; i < instructions.Count; i++)
        {
            var instruction = instructions[i];
            foreach (var slot in instruction.Outputs.Where(slot => slot >= 0))
            {
                _made[slot] = _lastRead[slot] = i;
            }

            foreach (var slot in instruction.Inputs.Where(slot => slot >= 0))
            {
                _lastRead[slot] = i;
            }

            if (!instruction.MakesMemory)
            {
                _views.Join(instruction.Inputs.Concat(instruction.Outputs).Where(slot => slot >= 0 && !isConstant(slot)));
            }
        }

        foreach (var output in _outputs)
        {
            _lastRead[output] = int.MaxValue;
        }
    }

    /// <summary>Sets <see cref="Instruction.Dying"/> and <see cref="SiteInstruction.MayOverwrite"/>.</summary>
    /// <param name="instructions">A program, in its order.</param>
    /// <param name="outputs">Slots that are read behind it.</param>
    /// <param name="isConstant">Whether a slot is filled before it and stays so.</param>
    public static void Apply(IReadOnlyList<Instruction> instructions, IEnumerable<int> outputs, Func<int, bool> isConstant)
    {
        var plan = new SlotPlan(instructions, outputs, isConstant);
        for (var i = 0; i < instructions.Count; i++)
        {
            instructions[i].Dying = plan.DyingBehind(i);
            if (instructions[i] is SiteInstruction site)
            {
                site.MayOverwrite = plan.MayOverwrite(site, i);
            }
        }
    }

    // A slot that nobody reads dies where it is written.
    private int[] DyingBehind(int at) =>
    [
        .. _instructions[at].Inputs.Concat(_instructions[at].Outputs).Where(slot => slot >= 0 && !_isConstant(slot) && _lastRead[slot] == at).Distinct(),
    ];

    // Where the memory was made by the node before it, and no other value that may be a view of it is read later.
    private bool MayOverwrite(SiteInstruction site, int at) =>
        _made.TryGetValue(site.Input, out var maker)
        && _instructions[maker].MakesMemory
        && _views.Of(site.Input).All(slot => slot == site.Input ? _lastRead[slot] == at : slot != site.Residual && !(Exists(slot, at) && _lastRead[slot] > at));

    private bool Exists(int slot, int at) => !_made.TryGetValue(slot, out var when) || when < at;

    /// <summary>Sets of slots that may share memory.</summary>
    private sealed class SharedSlots
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

using System.Runtime.InteropServices;
using static TorchSharp.torch;

namespace TtaService.Engine.Streams;

/// <summary>Rows in native memory, each allocated when it is taken, so that what is held is what streams hold, plus a few spare rows for the next pass.</summary>
/// <remarks>A step writes its proposed state to a row of its own; committing exchanges the two rows, so that nothing is copied and a failed step leaves the old row as it was.</remarks>
internal sealed unsafe class HostArena(int rowFloats, SpareRows spares) : StateArena(rowFloats)
{
    // A cache line: rows can be read with aligned vectors.
    private const nuint Alignment = 64;

    private readonly List<nint> _rows = [];
    private readonly Stack<int> _spare = [];
    private readonly Stack<int> _unused = [];

    public override long Bytes => (Leased + _spare.Count) * RowBytes;

    public float* Pointer(int row) => (float*)_rows[row];

    public Span<float> Row(int row) => new(Pointer(row), RowFloats);

    public override ReadOnlySpan<float> Read(int row) => Row(row);

    public override RowEdit Edit(int row) => new(Row(row));

    public override void Dispose()
    {
        spares.Drop(_spare.Count * RowBytes);
        foreach (var row in _rows)
        {
            NativeMemory.AlignedFree((void*)row);
        }

        _rows.Clear();
    }

    protected override int Take()
    {
        if (_spare.TryPop(out var spare))
        {
            spares.Drop(RowBytes);
            return spare;
        }

        var memory = RowFloats == 0 ? 0 : (nint)NativeMemory.AlignedAlloc((nuint)RowBytes, Alignment);
        if (!_unused.TryPop(out var row))
        {
            row = _rows.Count;
            _rows.Add(0);
        }

        _rows[row] = memory;
        return row;
    }

    protected override void GiveBack(int row)
    {
        if (spares.TryKeep(RowBytes))
        {
            _spare.Push(row);
            return;
        }

        NativeMemory.AlignedFree((void*)_rows[row]);
        _rows[row] = 0;
        _unused.Push(row);
    }
}

/// <summary>How much memory the host arenas of a model keep for the rows of the next pass, together.</summary>
internal sealed class SpareRows
{
    // The rows that a batch proposes change hands with every pass; past this they go back to the heap.
    private const long MostBytes = 32 << 20;

    private long _bytes;

    public bool TryKeep(long bytes)
    {
        var fits = _bytes + bytes <= MostBytes;
        _bytes += fits ? bytes : 0;
        return fits;
    }

    public void Drop(long bytes) => _bytes -= bytes;
}

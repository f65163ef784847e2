using System.Runtime.InteropServices;
using static TorchSharp.torch;
using Tensor = TorchSharp.torch.Tensor;

namespace TtaService.Engine.Streams;

/// <summary>Rows in native memory, each allocated when it is taken, so that what is held is what streams hold, plus a few spare rows for the next pass.</summary>
/// <remarks>A step writes its proposed state to a row of its own; committing exchanges the two rows, so that nothing is copied and a failed step leaves the old row as it
/// was.</remarks>
internal sealed unsafe class HostArena(int rowFloats, ArenaPool pool) : StateArena(rowFloats)
{
    // A cache line: rows can be read with aligned vectors.
    private const nuint Alignment = 64;

    private readonly List<nint> _rows = [];
    private readonly Stack<int> _spare = [];
    private readonly Stack<int> _unused = [];

    public override int FreeRows => _spare.Count;

    public float* Pointer(int row) => (float*)_rows[row];

    public Span<float> Row(int row) => new(Pointer(row), RowFloats);

    public override Tensor Gather(Tensor rows)
    {
        long[] places = [.. rows.data<long>()];
        var values = new float[places.Length * RowFloats];
        for (var i = 0; i < places.Length; i++)
        {
            Row((int)places[i]).CopyTo(values.AsSpan(i * RowFloats));
        }

        return tensor(values, [places.Length, RowFloats]);
    }

    public override void Scatter(Tensor rows, Tensor values)
    {
        long[] places = [.. rows.data<long>()];
        using var laid = values.contiguous();
        var all = laid.data<float>().ToArray().AsSpan();
        for (var i = 0; i < places.Length; i++)
        {
            all.Slice(i * RowFloats, RowFloats).CopyTo(Row((int)places[i]));
        }
    }

    public override ReadOnlySpan<float> Read(int row) => Row(row);

    public override RowEdit Edit(int row) => new(Row(row));

    public override void Dispose()
    {
        DropSpares();
        foreach (var row in _rows.Where(row => row != 0))
        {
            pool.Held(-RowBytes);
            NativeMemory.AlignedFree((void*)row);
        }

        _rows.Clear();
    }

    /// <summary>Gives the memory of the spare rows back.</summary>
    public void DropSpares()
    {
        while (_spare.TryPop(out var row))
        {
            pool.Drop(RowBytes);
            Free(row);
        }
    }

    protected override int Take(long alsoNeeded)
    {
        if (_spare.TryPop(out var spare))
        {
            pool.Drop(RowBytes);
            return spare;
        }

        var memory = RowFloats == 0 ? 0 : (nint)NativeMemory.AlignedAlloc((nuint)RowBytes, Alignment);
        if (!_unused.TryPop(out var row))
        {
            row = _rows.Count;
            _rows.Add(0);
        }

        _rows[row] = memory;
        pool.Held(RowBytes);
        return row;
    }

    protected override void GiveBack(int row)
    {
        if (pool.TryKeep(RowBytes))
        {
            _spare.Push(row);
        }
        else
        {
            Free(row);
        }
    }

    private void Free(int row)
    {
        NativeMemory.AlignedFree((void*)_rows[row]);
        _rows[row] = 0;
        _unused.Push(row);
        pool.Held(-RowBytes);
    }
}

using System.Runtime.InteropServices;

namespace TtaService.Engine.Streams;

/// <summary>Rows in native memory that grows by chunks and is reused.</summary>
/// <remarks>A step writes its proposed state to a row of its own; committing exchanges the two rows, so that nothing is copied and a failed step leaves the old row as it was.</remarks>
internal sealed unsafe class HostArena(int rowFloats) : StateArena(rowFloats)
{
    private const int ChunkBytes = 4 << 20;

    private readonly int _rowsPerChunk = (int)Math.Max(1, ChunkBytes / Math.Max(1, (long)rowFloats * sizeof(float)));
    private readonly List<nint> _chunks = [];

    public float* Pointer(int row) => (float*)_chunks[row / _rowsPerChunk] + ((long)(row % _rowsPerChunk) * RowFloats);

    public Span<float> Row(int row) => new(Pointer(row), RowFloats);

    public override ReadOnlySpan<float> Read(int row) => Row(row);

    public override RowEdit Edit(int row) => new(Row(row));

    public override void Dispose()
    {
        foreach (var chunk in _chunks)
        {
            NativeMemory.AlignedFree((void*)chunk);
        }

        _chunks.Clear();
    }

    protected override void Grow()
    {
        _chunks.Add((nint)NativeMemory.AlignedAlloc((nuint)_rowsPerChunk * (nuint)RowFloats * sizeof(float), 64));
        Capacity += _rowsPerChunk;
    }
}

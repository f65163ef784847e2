using System.Runtime.InteropServices;

namespace TtaService.Engine.Streams;

/// <summary>Rows of stream state of one layout, in native memory that grows by chunks and is reused. Not thread-safe.</summary>
/// <remarks>A stream holds its row through its <see cref="StreamState"/>, which forgets it when it is given back: a second return finds nothing, and a later stream in the same row has another state object.
/// A step writes its proposed state to a row of its own; committing exchanges the two rows, so that nothing is copied and a failed step leaves the old row as it was.</remarks>
internal sealed unsafe class StateArena(int rowFloats) : IDisposable
{
    private const int ChunkBytes = 4 << 20;

    private readonly int _rowsPerChunk = (int)Math.Max(1, ChunkBytes / Math.Max(1, (long)rowFloats * sizeof(float)));
    private readonly List<nint> _chunks = [];
    private readonly Stack<int> _free = [];
    private int _rows;

    /// <summary>Rows in use.</summary>
    public int Leased { get; private set; }

    /// <summary>Bytes that the arena holds, free rows included.</summary>
    public long Bytes => (long)_chunks.Count * _rowsPerChunk * rowFloats * sizeof(float);

    /// <summary>Takes a row; its content is undefined.</summary>
    public int Rent()
    {
        if (!_free.TryPop(out var row))
        {
            if (_rows == _chunks.Count * _rowsPerChunk)
            {
                _chunks.Add((nint)NativeMemory.AlignedAlloc((nuint)_rowsPerChunk * (nuint)rowFloats * sizeof(float), 64));
            }

            row = _rows++;
        }

        Leased++;
        return row;
    }

    /// <summary>Gives a row back.</summary>
    public void Return(int row)
    {
        _free.Push(row);
        Leased--;
    }

    public float* Pointer(int row) => (float*)_chunks[row / _rowsPerChunk] + ((long)(row % _rowsPerChunk) * rowFloats);

    public Span<float> Row(int row) => new(Pointer(row), rowFloats);

    public void Dispose()
    {
        foreach (var chunk in _chunks)
        {
            NativeMemory.AlignedFree((void*)chunk);
        }

        _chunks.Clear();
        _free.Clear();
        _rows = 0;
    }
}

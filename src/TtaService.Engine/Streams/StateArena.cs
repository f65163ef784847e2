using static TorchSharp.torch;

namespace TtaService.Engine.Streams;

/// <summary>Rows of stream state of one layout. Not thread-safe.</summary>
/// <remarks>A stream holds its row through its <see cref="StreamState"/>, which forgets it when it is given back: a second return finds nothing, and a later stream in the same row has another state object.</remarks>
internal abstract class StateArena(int rowFloats) : IDisposable
{
    private readonly Stack<int> _free = [];
    private int _rows;

    /// <summary>An arena in the host's memory, or on a device.</summary>
    public static StateArena Create(int rowFloats, Device? device) => device is null ? new HostArena(rowFloats) : new DeviceArena(rowFloats, device);

    /// <summary>Floats of a row.</summary>
    public int RowFloats => rowFloats;

    /// <summary>Rows in use.</summary>
    public int Leased { get; private set; }

    /// <summary>Rows that there is memory for.</summary>
    protected int Capacity { get; set; }

    /// <summary>Bytes that the arena holds, free rows included.</summary>
    public long Bytes => (long)Capacity * rowFloats * sizeof(float);

    /// <summary>Takes a row; its content is undefined.</summary>
    public int Rent()
    {
        if (!_free.TryPop(out var row))
        {
            if (_rows == Capacity)
            {
                Grow();
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

    /// <summary>A row's values; of a row on a device a copy, which waits for it.</summary>
    public abstract ReadOnlySpan<float> Read(int row);

    /// <summary>A row to be written as a whole; disposing the edit brings it to where the arena is.</summary>
    public abstract RowEdit Edit(int row);

    public abstract void Dispose();

    /// <summary>Raises <see cref="Capacity"/>.</summary>
    protected abstract void Grow();
}

/// <summary>A row that is being written.</summary>
internal readonly ref struct RowEdit(Span<float> values, Action? done = null)
{
    public Span<float> Values { get; } = values;

    public void Dispose() => done?.Invoke();
}

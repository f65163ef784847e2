using Tensor = TorchSharp.torch.Tensor;

namespace TtaService.Engine.Streams;

/// <summary>Rows of stream state of one size. Not thread-safe.</summary>
/// <remarks>A stream holds its row through its <see cref="StreamState"/>, which forgets it when it is given back: a second return finds nothing, and a later stream in
/// the same row has another state object.</remarks>
internal abstract class StateArena(int rowFloats) : IDisposable
{
    /// <summary>Floats of a row.</summary>
    public int RowFloats => rowFloats;

    /// <summary>Bytes of a row.</summary>
    public long RowBytes => (long)rowFloats * sizeof(float);

    /// <summary>Rows in use.</summary>
    public int Leased { get; private set; }

    /// <summary>Rows that are held and free.</summary>
    public abstract int FreeRows { get; }

    /// <summary>Takes a row; its content is undefined.</summary>
    /// <param name="alsoNeeded">Bytes of the pool's room that are meant for others.</param>
    public int Rent(long alsoNeeded = 0)
    {
        var row = Take(alsoNeeded);
        Leased++;
        return row;
    }

    /// <summary>Gives a row back.</summary>
    public void Return(int row)
    {
        GiveBack(row);
        Leased--;
    }

    /// <summary>Copies of rows, [rows, floats], in the order given, where the arena is.</summary>
    public abstract Tensor Gather(Tensor rows);

    /// <summary>Writes rows, [rows, floats].</summary>
    public abstract void Scatter(Tensor rows, Tensor values);

    /// <summary>A row's values; of a row on a device a copy, which waits for it.</summary>
    public abstract ReadOnlySpan<float> Read(int row);

    /// <summary>A row to be written as a whole; disposing the edit brings it to where the arena is.</summary>
    public abstract RowEdit Edit(int row);

    public abstract void Dispose();

    /// <summary>A free row.</summary>
    protected abstract int Take(long alsoNeeded);

    /// <summary>Frees a row.</summary>
    protected abstract void GiveBack(int row);
}

/// <summary>A row that is being written.</summary>
internal readonly ref struct RowEdit(Span<float> values, Action? done = null)
{
    public Span<float> Values { get; } = values;

    public void Dispose() => done?.Invoke();
}

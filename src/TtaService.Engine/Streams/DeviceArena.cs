using TorchSharp;
using static TorchSharp.torch;

namespace TtaService.Engine.Streams;

/// <summary>Rows in one tensor on a device, so that a pass reads all its rows with one gather and commits them with one scatter.</summary>
/// <remarks>A step's proposed state lies in a tensor of the pass's own; a failed step is left out of the scatter.</remarks>
internal sealed class DeviceArena(int rowFloats, Device device, ArenaPool pool) : StateArena(rowFloats)
{
    // Below this a smaller tensor would hardly save anything.
    private const int FewRows = 16;

    private readonly Stack<int> _free = [];
    private Tensor? _rows;
    private int _capacity;
    private int _used;

    public override int FreeRows => _capacity - Leased;

    /// <summary>Runs before rows are written. Tests put a device here that fails at a chosen point.</summary>
    internal Action? Scattering { get; set; }

    /// <summary>Whether most rows are free, so that <see cref="Compact"/> gives much of the memory back.</summary>
    public bool IsSparse => _capacity > FewRows && Leased < _capacity / 4;

    public override Tensor Gather(Tensor rows) => RowFloats == 0 ? zeros([rows.shape[0], 0], device: device) : _rows!.index_select(0, rows);

    public override void Scatter(Tensor rows, Tensor values)
    {
        Scattering?.Invoke();
        if (RowFloats > 0)
        {
            _rows!.index_copy_(0, rows, values);
        }
    }

    public override ReadOnlySpan<float> Read(int row)
    {
        if (RowFloats == 0)
        {
            return [];
        }

        using var view = _rows![row];
        using var values = view.cpu();
        return values.data<float>().ToArray();
    }

    public override RowEdit Edit(int row)
    {
        var values = new float[RowFloats];
        return new RowEdit(values, () =>
        {
            if (values.Length > 0)
            {
                using var view = _rows![row];
                using var host = tensor(values);
                view.copy_(host);
            }
        });
    }

    public override void Dispose()
    {
        _rows?.Dispose();
        pool.Held(-_capacity * RowBytes);
        _capacity = 0;
    }

    /// <summary>Moves the rows in use together, in the order given, to the places 0, 1, …; all others must be free.</summary>
    public void Compact(IReadOnlyList<int> rows)
    {
        using var places = tensor(rows.Select(row => (long)row).ToArray(), device: device);
        Hold(Math.Max(1, rows.Count), () => rows.Count == 0 ? null : _rows?.index_select(0, places));
        _free.Clear();
        _used = rows.Count;
    }

    protected override int Take(long alsoNeeded)
    {
        if (_free.TryPop(out var row))
        {
            return row;
        }

        if (_used == _capacity)
        {
            // By a quarter where there is room, and copied on the device: a gather needs one tensor.
            var room = RowFloats == 0 ? long.MaxValue : (pool.Room - alsoNeeded) / RowBytes;
            Hold(_capacity + (int)Math.Max(1, Math.Min(_capacity / 4, room)), () => _rows?.alias());
        }

        return _used++;
    }

    protected override void GiveBack(int row) => _free.Push(row);

    private void Hold(int capacity, Func<Tensor?> kept)
    {
        if (RowFloats > 0)
        {
            var held = empty([capacity, RowFloats], ScalarType.Float32, device).DetachFromDisposeScope();
            using (var old = kept())
            {
                if (old is not null)
                {
                    using var start = held.narrow(0, 0, old.shape[0]);
                    start.copy_(old);
                }
            }

            _rows?.Dispose();
            _rows = held;
        }

        pool.Held((capacity - _capacity) * RowBytes);
        _capacity = capacity;
    }
}

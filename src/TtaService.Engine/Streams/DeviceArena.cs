using TorchSharp;
using static TorchSharp.torch;

namespace TtaService.Engine.Streams;

/// <summary>Rows in one tensor on a device, so that a pass reads all its rows with one gather and commits them with one scatter.</summary>
/// <remarks>A step's proposed state lies in a tensor of the pass's own; a failed step is left out of the scatter.</remarks>
internal sealed class DeviceArena(int rowFloats, Device device) : StateArena(rowFloats)
{
    private const int FirstRows = 16;

    private Tensor? _rows;

    /// <summary>Copies of rows, [rows, floats], in the order given.</summary>
    public Tensor Gather(Tensor rows) => RowFloats == 0 ? zeros([rows.shape[0], 0], device: device) : _rows!.index_select(0, rows);

    /// <summary>Writes rows, [rows, floats].</summary>
    public void Scatter(Tensor rows, Tensor values)
    {
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

    public override void Dispose() => _rows?.Dispose();

    // Doubled, and copied on the device: a gather needs one tensor.
    protected override void Grow()
    {
        var capacity = Math.Max(FirstRows, 2 * Capacity);
        if (RowFloats > 0)
        {
            var grown = empty([capacity, RowFloats], ScalarType.Float32, device).DetachFromDisposeScope();
            if (_rows is not null)
            {
                using var kept = grown.narrow(0, 0, Capacity);
                kept.copy_(_rows);
                _rows.Dispose();
            }

            _rows = grown;
        }

        Capacity = capacity;
    }
}

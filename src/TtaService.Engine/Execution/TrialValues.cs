using TorchSharp;
using static TorchSharp.torch;
using Tensor = TorchSharp.torch.Tensor;

namespace TtaService.Engine.Execution;

/// <summary>A tensor's values on the host.</summary>
internal sealed record TrialValues(long[] Shape, float[] Data)
{
    private double? _scale;

    /// <summary>The largest finite magnitude.</summary>
    public double Scale
    {
        get
        {
            if (_scale is null)
            {
                var largest = 0f;
                foreach (var value in Data)
                {
                    largest = float.IsFinite(value) ? Math.Max(largest, Math.Abs(value)) : largest;
                }

                _scale = largest;
            }

            return _scale.Value;
        }
    }

    public static TrialValues Of(Tensor tensor)
    {
        using var host = tensor.to_type(ScalarType.Float32).cpu().contiguous();
        return new TrialValues(tensor.shape, host.data<float>().ToArray());
    }

    public static TrialValues Of(OutputTensor output) => new(Array.ConvertAll(output.Shape, extent => (long)extent), output.Values);

    public TrialValues Part(int axis, long first, long count)
    {
        var inner = Product(Shape[(axis + 1)..]);
        var outer = Product(Shape[..axis]);
        var part = new float[outer * count * inner];
        for (var i = 0L; i < outer; i++)
        {
            Data.AsSpan(checked((int)(((i * Shape[axis]) + first) * inner)), checked((int)(count * inner))).CopyTo(part.AsSpan((int)(i * count * inner)));
        }

        return new TrialValues([.. Shape[..axis], count, .. Shape[(axis + 1)..]], part);
    }

    /// <summary>Whether all values are within the tolerance, relative to the scale of the whole.</summary>
    public bool Agrees(TrialValues other, double tolerance, double? scale = null)
    {
        if (!Shape.AsSpan().SequenceEqual(other.Shape))
        {
            return false;
        }

        var limit = tolerance * (scale ?? Math.Max(Scale, other.Scale));
        for (var i = 0; i < Data.Length; i++)
        {
            if (Data[i] != other.Data[i] && !(float.IsNaN(Data[i]) && float.IsNaN(other.Data[i])) && !(Math.Abs((double)Data[i] - other.Data[i]) <= limit))
            {
                return false;
            }
        }

        return true;
    }

    private static long Product(long[] extents) => extents.Aggregate(1L, (product, extent) => product * extent);
}

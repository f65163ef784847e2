using TorchSharp;
using TtaService.Engine.Tensors;
using static TorchSharp.torch;

namespace TtaService.Engine.Onnx.Operators;

/// <summary>GridSample, of maps and volumes: the published formulas by gathers, so that every mode and padding is there.</summary>
internal static class Sampling
{
    public static IEnumerable<Operator> All { get; } = [new("GridSample", ["align_corners", "mode", "padding_mode"], GridSample)];

    private static Kernel GridSample(Node node)
    {
        var mode = node.Text("mode", "linear") switch { "bilinear" => "linear", "bicubic" => "cubic", var given => given };
        var padding = node.Text("padding_mode", "zeros");
        var corners = node.Int("align_corners", 0) != 0;
        if (mode is not ("linear" or "nearest" or "cubic"))
        {
            node.Refuse($"mode '{mode}' is not known");
        }

        if (padding is not ("zeros" or "border" or "reflection"))
        {
            node.Refuse($"padding_mode '{padding}' is not known");
        }

        return inputs =>
        {
            var (x, grid) = (inputs[0]!, inputs[1]!.to(ScalarType.Float32, inputs[0]!.device));
            var rank = (int)x.dim() - 2;
            var (frames, channels) = (x.shape[0], x.shape[1]);
            var taps = new List<(Tensor At, Tensor Weight)>[rank];
            for (var axis = 0; axis < rank; axis++)
            {
                // The grid names the last axis first.
                var extent = x.shape[axis + 2];
                using var given = grid.select(-1, rank - 1 - axis).reshape(frames, -1);
                var position = corners ? given.Plus(1L).Times((extent - 1) / 2.0) : given.Plus(1L).Times(extent / 2.0).Minus(0.5);
                taps[axis] = [.. Taps(position, extent).Select(tap => Placed(tap.At, tap.Weight, extent))];
            }

            using var flat = x.reshape(frames, channels, -1);
            Tensor? y = null;
            foreach (var (at, weight) in Products(taps, 0, x.shape[2..]))
            {
                using var index = at.unsqueeze(1).expand(frames, channels, at.shape[1]);
                using var share = weight.unsqueeze(1).to_type(x.dtype);
                var part = flat.gather(2, index).mul_(share);
                y = y is null ? part : y.AddInPlace(part);
            }

            return [y!.reshape([frames, channels, .. grid.shape[1..^1]])];
        };

        IEnumerable<(Tensor At, Tensor Weight)> Taps(Tensor position, long extent)
        {
            if (mode == "cubic")
            {
                var origin = position.floor();
                var beyond = position - origin;
                for (var k = -1; k <= 2; k++)
                {
                    yield return (origin.Plus((long)k), Cubic(beyond.Minus(k).abs()));
                }

                yield break;
            }

            // Interpolation of a place that was moved inside; a cubic's taps are moved one by one.
            var inside = padding switch { "border" => position.ClampInPlace(0, extent - 1), "reflection" => Reflected(position, extent), _ => position };
            if (mode == "nearest")
            {
                yield return (inside.round(), ones_like(inside));
                yield break;
            }

            var low = inside.floor();
            var right = inside - low;
            yield return (low, right.OneMinus());
            yield return (low.Plus(1L), right);
        }

        (Tensor At, Tensor Weight) Placed(Tensor at, Tensor weight, long extent)
        {
            var moved = mode == "cubic" && padding == "reflection" ? Reflected(at, extent) : at;
            var within = padding == "zeros" ? weight * moved.Clamped(0, extent - 1).eq(moved).to_type(weight.dtype) : weight;
            // Whole numbers before they are bounded: what is no number is none of the map's places either.
            using var whole = moved.to_type(ScalarType.Int64);
            using var first = tensor(0L);
            using var last = tensor(extent - 1);
            using var atLeast = whole.maximum(first);
            return (atLeast.minimum(last), within);
        }

        Tensor Reflected(Tensor position, long extent)
        {
            var (low, span) = corners ? (0.0, extent - 1.0) : (-0.5, (double)extent);
            if (span == 0)
            {
                return zeros_like(position);
            }

            var distance = position.Minus(low).abs();
            var flips = distance.Over(span).floor();
            var rest = distance - flips.Times(span);
            var odd = (flips - flips.Times(0.5).floor().Times(2)).IsGreater(0.5);
            return where(odd, rest.neg().Plus(span), rest).Plus(low).ClampInPlace(0, extent - 1);
        }
    }

    // All combinations of one tap an axis, as places in a flat map.
    private static IEnumerable<(Tensor At, Tensor Weight)> Products(List<(Tensor At, Tensor Weight)>[] taps, int axis, long[] extents)
    {
        var stride = extents[(axis + 1)..].Aggregate(1L, (product, extent) => product * extent);
        foreach (var (at, weight) in taps[axis])
        {
            var place = stride == 1 ? at : at * tensor(stride).to(at.device);
            if (axis == taps.Length - 1)
            {
                yield return (place, weight);
                continue;
            }

            foreach (var (inner, share) in Products(taps, axis + 1, extents))
            {
                yield return (place.Plus(inner), weight * share);
            }
        }
    }

    private static Tensor Clamped(this Tensor x, double low, double high) => x.clone().ClampInPlace(low, high);

    // The convolution kernel with a = -0.75, at distances below 2.
    private static Tensor Cubic(Tensor distance)
    {
        const double a = -0.75;
        var near = distance.Times(a + 2).Minus(a + 3).mul_(distance).mul_(distance).Plus(1L);
        var far = distance.Minus(5).mul_(distance).Plus(8L).mul_(distance).Minus(4).Times(a);
        return where(distance.IsGreater(1L), far, near);
    }
}

using TorchSharp;
using TtaService.Engine.Tensors;
using static TorchSharp.torch;

namespace TtaService.Engine.Onnx.Operators;

/// <summary>Resize and Upsample: separable interpolation, one small matrix an axis, so that every coordinate mode is the published formula.</summary>
internal static class Resizing
{
    public static IEnumerable<Operator> All { get; } =
    [
        new(
            "Resize",
            ["coordinate_transformation_mode", "cubic_coeff_a", "exclude_outside", "mode", "nearest_mode", "antialias", "axes", "extrapolation_value", "keep_aspect_ratio_policy"],
            Resize),
        new("Upsample", ["mode", "scales"], Resize),
    ];

    private static Kernel Resize(Node node)
    {
        var upsample = node.Type == "Upsample" || node.Opset < 11;
        var mode = node.Text("mode", "nearest");
        var coordinates = upsample ? "asymmetric" : node.Text("coordinate_transformation_mode", "half_pixel");
        var nearest = upsample ? "floor" : node.Text("nearest_mode", "round_prefer_floor");
        var a = node.Float("cubic_coeff_a", -0.75f);
        var excludeOutside = node.Int("exclude_outside", 0) != 0;
        if (mode is not ("nearest" or "linear" or "cubic"))
        {
            node.Refuse($"mode '{mode}' is not supported");
        }

        if (coordinates
            is not ("half_pixel" or "asymmetric" or "align_corners" or "pytorch_half_pixel" or "half_pixel_symmetric" or "tf_half_pixel_for_nn" or "tf_crop_and_resize"))
        {
            node.Refuse($"coordinate_transformation_mode '{coordinates}' is not supported");
        }

        var antialias = node.Int("antialias", 0) != 0;
        var policy = node.Text("keep_aspect_ratio_policy", "stretch");
        var crops = coordinates == "tf_crop_and_resize";
        var beyond = node.Float("extrapolation_value", 0);
        if (policy is not ("stretch" or "not_larger" or "not_smaller"))
        {
            node.Refuse($"keep_aspect_ratio_policy '{policy}' is not known");
        }

        return inputs =>
        {
            var x = inputs[0]!;
            var rank = (int)x.dim();
            var scalesAt = upsample ? 1 : 2;
            var scales = node.Floats("scales") ?? (inputs.Length > scalesAt && inputs[scalesAt] is { } s && s.numel() > 0 ? s.Singles() : null);
            var sizes = !upsample && inputs.Length > 3 ? inputs[3]?.Longs() : null;
            var axes = node.Ints("axes") ?? [.. Enumerable.Range(0, rank).Select(axis => (long)axis)];
            var region = crops ? inputs[1]!.Singles() : null;
            if (sizes is not null && policy != "stretch")
            {
                var ratios = axes.Select((axis, i) => (double)sizes[i] / x.shape[(int)HostValues.Axis(axis, rank)]);
                var common = policy == "not_larger" ? ratios.Min() : ratios.Max();
                sizes = [.. axes.Select(axis => (long)Math.Floor((common * x.shape[(int)HostValues.Axis(axis, rank)]) + 0.5))];
            }

            var y = x.alias();
            for (var i = 0; i < axes.Length; i++)
            {
                var axis = HostValues.Axis(axes[i], rank);
                var input = x.shape[(int)axis];
                var output = sizes is not null ? sizes[i] : (long)Math.Floor((double)input * scales![i]);
                var scale = sizes is not null ? (double)output / input : scales![i];
                // The published formulas take the length before it is rounded down.
                var length = sizes is not null ? output : input * scale;
                (double From, double To)? part = region is null ? null : (region[i], region[i + axes.Length]);
                if (output == input && scale == 1 && part is null or (0, 1))
                {
                    continue;
                }

                using var old = y;
                if (mode == "nearest")
                {
                    long[] rows = [.. Enumerable.Range(0, (int)output).Select(o => Nearest(At(o), input, nearest))];
                    using var index = tensor(rows).to(x.device);
                    y = old.index_select(axis, index);
                }
                else
                {
                    using var weights = tensor(Weights(mode, input, output, At, antialias ? Math.Min(1, scale) : 1, a, excludeOutside), [input, output]).to(x.dtype, x.device);
                    using var last = old.transpose(axis, -1);
                    using var product = MatrixProduct.Of(last, weights);
                    y = product.transpose(axis, -1);
                }

                if (part is not null)
                {
                    y = Extrapolated(y, axis, [.. Enumerable.Range(0, (int)output).Select(o => !(At(o) >= 0 && At(o) <= input - 1))], beyond);
                }

                double At(long o) => part is { } crop ? Cropped(o, input, output, crop.From, crop.To) : Position(o, input, length, scale, coordinates);
            }

            return [y];
        };
    }

    private static double Cropped(long o, long input, long output, double from, double to) =>
        output > 1 ? (from * (input - 1)) + (o * (to - from) * (input - 1) / (output - 1)) : 0.5 * (from + to) * (input - 1);

    private static Tensor Extrapolated(Tensor y, long axis, bool[] outside, float value)
    {
        if (!outside.Contains(true))
        {
            return y;
        }

        using var inner = y;
        long[] along = [.. Enumerable.Repeat(1L, (int)y.dim())];
        along[axis] = outside.Length;
        using var mask = tensor(outside, along).to(y.device);
        using var fill = tensor(value).to(y.dtype, y.device);
        return where(mask, fill, inner);
    }

    private static double Position(long o, long input, double length, double scale, string coordinates) => coordinates switch
    {
        "asymmetric" => o / scale,
        "align_corners" => length == 1 ? 0 : o * (input - 1.0) / (length - 1),
        "pytorch_half_pixel" => length > 1 ? ((o + 0.5) / scale) - 0.5 : 0,
        "tf_half_pixel_for_nn" => (o + 0.5) / scale,
        "half_pixel_symmetric" => ((o + 0.5) / scale) - 0.5 + (input / 2.0 * (1 - (Math.Floor(length) / length))),
        _ => ((o + 0.5) / scale) - 0.5,
    };

    private static long Nearest(double position, long input, string mode) => Math.Clamp(
        (long)(mode switch
        {
            "floor" => Math.Floor(position),
            "ceil" => Math.Ceiling(position),
            "round_prefer_ceil" => Math.Floor(position + 0.5),
            _ => Math.Ceiling(position - 0.5),
        }),
        0,
        input - 1);

    // [input, output]. A shrinking antialiased axis takes a filter that is wider by 1 / narrowing.
    private static float[] Weights(string mode, long input, long output, Func<long, double> positions, double narrowing, double a, bool excludeOutside)
    {
        var weights = new float[input * output];
        var reach = (long)Math.Ceiling((mode == "cubic" ? 2 : 1) / narrowing);
        var filtered = narrowing < 1;
        for (var o = 0L; o < output; o++)
        {
            // What lies so far outside has the weights of the border, or is extrapolated.
            var position = Math.Clamp(positions(o), -1e15, 1e15);
            var origin = (long)Math.Floor(position);
            var taps = new List<(long At, double Weight)>();
            for (var k = origin - reach + 1; k <= origin + reach; k++)
            {
                var distance = Math.Abs(position - k) * narrowing;
                var weight = mode == "cubic" ? Cubic(distance, a) : Math.Max(0, 1 - distance);
                if (!excludeOutside || (k >= 0 && k < input))
                {
                    taps.Add((Math.Clamp(k, 0, input - 1), weight));
                }
            }

            var total = excludeOutside || filtered ? taps.Sum(tap => tap.Weight) : 1;
            foreach (var (at, weight) in taps)
            {
                weights[(at * output) + o] += (float)(weight / total);
            }
        }

        return weights;
    }

    private static double Cubic(double d, double a) => d switch
    {
        <= 1 => ((((a + 2) * d) - (a + 3)) * d * d) + 1,
        < 2 => (((((d - 5) * d) + 8) * d) - 4) * a,
        _ => 0,
    };
}

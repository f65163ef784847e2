using TorchSharp;
using TtaService.Engine.Tensors;
using static TorchSharp.torch;

namespace TtaService.Engine.Onnx.Operators;

/// <summary>MaxPool, AveragePool, LpPool and their global forms.</summary>
internal static class Pooling
{
    private static readonly string[] Shared = ["auto_pad", "ceil_mode", "dilations", "kernel_shape", "pads", "strides"];

    public static IEnumerable<Operator> All { get; } =
    [
        new("MaxPool", [.. Shared, "storage_order"], MaxPool),
        new("MaxUnpool", ["kernel_shape", "pads", "strides"], MaxUnpool),
        new("AveragePool", [.. Shared, "count_include_pad"], AveragePool),
        new("LpPool", [.. Shared, "p"], LpPool),
        new("GlobalAveragePool", [], _ => inputs => [inputs[0]!.mean(Spatial(inputs[0]!), keepdim: true)]),
        new("GlobalMaxPool", [], _ => inputs => [inputs[0]!.amax(Spatial(inputs[0]!), keepdim: true)]),
        new("GlobalLpPool", ["p"], node =>
        {
            var p = node.Int("p", 2);
            return inputs => [inputs[0]!.abs().Power(p).sum(Spatial(inputs[0]!), keepdim: true).Power(1.0 / p)];
        }),
    ];

    private static long[] Spatial(Tensor x) => [.. Enumerable.Range(2, (int)x.dim() - 2).Select(axis => (long)axis)];

    private static Kernel MaxPool(Node node)
    {
        var window = new Window(node, null);
        var ceil = node.Int("ceil_mode", 0) != 0;
        var byColumns = node.Int("storage_order", 0) != 0;
        if (node.Outputs > 1)
        {
            return inputs => WithIndices(inputs[0]!, window, ceil, byColumns);
        }

        return inputs =>
        {
            using var x = inputs[0]!.is_floating_point() ? inputs[0]!.alias() : inputs[0]!.to_type(ScalarType.Float64);
            var rank = (int)x.dim() - 2;
            var plan = Plan(window, x, ceil);
            using var padded = plan.Padded(x, double.NegativeInfinity);
            using var pooled = rank switch
            {
                1 => nn.functional.max_pool1d(padded, window.Kernel![0], plan.Strides[0], 0, plan.Dilations[0]),
                2 => nn.functional.max_pool2d(padded, window.Kernel!, plan.Strides, [0, 0], plan.Dilations),
                _ => nn.functional.max_pool3d(padded, window.Kernel!, plan.Strides, [0, 0, 0], plan.Dilations),
            };
            return [inputs[0]!.is_floating_point() ? pooled.alias() : pooled.to_type(inputs[0]!.dtype)];
        };
    }

    // The second output counts in the whole of the input, by rows or by columns of a map.
    private static Tensor[] WithIndices(Tensor given, Window window, bool ceil, bool byColumns)
    {
        using var x = given.is_floating_point() ? given.alias() : given.to_type(ScalarType.Float64);
        var rank = (int)x.dim() - 2;
        var plan = Plan(window, x, ceil);
        using var padded = plan.Padded(x, double.NegativeInfinity);
        var (pooled, places) = rank switch
        {
            1 => nn.functional.max_pool1d_with_indices(padded, window.Kernel![0], plan.Strides[0], 0, plan.Dilations[0]),
            2 => nn.functional.max_pool2d_with_indices(padded, window.Kernel!, plan.Strides, [0, 0], plan.Dilations),
            _ => nn.functional.max_pool3d_with_indices(padded, window.Kernel!, plan.Strides, [0, 0, 0], plan.Dilations),
        };
        var (input, at, values) = (x.shape[2..], padded.shape[2..], places.Longs());
        var (map, maps) = (input.Aggregate(1L, (product, extent) => product * extent), values.LongLength / Math.Max(1, x.shape[0] * x.shape[1]));
        for (var i = 0L; i < values.LongLength; i++)
        {
            var (rest, place) = (values[i], 0L);
            for (var (axis, stride) = (rank - 1, byColumns ? map : 1L); axis >= 0; axis--)
            {
                stride = byColumns ? stride / input[axis] : stride;
                place += ((rest % at[axis]) - plan.Pads[axis]) * stride;
                stride = byColumns ? stride : stride * input[axis];
                rest /= at[axis];
            }

            values[i] = (i / maps * map) + place;
        }

        return [pooled.to_type(given.dtype), tensor(values, places.shape).to(given.device)];
    }

    private static Kernel MaxUnpool(Node node)
    {
        var window = new Window(node, null);
        return inputs =>
        {
            var x = inputs[0]!;
            var rank = (int)x.dim() - 2;
            var (strides, pads) = (window.Strides(rank), window.Pads(x.shape[2..], window.Kernel!));
            long[] shape = [x.shape[0], x.shape[1], .. Enumerable.Range(0, rank).Select(i => ((x.shape[i + 2] - 1) * strides[i]) - pads[i] - pads[i + rank] + window.Kernel![i])];
            using var flat = zeros([shape.Aggregate(1L, (product, extent) => product * extent)], x.dtype, x.device);
            using var places = inputs[1]!.reshape(-1).to(x.device);
            using var values = x.reshape(-1);
            using var y = flat.scatter(0, places, values).reshape(shape);
            if (inputs.Length < 3 || inputs[2] is not { } wanted)
            {
                return [y.alias()];
            }

            // The places count in the smallest output that can be; a larger one has zeros behind it.
            var whole = wanted.Longs();
            long[] more = new long[2 * whole.Length];
            for (var i = 0; i < whole.Length; i++)
            {
                more[(2 * (whole.Length - 1 - i)) + 1] = whole[i] - shape[i];
            }

            return [nn.functional.pad(y, more)];
        };
    }

    private static Kernel AveragePool(Node node)
    {
        var window = new Window(node, null);
        var ceil = node.Int("ceil_mode", 0) != 0;
        var includePad = node.Int("count_include_pad", 0) != 0;
        return inputs =>
        {
            var x = inputs[0]!;
            var plan = Plan(window, x, ceil);
            using var sums = Sum(plan, window, x);
            if (!includePad || plan.HasOverhang || plan.Dilations.Any(d => d != 1))
            {
                // How many values each window holds: pads count only if asked for, the overhang of ceil_mode never does.
                using var ones = torch.ones([1, 1, .. x.shape.AsSpan(2)], x.dtype, x.device);
                using var counted = includePad ? plan.Padded(ones, 1, overhang: false) : null;
                using var counts = Sum(includePad ? plan.WithoutPads() : plan, window, counted ?? ones);
                return [sums / counts];
            }

            return [sums.Over(window.Kernel!.Aggregate(1L, (product, extent) => product * extent))];
        };
    }

    private static Kernel LpPool(Node node)
    {
        var window = new Window(node, null);
        var ceil = node.Int("ceil_mode", 0) != 0;
        var p = node.Int("p", 2);
        return inputs =>
        {
            using var powers = inputs[0]!.abs().Power(p);
            using var sums = Sum(Plan(window, powers, ceil), window, powers);
            return [sums.Power(1.0 / p)];
        };
    }

    // Sliding sums by a grouped convolution with ones: exact, and it knows dilation, which torch's average pooling does not.
    private static Tensor Sum(PoolPlan plan, Window window, Tensor x)
    {
        var rank = (int)x.dim() - 2;
        var channels = x.shape[1];
        using var padded = plan.Padded(x, 0);
        using var kernel = torch.ones([channels, 1, .. window.Kernel!], x.dtype, x.device);
        if (plan.Dilations.All(d => d == 1) && rank == 2)
        {
            using var average = nn.functional.avg_pool2d(padded, window.Kernel!, plan.Strides, [0, 0]);
            return average.Times(window.Kernel![0] * window.Kernel[1]);
        }

        return rank switch
        {
            1 => nn.functional.conv1d(padded, kernel, null, plan.Strides[0], 0, plan.Dilations[0], channels),
            2 => nn.functional.conv2d(padded, kernel, null, plan.Strides, [0, 0], plan.Dilations, channels),
            _ => nn.functional.conv3d(padded, kernel, null, plan.Strides, [0, 0, 0], plan.Dilations, channels),
        };
    }

    private static PoolPlan Plan(Window window, Tensor x, bool ceil)
    {
        var rank = (int)x.dim() - 2;
        var input = x.shape[2..];
        var pads = (long[])window.Pads(input, window.Kernel!).Clone();
        var (strides, dilations) = (window.Strides(rank), window.Dilations(rank));
        var overhang = new long[rank];
        for (var i = 0; i < rank && ceil; i++)
        {
            var span = input[i] + pads[i] + pads[i + rank] - ((window.Kernel![i] - 1) * dilations[i]) - 1;
            var output = ((span + strides[i] - 1) / strides[i]) + 1;
            // A last window that would start in the end pad is dropped, as torch does and later opsets ask.
            if ((output - 1) * strides[i] >= input[i] + pads[i])
            {
                output--;
            }

            overhang[i] = Math.Max(0, ((output - 1) * strides[i]) - span);
        }

        return new PoolPlan(strides, dilations, pads, overhang);
    }

    private sealed record PoolPlan(long[] Strides, long[] Dilations, long[] Pads, long[] Overhang)
    {
        public bool HasOverhang => Overhang.Any(extent => extent > 0);

        public PoolPlan WithoutPads() => this with { Pads = new long[Pads.Length] };

        public Tensor Padded(Tensor x, double value, bool overhang = true)
        {
            var rank = Strides.Length;
            var pads = (long[])Pads.Clone();
            for (var i = 0; i < rank && overhang; i++)
            {
                pads[i + rank] += Overhang[i];
            }

            return pads.All(pad => pad == 0) ? x.alias() : nn.functional.pad(x, Window.TorchPads(pads), PaddingModes.Constant, value);
        }
    }
}

using TorchSharp;
using TtaService.Engine.Tensors;
using static TorchSharp.torch;

namespace TtaService.Engine.Onnx.Operators;

/// <summary>Slices, gathers, scatters and TopK.</summary>
internal static class Indexing
{
    public static IEnumerable<Operator> All { get; } =
    [
        new("Slice", ["axes", "ends", "starts"], Slice),
        new("Gather", ["axis"], node =>
        {
            var axis = node.Int("axis", 0);
            return inputs =>
            {
                var (x, indices) = (inputs[0]!, inputs[1]!.to(inputs[0]!.device));
                var at = (int)HostValues.Axis(axis, x.dim());
                using var wrapped = Wrap(indices, x.shape[at]);
                using var flat = wrapped.reshape(-1);
                using var rows = x.index_select(at, flat);
                return [rows.reshape([.. x.shape[..at], .. indices.shape, .. x.shape[(at + 1)..]])];
            };
        }),
        new("GatherElements", ["axis"], node =>
        {
            var axis = node.Int("axis", 0);
            return inputs => [inputs[0]!.gather(axis, Wrap(inputs[1]!, inputs[0]!.shape[(int)HostValues.Axis(axis, inputs[0]!.dim())]).to(inputs[0]!.device))];
        }),
        new("GatherND", ["batch_dims"], GatherND),
        new("Scatter", ["axis"], ScatterElements),
        new("ScatterElements", ["axis", "reduction"], ScatterElements),
        new("ScatterND", ["reduction"], ScatterND),
        new("TopK", ["axis", "k", "largest", "sorted"], node =>
        {
            var (axis, largest, sorted) = (node.Int("axis", -1), node.Int("largest", 1) != 0, node.Int("sorted", 1) != 0);
            return inputs =>
            {
                var k = inputs.Length > 1 ? inputs[1]!.Longs()[0] : node.Int("k", 1);
                var (values, indices) = inputs[0]!.topk(checked((int)k), checked((int)axis), largest, sorted);
                return [values, indices];
            };
        }),
        new("NonZero", [], _ => inputs => [inputs[0]!.nonzero().t()]),
    ];

    private static Tensor Wrap(Tensor indices, long extent) => where(indices.IsLess(0L), indices.Plus(extent), indices);

    private static Kernel GatherND(Node node)
    {
        var batch = (int)node.Int("batch_dims", 0);
        return inputs =>
        {
            var (x, indices) = (inputs[0]!, inputs[1]!.to(inputs[0]!.device));
            var depth = (int)indices.shape[^1];
            var frames = x.shape[..batch].Aggregate(1L, (product, extent) => product * extent);
            using var flat = indices.reshape(frames, -1, depth);
            using var rows = x.reshape([frames, .. x.shape[batch..]]);
            var at = new TensorIndex[depth + 1];
            at[0] = TensorIndex.Tensor(tensor(Counting(frames), [frames, 1]).to(x.device));
            for (var i = 0; i < depth; i++)
            {
                at[i + 1] = TensorIndex.Tensor(Wrap(flat.select(-1, i), x.shape[batch + i]));
            }

            using var found = rows.index(at);
            return [found.reshape([.. indices.shape[..^1], .. x.shape[(batch + depth)..]])];
        };
    }

    private static Kernel ScatterElements(Node node)
    {
        var axis = node.Int("axis", 0);
        var reduction = Reduction(node);
        return inputs =>
        {
            var (x, updates) = (inputs[0]!, inputs[2]!.to(inputs[0]!.device));
            var at = (int)HostValues.Axis(axis, x.dim());
            var indices = Wrap(inputs[1]!, x.shape[at]).to(x.device);
            if (reduction is "none" or "add")
            {
                return [reduction == "add" ? x.scatter_add(axis, indices, updates) : x.scatter(axis, indices, updates)];
            }

            // Of each update the place in the flat data.
            var strides = Strides(x.shape);
            using var stride = tensor(strides[at]);
            using var places = indices * stride;
            for (var i = 0; i < x.dim(); i++)
            {
                if (i != at)
                {
                    long[] along = [.. Enumerable.Repeat(1L, (int)x.dim())];
                    along[i] = indices.shape[i];
                    using var steps = tensor([.. Counting(indices.shape[i]).Select(step => step * strides[i])], along).to(x.device);
                    places.AddInPlace(steps);
                }
            }

            return [Reduced(x, places, updates, 1, reduction)];
        };
    }

    private static Kernel ScatterND(Node node)
    {
        var reduction = Reduction(node);
        return inputs =>
        {
            var (x, indices) = (inputs[0]!, inputs[1]!);
            var depth = (int)indices.shape[^1];
            var at = new Tensor[depth];
            for (var i = 0; i < depth; i++)
            {
                at[i] = Wrap(indices.select(-1, i), x.shape[i]).to(x.device);
            }

            if (reduction is "none" or "add")
            {
                return [x.clone().index_put_(inputs[2]!.to(x.device), at, accumulate: reduction == "add")];
            }

            var strides = Strides(x.shape);
            using var places = zeros(indices.shape[..^1], ScalarType.Int64, x.device);
            for (var i = 0; i < depth; i++)
            {
                using var stride = tensor(strides[i]);
                places.AddInPlace(at[i] * stride);
            }

            return [Reduced(x, places, inputs[2]!, x.shape.Skip(depth).Aggregate(1L, (product, extent) => product * extent), reduction)];
        };
    }

    private static string Reduction(Node node)
    {
        var reduction = node.Text("reduction", "none");
        if (reduction is not ("none" or "add" or "mul" or "min" or "max"))
        {
            node.Refuse($"reduction '{reduction}' is not known");
        }

        return reduction;
    }

    // One update behind the other, on the host: the order counts where places repeat.
    private static Tensor Reduced(Tensor x, Tensor places, Tensor updates, long block, string reduction)
    {
        return x.is_floating_point()
            ? tensor(Apply(x.Singles(), updates.Singles()), x.shape).to(x.dtype, x.device)
            : tensor(Apply(x.Longs(), updates.Longs()), x.shape).to(x.dtype, x.device);

        T[] Apply<T>(T[] data, T[] values)
            where T : struct, System.Numerics.INumber<T>
        {
            var at = places.Longs();
            for (var i = 0L; i < values.LongLength; i++)
            {
                ref var place = ref data[at[i / block] + (i % block)];
                place = reduction switch { "mul" => place * values[i], "min" => T.Min(place, values[i]), _ => T.Max(place, values[i]) };
            }

            return data;
        }
    }

    private static long[] Counting(long count) => [.. Enumerable.Range(0, checked((int)count)).Select(i => (long)i)];

    private static long[] Strides(long[] shape)
    {
        var strides = new long[shape.Length];
        for (var (i, stride) = (shape.Length - 1, 1L); i >= 0; stride *= shape[i], i--)
        {
            strides[i] = stride;
        }

        return strides;
    }

    private static Kernel Slice(Node node) => inputs =>
    {
        var x = inputs[0]!;
        var starts = node.Ints("starts") ?? inputs[1]!.Longs();
        var ends = node.Ints("ends") ?? inputs[2]!.Longs();
        var axes = node.Ints("axes") ?? (inputs.Length > 3 ? inputs[3]?.Longs() : null) ?? [.. Enumerable.Range(0, starts.Length).Select(axis => (long)axis)];
        var steps = (inputs.Length > 4 ? inputs[4]?.Longs() : null) ?? [.. Enumerable.Repeat(1L, starts.Length)];
        var y = x.alias();
        for (var i = 0; i < axes.Length; i++)
        {
            var axis = HostValues.Axis(axes[i], x.dim());
            var extent = x.shape[(int)axis];
            var backwards = steps[i] < 0;
            var start = Math.Clamp(starts[i] < 0 ? starts[i] + extent : starts[i], 0, backwards ? extent - 1 : extent);
            var end = Math.Clamp(ends[i] < 0 ? Math.Max(ends[i], long.MinValue + extent) + extent : ends[i], backwards ? -1 : 0, extent);
            using var old = y;
            if (!backwards)
            {
                y = old.slice(axis, start, Math.Max(start, end), steps[i]);
                continue;
            }

            using var flipped = old.flip(axis);
            y = flipped.slice(axis, extent - 1 - start, Math.Max(extent - 1 - start, extent - 1 - end), -steps[i]);
        }

        return [y];
    };
}

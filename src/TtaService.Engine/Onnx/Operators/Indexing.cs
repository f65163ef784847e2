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
            return inputs => [inputs[0]!.gather(axis, Wrap(inputs[1]!, inputs[0]!.shape[(int)HostValues.Axis(axis, inputs[0]!.dim())]))];
        }),
        new("ScatterElements", ["axis", "reduction"], node =>
        {
            var axis = node.Int("axis", 0);
            if (node.Text("reduction", "none") is var reduction && reduction is not ("none" or "add"))
            {
                node.Refuse($"reduction '{reduction}' is not supported");
            }

            var adds = reduction == "add";
            return inputs =>
            {
                var indices = Wrap(inputs[1]!, inputs[0]!.shape[(int)HostValues.Axis(axis, inputs[0]!.dim())]);
                return [adds ? inputs[0]!.scatter_add(axis, indices, inputs[2]!) : inputs[0]!.scatter(axis, indices, inputs[2]!)];
            };
        }),
        new("GatherND", ["batch_dims"], node =>
        {
            if (node.Int("batch_dims", 0) != 0)
            {
                node.Refuse("batch_dims other than 0 is not supported");
            }

            return inputs =>
            {
                var (x, indices) = (inputs[0]!, inputs[1]!);
                var depth = indices.shape[^1];
                var at = new TensorIndex[depth];
                for (var i = 0; i < depth; i++)
                {
                    at[i] = TensorIndex.Tensor(Wrap(indices.select(-1, i), x.shape[i]));
                }

                return [x.index(at)];
            };
        }),
        new("ScatterND", ["reduction"], node =>
        {
            if (node.Text("reduction", "none") is var reduction && reduction is not ("none" or "add"))
            {
                node.Refuse($"reduction '{reduction}' is not supported");
            }

            var adds = reduction == "add";
            return inputs =>
            {
                var y = inputs[0]!.clone();
                var indices = inputs[1]!;
                var at = new Tensor[indices.shape[^1]];
                for (var i = 0; i < at.Length; i++)
                {
                    at[i] = Wrap(indices.select(-1, i), y.shape[i]).to(y.device);
                }

                return [y.index_put_(inputs[2]!, at, accumulate: adds)];
            };
        }),
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

using TorchSharp;
using TtaService.Engine.Tensors;
using static TorchSharp.torch;

namespace TtaService.Engine.Onnx.Operators;

/// <summary>Reductions along axes; the axes came as an attribute first and as an input later.</summary>
internal static class Reductions
{
    private delegate Tensor Reduction(Tensor x, long[] axes, bool keep);

    public static IEnumerable<Operator> All { get; } =
    [
        Reduce("ReduceMean", (x, axes, keep) => x.mean(axes, keep)),
        Reduce("ReduceSum", (x, axes, keep) => x.sum(axes, keep)),
        Reduce("ReduceMax", (x, axes, keep) => x.amax(axes, keep)),
        Reduce("ReduceMin", (x, axes, keep) => x.amin(axes, keep)),
        Reduce("ReduceProd", (x, axes, keep) => axes.OrderDescending().Aggregate(x.alias(), (y, axis) => y.prod(axis, keep))),
        Reduce("ReduceL1", (x, axes, keep) => x.abs().sum(axes, keep)),
        Reduce("ReduceL2", (x, axes, keep) => (x * x).sum(axes, keep).sqrt()),
        Reduce("ReduceSumSquare", (x, axes, keep) => (x * x).sum(axes, keep)),
        Reduce("ReduceLogSum", (x, axes, keep) => x.sum(axes, keep).log()),
        Reduce("ReduceLogSumExp", (x, axes, keep) => (x - x.amax(axes, keepdim: true)).exp().sum(axes, keep).log().Plus(x.amax(axes, keep))),
        Arg("ArgMax", (x, axis, keep) => x.argmax(axis, keep)),
        Arg("ArgMin", (x, axis, keep) => x.argmin(axis, keep)),
        new("CumSum", ["exclusive", "reverse"], node =>
        {
            var (exclusive, reverse) = (node.Int("exclusive", 0) != 0, node.Int("reverse", 0) != 0);
            return inputs =>
            {
                var axis = inputs[1]!.Longs()[0];
                using var x = reverse ? inputs[0]!.flip(axis) : inputs[0]!.alias();
                var y = x.cumsum(axis);
                y = exclusive ? y - x : y;
                return [reverse ? y.flip(axis) : y];
            };
        }),
    ];

    private static Operator Reduce(string type, Reduction run) => new(type, ["axes", "keepdims", "noop_with_empty_axes"], node =>
    {
        var given = node.Ints("axes");
        var keep = node.Int("keepdims", 1) != 0;
        var noop = node.Int("noop_with_empty_axes", 0) != 0;
        return inputs =>
        {
            var x = inputs[0]!;
            var axes = given ?? (inputs.Length > 1 ? inputs[1]?.Longs() : null) ?? [];
            if (axes.Length == 0)
            {
                if (noop)
                {
                    return [x.alias()];
                }

                axes = [.. Enumerable.Range(0, (int)x.dim()).Select(axis => (long)axis)];
            }

            return [axes.Length == 0 ? x.alias() : run(x, [.. axes.Select(axis => HostValues.Axis(axis, x.dim()))], keep)];
        };
    });

    private static Operator Arg(string type, Func<Tensor, long, bool, Tensor> run) => new(type, ["axis", "keepdims", "select_last_index"], node =>
    {
        var (axis, keep, last) = (node.Int("axis", 0), node.Int("keepdims", 1) != 0, node.Int("select_last_index", 0) != 0);
        return inputs =>
        {
            var x = inputs[0]!;
            if (!last)
            {
                return [run(x, axis, keep)];
            }

            using var flipped = x.flip(HostValues.Axis(axis, x.dim()));
            using var found = run(flipped, axis, keep);
            return [found.neg().Plus(x.shape[(int)HostValues.Axis(axis, x.dim())] - 1)];
        };
    });
}

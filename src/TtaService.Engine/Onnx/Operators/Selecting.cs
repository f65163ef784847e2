using TorchSharp;
using TtaService.Engine.Tensors;
using static TorchSharp.torch;

namespace TtaService.Engine.Onnx.Operators;

/// <summary>OneHot, Compress, EyeLike, ReverseSequence and Unique.</summary>
internal static class Selecting
{
    public static IEnumerable<Operator> All { get; } =
    [
        new("OneHot", ["axis"], node =>
        {
            var axis = node.Int("axis", -1);
            return inputs =>
            {
                var depth = inputs[1]!.Longs()[0];
                using var indices = inputs[0]!.to_type(ScalarType.Int64);
                using var wrapped = where(indices.IsLess(0L), indices.Plus(depth), indices);
                var at = HostValues.Axis(axis, indices.dim() + 1);
                using var spread = wrapped.unsqueeze(at);
                long[] along = [.. Enumerable.Repeat(1L, (int)indices.dim() + 1)];
                along[at] = depth;
                using var classes = tensor([.. Enumerable.Range(0, checked((int)depth)).Select(i => (long)i)], along).to(indices.device);
                using var values = inputs[2]!.to(indices.device);
                return [where(spread.eq(classes), values.select(0, 1), values.select(0, 0))];
            };
        }),
        new("Compress", ["axis"], node =>
        {
            long? axis = node.Has("axis") ? node.Int("axis", 0) : null;
            return inputs =>
            {
                long[] chosen = [.. inputs[1]!.Longs().Select((taken, i) => (taken, i)).Where(pair => pair.taken != 0).Select(pair => (long)pair.i)];
                using var rows = tensor(chosen, [chosen.Length]).to(inputs[0]!.device);
                using var x = axis is null ? inputs[0]!.reshape(-1) : inputs[0]!.alias();
                return [x.index_select(axis ?? 0, rows)];
            };
        }),
        new("EyeLike", ["dtype", "k"], node =>
        {
            var k = node.Int("k", 0);
            var type = node.Has("dtype") ? Shapes.ElementType(node, (Wire.TensorProto.Types.DataType)node.Int("dtype", 0)) : (ScalarType?)null;
            return inputs =>
            {
                var (rows, columns) = (inputs[0]!.shape[0], inputs[0]!.shape[1]);
                var eye = new float[rows * columns];
                for (var row = Math.Max(0, -k); row < rows && row + k < columns; row++)
                {
                    eye[(row * columns) + row + k] = 1;
                }

                return [tensor(eye, [rows, columns]).to(type ?? inputs[0]!.dtype, inputs[0]!.device)];
            };
        }),
        new("ReverseSequence", ["batch_axis", "time_axis"], node =>
        {
            var (batchAxis, timeAxis) = (node.Int("batch_axis", 1), node.Int("time_axis", 0));
            return inputs =>
            {
                var x = inputs[0]!;
                var (batch, time) = ((int)HostValues.Axis(batchAxis, x.dim()), (int)HostValues.Axis(timeAxis, x.dim()));
                var (lengths, steps) = (inputs[1]!.Longs(), x.shape[time]);
                var sources = new long[lengths.Length * steps];
                for (var row = 0; row < lengths.Length; row++)
                {
                    for (var t = 0L; t < steps; t++)
                    {
                        sources[time < batch ? (t * lengths.Length) + row : (row * steps) + t] = t < lengths[row] ? lengths[row] - 1 - t : t;
                    }
                }

                long[] along = [.. Enumerable.Repeat(1L, (int)x.dim())];
                (along[batch], along[time]) = (lengths.Length, steps);
                using var index = tensor(sources, along).to(x.device);
                using var spread = index.expand(x.shape);
                return [x.gather(time, spread)];
            };
        }),
        new("Unique", ["axis", "sorted"], node =>
        {
            long? axis = node.Has("axis") ? node.Int("axis", 0) : null;
            var sorted = node.Int("sorted", 1) != 0;
            return inputs =>
            {
                using var x = axis is null ? inputs[0]!.reshape(-1) : inputs[0]!.alias();
                var at = HostValues.Axis(axis ?? 0, x.dim());
                var count = x.shape[(int)at];
                using var rows = x.transpose(0, at).reshape(count, -1);
                var groups = x.is_floating_point() ? Groups(rows.Singles(), count) : Groups(rows.Longs(), count);
                if (!sorted)
                {
                    groups.Sort((a, b) => a[0].CompareTo(b[0]));
                }

                var inverse = new long[count];
                for (var group = 0; group < groups.Count; group++)
                {
                    groups[group].ForEach(row => inverse[row] = group);
                }

                long[] first = [.. groups.Select(group => (long)group[0])];
                using var chosen = tensor(first, [first.Length]).to(x.device);
                return [x.index_select(at, chosen), tensor(first, [first.Length]), tensor(inverse, [count]), tensor(
                    [.. groups.Select(group => (long)group.Count)],
                    [first.Length])];
            };
        }),
    ];

    // Rows that are equal, each group in the order of the data, the groups in that of their values.
    private static List<List<int>> Groups<T>(T[] values, long count)
        where T : IComparable<T>
    {
        var width = count == 0 ? 0 : values.Length / (int)count;
        int[] order = [.. Enumerable.Range(0, (int)count)];
        Array.Sort(order, (a, b) => Compare(a, b) is not 0 and var difference ? difference : a.CompareTo(b));
        var groups = new List<List<int>>();
        foreach (var row in order)
        {
            if (groups.Count == 0 || Compare(groups[^1][0], row) != 0)
            {
                groups.Add([]);
            }

            groups[^1].Add(row);
        }

        return groups;

        int Compare(int a, int b) => values.AsSpan(a * width, width).SequenceCompareTo(values.AsSpan(b * width, width));
    }
}

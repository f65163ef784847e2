using TorchSharp;
using TtaService.Engine.Tensors;
using static TorchSharp.torch;
using DataType = TtaService.Engine.Onnx.Wire.TensorProto.Types.DataType;

namespace TtaService.Engine.Onnx.Operators;

/// <summary>Shapes, layout, types and constants. Shape values are int64 tensors in host memory, so that reading them never waits for a device.</summary>
internal static class Shapes
{
    public static IEnumerable<Operator> All { get; } =
    [
        new("Shape", ["start", "end"], node =>
        {
            var (start, end) = (node.Int("start", 0), node.Int("end", long.MaxValue));
            return inputs =>
            {
                var shape = inputs[0]!.shape;
                var from = (int)Math.Clamp(HostValues.Axis(start, shape.Length), 0, shape.Length);
                var to = (int)Math.Clamp(HostValues.Axis(end, shape.Length), from, shape.Length);
                return [tensor(shape[from..to])];
            };
        }),
        new("Size", [], _ => inputs => [tensor(inputs[0]!.numel())]),
        new("Reshape", ["allowzero"], node =>
        {
            var allowZero = node.Int("allowzero", 0) != 0;
            return inputs =>
            {
                var shape = inputs[1]!.Longs();
                for (var i = 0; i < shape.Length && !allowZero; i++)
                {
                    shape[i] = shape[i] == 0 ? inputs[0]!.shape[i] : shape[i];
                }

                return [inputs[0]!.reshape(shape)];
            };
        }),
        new("Flatten", ["axis"], node =>
        {
            var axis = node.Int("axis", 1);
            return inputs =>
            {
                var rows = inputs[0]!.shape.Take((int)HostValues.Axis(axis, inputs[0]!.dim())).Aggregate(1L, (product, extent) => product * extent);
                return [inputs[0]!.reshape(rows, inputs[0]!.numel() / Math.Max(1, rows))];
            };
        }),
        new("Squeeze", ["axes"], node => inputs =>
        {
            var x = inputs[0]!;
            var axes = node.Ints("axes") ?? (inputs.Length > 1 ? inputs[1]?.Longs() : null)
                ?? [.. Enumerable.Range(0, (int)x.dim()).Where(axis => x.shape[axis] == 1).Select(axis => (long)axis)];
            var dropped = axes.Select(axis => HostValues.Axis(axis, x.dim())).ToHashSet();
            return [x.reshape([.. x.shape.Where((_, axis) => !dropped.Contains(axis))])];
        }),
        new("Unsqueeze", ["axes"], node => inputs =>
        {
            var x = inputs[0]!;
            var axes = node.Ints("axes") ?? inputs[1]!.Longs();
            var rank = x.dim() + axes.Length;
            var y = x.alias();
            foreach (var axis in axes.Select(axis => HostValues.Axis(axis, rank)).Order())
            {
                using var old = y;
                y = old.unsqueeze(axis);
            }

            return [y];
        }),
        new("Transpose", ["perm"], node =>
        {
            var order = node.Ints("perm");
            return inputs => [inputs[0]!.permute(order ?? [.. Enumerable.Range(0, (int)inputs[0]!.dim()).Reverse().Select(axis => (long)axis)])];
        }),
        new("Expand", [], _ => inputs =>
        {
            var x = inputs[0]!;
            var wanted = inputs[1]!.Longs();
            var rank = Math.Max(wanted.Length, x.shape.Length);
            var shape = new long[rank];
            for (var i = 1; i <= rank; i++)
            {
                var own = i <= x.shape.Length ? x.shape[^i] : 1;
                var asked = i <= wanted.Length ? wanted[^i] : 1;
                shape[^i] = asked == 1 ? own : asked;
            }

            return [x.expand(shape)];
        }),
        new("Tile", [], _ => inputs => [inputs[0]!.tile(inputs[1]!.Longs())]),
        new("Identity", [], _ => inputs => [inputs[0]!.alias()]),
        new("Concat", ["axis"], node =>
        {
            var axis = node.Int("axis", 0);
            return inputs => [cat(inputs!, axis)];
        }),
        new("Split", ["axis", "split", "num_outputs"], node =>
        {
            var (axis, outputs) = (node.Int("axis", 0), node.Outputs);
            return inputs =>
            {
                var x = inputs[0]!;
                var extent = x.shape[(int)HostValues.Axis(axis, x.dim())];
                var sizes = node.Ints("split") ?? (inputs.Length > 1 ? inputs[1]?.Longs() : null);
                if (sizes is null)
                {
                    var each = (extent + outputs - 1) / outputs;
                    sizes = [.. Enumerable.Range(0, outputs).Select(i => Math.Min(each, extent - (i * each)))];
                }

                return x.split(sizes, axis);
            };
        }),
        new("Pad", ["mode", "pads", "value"], Pad),
        new("DepthToSpace", ["blocksize", "mode"], node =>
        {
            var (block, crd) = (node.Int("blocksize", 1), node.Text("mode", "DCR") == "CRD");
            return inputs =>
            {
                var x = inputs[0]!;
                var (n, c, h, w) = (x.shape[0], x.shape[1] / (block * block), x.shape[2], x.shape[3]);
                return [crd
                    ? x.reshape(n, c, block, block, h, w).permute(0, 1, 4, 2, 5, 3).reshape(n, c, h * block, w * block)
                    : x.reshape(n, block, block, c, h, w).permute(0, 3, 4, 1, 5, 2).reshape(n, c, h * block, w * block)];
            };
        }),
        new("SpaceToDepth", ["blocksize"], node =>
        {
            var block = node.Int("blocksize", 1);
            return inputs =>
            {
                var x = inputs[0]!;
                var (n, c, h, w) = (x.shape[0], x.shape[1], x.shape[2] / block, x.shape[3] / block);
                return [x.reshape(n, c, h, block, w, block).permute(0, 3, 5, 1, 2, 4).reshape(n, c * block * block, h, w)];
            };
        }),
        new("Cast", ["to", "saturate"], node =>
        {
            var to = ElementType(node, (DataType)node.Int("to", 0));
            return inputs => [inputs[0]!.to_type(to)];
        }),
        new("CastLike", ["saturate"], _ => inputs => [inputs[0]!.to_type(inputs[1]!.dtype)]),
        new("Constant", ["value", "value_float", "value_floats", "value_int", "value_ints"], Constant),
        new("ConstantOfShape", ["value"], node =>
        {
            var value = node.TensorValue("value") is { } proto ? new TensorDecoder("").Decode(proto).DetachFromDisposeScope() : tensor(0f).DetachFromDisposeScope();
            return inputs =>
            {
                var shape = inputs[0]!.Longs();
                using var scalar = value.reshape([]);
                return [scalar.expand(shape).contiguous()];
            };
        }),
        new("Range", [], _ => inputs =>
        {
            var (start, limit, delta) = (inputs[0]!, inputs[1]!, inputs[2]!);
            return [TensorMath.Steps(start, limit, delta)];
        }),
        new("Trilu", ["upper"], node =>
        {
            var upper = node.Int("upper", 1) != 0;
            return inputs =>
            {
                var k = inputs.Length > 1 && inputs[1] is { } diagonal ? diagonal.Longs()[0] : 0;
                return [upper ? inputs[0]!.triu(k) : inputs[0]!.tril(k)];
            };
        }),
    ];

    private static Kernel Pad(Node node)
    {
        var mode = node.Text("mode", "constant");
        if (mode is not ("constant" or "reflect" or "edge"))
        {
            node.Refuse($"mode '{mode}' is not supported");
        }

        return inputs =>
        {
            var x = inputs[0]!;
            var rank = (int)x.dim();
            var given = node.Ints("pads") ?? inputs[1]!.Longs();
            var axes = inputs.Length > 3 && inputs[3] is { } some
                ? [.. some.Longs().Select(axis => HostValues.Axis(axis, rank))]
                : Enumerable.Range(0, rank).Select(axis => (long)axis).ToArray();
            var pads = new long[2 * rank];
            for (var i = 0; i < axes.Length; i++)
            {
                pads[axes[i]] = given[i];
                pads[axes[i] + rank] = given[i + axes.Length];
            }

            if (mode == "constant")
            {
                var value = inputs.Length > 2 && inputs[2] is { } fill ? fill.to_type(ScalarType.Float64).item<double>() : node.Float("value", 0);
                return [nn.functional.pad(x, Window.TorchPads(pads), PaddingModes.Constant, value)];
            }

            // Index by index: torch reflects and repeats only some ranks.
            var y = x.alias();
            for (var axis = 0; axis < rank; axis++)
            {
                if (pads[axis] == 0 && pads[axis + rank] == 0)
                {
                    continue;
                }

                var extent = x.shape[axis];
                long[] rows = [.. Enumerable.Range(0, (int)(extent + pads[axis] + pads[axis + rank])).Select(i => Source(i - pads[axis], extent, mode))];
                using var old = y;
                using var index = tensor(rows).to(x.device);
                y = old.index_select(axis, index);
            }

            return [y];
        };
    }

    private static long Source(long i, long extent, string mode)
    {
        if (mode == "edge" || extent == 1)
        {
            return Math.Clamp(i, 0, extent - 1);
        }

        var period = 2 * (extent - 1);
        var position = ((i % period) + period) % period;
        return position < extent ? position : period - position;
    }

    private static Kernel Constant(Node node)
    {
        var value = node.TensorValue("value") is { } proto ? new TensorDecoder("").Decode(proto)
            : node.Has("value_float") ? tensor(node.Float("value_float", 0))
            : node.Has("value_int") ? tensor(node.Int("value_int", 0))
            : node.Floats("value_floats") is { Length: > 0 } floats ? tensor(floats)
            : tensor(node.Ints("value_ints") ?? []);
        value.DetachFromDisposeScope();
        return _ => [value.alias()];
    }

    public static ScalarType ElementType(Node node, DataType type)
    {
        switch (type)
        {
            case DataType.Float or DataType.Float16 or DataType.Bfloat16 or DataType.Double:
                return ScalarType.Float32;
            case DataType.Int64 or DataType.Int32 or DataType.Int16 or DataType.Int8 or DataType.Uint8 or DataType.Uint16 or DataType.Uint32 or DataType.Uint64:
                return ScalarType.Int64;
            case DataType.Bool:
                return ScalarType.Bool;
            default:
                node.Refuse($"casts to {type}, which is not supported");
                return ScalarType.Float32;
        }
    }
}

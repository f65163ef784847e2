using TorchSharp;
using TtaService.Engine.Tensors;
using static TorchSharp.torch;
using DataType = TtaService.Engine.Onnx.Wire.TensorProto.Types.DataType;

namespace TtaService.Engine.Onnx.Operators;

/// <summary>QuantizeLinear, DequantizeLinear and DynamicQuantizeLinear. Quantized activations are whole numbers in the type of the activations, which holds all of 8 bits
/// exactly.</summary>
internal static class Quantization
{
    public static IEnumerable<Operator> All { get; } =
    [
        new("QuantizeLinear", ["axis", "block_size", "output_dtype", "saturate", "precision"], Quantize),
        new("DequantizeLinear", ["axis", "block_size", "output_dtype"], Dequantize),
        new("DynamicQuantizeLinear", [], _ => inputs =>
        {
            // One scale for all of the tensor, 0 always in its range.
            using var x = inputs[0]!.to_type(ScalarType.Float32);
            using var high = x.max().AtLeast(0);
            using var low = x.min().neg().AtLeast(0);
            using var range = high.Plus(low).Over(255.0);
            var scale = where(range.IsGreater(0L), range, ones_like(range));
            var zero = (low / scale).round_().ClampInPlace(0, 255);
            return [(x / scale).round_().AddInPlace(zero).ClampInPlace(0, 255), scale, zero];
        }),
    ];

    private static Kernel Quantize(Node node)
    {
        RefuseBlocks(node);
        var axis = node.Int("axis", 1);
        var type = (DataType)node.Int("output_dtype", 0);
        (double Low, double High) range = type switch
        {
            DataType.Undefined or DataType.Uint8 => (0, 255),
            DataType.Int8 => (-128, 127),
            DataType.Uint16 => (0, 65535),
            DataType.Int16 => (-32768, 32767),
            _ => default,
        };
        if (range == default)
        {
            node.Refuse($"quantizes to {type}, which is not supported; use int8 or uint8");
        }

        var zeroPoint = node.HasInput(2);
        return inputs =>
        {
            var x = inputs[0]!;
            using var wide = x.to_type(ScalarType.Float32);
            using var scale = Along(inputs[1]!, wide, axis);
            // Half to even, as ONNX asks.
            var y = wide.div(scale).round_();
            if (zeroPoint)
            {
                using var zero = Along(inputs[2]!, wide, axis);
                y.AddInPlace(zero);
            }

            return [y.ClampInPlace(range.Low, range.High).to_type(type is DataType.Uint16 or DataType.Int16 || !x.is_floating_point() ? ScalarType.Float32 : x.dtype)];
        };
    }

    private static Kernel Dequantize(Node node)
    {
        RefuseBlocks(node);
        var axis = node.Int("axis", 1);
        var zeroPoint = node.HasInput(2);
        return inputs =>
        {
            using var x = inputs[0]!.to(ScalarType.Float32, inputs[1]!.device);
            using var scale = Along(inputs[1]!, x, axis);
            using var zero = zeroPoint ? Along(inputs[2]!, x, axis) : null;
            using var centred = zero is null ? x.alias() : x - zero;
            return [(centred * scale).to_type(inputs[1]!.dtype)];
        };
    }

    private static void RefuseBlocks(Node node)
    {
        if (node.Int("block_size", 0) != 0)
        {
            node.Refuse("block_size is not supported; quantize per tensor or per channel");
        }
    }

    // A parameter so that it broadcasts: one value, one for each index of the axis, or a tensor of x's rank.
    private static Tensor Along(Tensor parameter, Tensor x, long axis)
    {
        using var single = parameter.to(ScalarType.Float32, x.device);
        if (parameter.numel() == 1)
        {
            return single.reshape([]);
        }

        if (parameter.dim() != 1)
        {
            return single.alias();
        }

        long[] shape = [.. Enumerable.Repeat(1L, (int)x.dim())];
        shape[(int)HostValues.Axis(axis, x.dim())] = parameter.numel();
        return single.reshape(shape);
    }
}

using TorchSharp;
using TtaService.Engine.Tensors;
using static TorchSharp.torch;

namespace TtaService.Engine.Onnx.Operators;

/// <summary>Conv and ConvTranspose, 1-D to 3-D.</summary>
internal static class Convolutions
{
    private static readonly string[] Shared = ["auto_pad", "dilations", "group", "kernel_shape", "pads", "strides"];

    public static IEnumerable<Operator> All { get; } =
    [
        new("Conv", Shared, Conv),
        new("ConvTranspose", [.. Shared, "output_padding", "output_shape"], ConvTranspose),
    ];

    private static Kernel Conv(Node node)
    {
        var window = new Window(node, node.Constant(1)?.shape[2..]);
        var groups = node.Int("group", 1);
        return inputs =>
        {
            var (x, w, b) = (inputs[0]!, inputs[1]!, inputs.Length > 2 ? inputs[2] : null);
            var rank = (int)x.dim() - 2;
            var kernel = w.shape[2..];
            var (strides, dilations) = (window.Strides(rank), window.Dilations(rank));
            var pads = window.Pads(x.shape[2..], kernel);
            var symmetric = Enumerable.Range(0, rank).All(i => pads[i] == pads[i + rank]);
            using var padded = symmetric ? null : nn.functional.pad(x, Window.TorchPads(pads));
            long[] padding = symmetric ? pads[..rank] : new long[rank];
            var input = padded ?? x;
            return rank switch
            {
                1 => [nn.functional.conv1d(input, w, b, strides[0], padding[0], dilations[0], groups)],
                2 => [nn.functional.conv2d(input, w, b, strides, padding, dilations, groups)],
                _ => [nn.functional.conv3d(input, w, b, strides, padding, dilations, groups)],
            };
        };
    }

    private static Kernel ConvTranspose(Node node)
    {
        var window = new Window(node, node.Constant(1)?.shape[2..]);
        var groups = node.Int("group", 1);
        var extra = node.Ints("output_padding");
        var wanted = node.Ints("output_shape");
        return inputs =>
        {
            var (x, w, b) = (inputs[0]!, inputs[1]!, inputs.Length > 2 ? inputs[2] : null);
            var rank = (int)x.dim() - 2;
            var (strides, dilations) = (window.Strides(rank), window.Dilations(rank));
            var kernel = w.shape[2..];
            var outputPadding = extra ?? new long[rank];

            // Full size first, then the pads are cut off: that covers asymmetric pads and output_shape alike.
            using var full = rank switch
            {
                1 => nn.functional.conv_transpose1d(x, w, b, strides[0], 0, 0, dilations[0], groups),
                2 => nn.functional.conv_transpose2d(x, w, b, strides, new long[2], new long[2], dilations, groups),
                _ => nn.functional.conv_transpose3d(x, w, b, strides, new long[3], new long[3], dilations, groups),
            };
            var y = full.alias();
            for (var i = 0; i < rank; i++)
            {
                var size = (strides[i] * (x.shape[i + 2] - 1)) + outputPadding[i] + ((kernel[i] - 1) * dilations[i]) + 1;
                var output = wanted is { } shape ? shape[shape.Length - rank + i] : window.TransposedSize(i, x.shape[i + 2], size);
                var cut = size - output;
                var begin = window.TransposedBegin(i, cut);
                var grow = Math.Max(0, begin + output - y.shape[i + 2]);
                var old = y;
                if (grow > 0)
                {
                    // output_padding adds values that no input reaches: the bias alone.
                    var pads = new long[2 * rank];
                    pads[(2 * (rank - 1 - i)) + 1] = grow;
                    y = nn.functional.pad(y, pads);
                    if (b is not null)
                    {
                        long[] perChannel = [1, -1, .. Enumerable.Repeat(1L, rank)];
                        using var tail = y.narrow(i + 2, y.shape[i + 2] - grow, grow);
                        using var bias = b.view(perChannel);
                        tail.AddInPlace(bias);
                    }

                    old.Dispose();
                    old = y;
                }

                y = old.narrow(i + 2, begin, output);
                old.Dispose();
            }

            return [y];
        };
    }
}

using TorchSharp;
using TtaService.Engine.Tensors;
using static TorchSharp.torch;

namespace TtaService.Engine.Onnx.Operators;

/// <summary>Normalizations that are no adaptation sites, and what inference leaves out.</summary>
internal static class Normalizations
{
    public static IEnumerable<Operator> All { get; } =
    [
        new("InstanceNormalization", ["epsilon"], node =>
        {
            var epsilon = node.Float("epsilon", 1e-5f);
            return inputs => [nn.functional.instance_norm(inputs[0]!, weight: inputs[1], bias: inputs[2], use_input_stats: true, eps: epsilon)];
        }),
        // With parameters known at load time it is a site, which the graph's compiler takes.
        new("BatchNormalization", ["epsilon", "momentum", "spatial", "training_mode"], node =>
        {
            if (node.Int("training_mode", 0) != 0 || node.Outputs > 1)
            {
                node.Refuse("is in training mode; export the model in evaluation mode");
            }

            var epsilon = node.Float("epsilon", 1e-5f);
            if (node.Int("spatial", 1) == 0)
            {
                // Until opset 8: statistics for each place of a channel.
                return inputs => [((inputs[0]! - inputs[3]!) / inputs[4]!.Plus(epsilon).sqrt_() * inputs[1]!).AddInPlace(inputs[2]!)];
            }

            return inputs => [nn.functional.batch_norm(inputs[0]!, inputs[3]!, inputs[4]!, inputs[1], inputs[2], training: false, eps: epsilon)];
        }),
        new("LayerNormalization", ["axis", "epsilon", "stash_type"], node =>
        {
            var (axis, epsilon, outputs) = (node.Int("axis", -1), node.Float("epsilon", 1e-5f), node.Outputs);
            return inputs =>
            {
                var x = inputs[0]!;
                var shape = x.shape[(int)HostValues.Axis(axis, x.dim())..];
                using var weight = inputs[1]!.expand(shape);
                using var bias = inputs.Length > 2 ? inputs[2]?.expand(shape) : null;
                var y = nn.functional.layer_norm(x, shape, weight, bias, epsilon);
                if (outputs == 1)
                {
                    return [y];
                }

                long[] axes = [.. Enumerable.Range((int)(x.dim() - shape.Length), shape.Length).Select(i => (long)i)];
                var mean = x.mean(axes, keepdim: true);
                using var centered = x - mean;
                return [y, mean, centered.Squared().mean(axes, keepdim: true).Plus(epsilon).rsqrt()];
            };
        }),
        new("GroupNormalization", ["epsilon", "num_groups", "stash_type"], node =>
        {
            var (groups, epsilon) = (node.Int("num_groups", 1), node.Float("epsilon", 1e-5f));
            var perGroup = node.Opset < 21;
            return inputs =>
            {
                var x = inputs[0]!;
                var repeat = x.shape[1] / groups;
                using var weight = perGroup ? inputs[1]!.repeat_interleave(repeat) : inputs[1]!.alias();
                using var bias = perGroup ? inputs[2]!.repeat_interleave(repeat) : inputs[2]!.alias();
                return [nn.functional.group_norm(x, groups, weight, bias, epsilon)];
            };
        }),
        new("MeanVarianceNormalization", ["axes"], node =>
        {
            var axes = node.Ints("axes") ?? [0, 2, 3];
            return inputs =>
            {
                using var mean = inputs[0]!.mean(axes, keepdim: true);
                var centered = inputs[0]! - mean;
                using var deviation = centered.Squared().mean(axes, keepdim: true).sqrt_();
                return [centered.div_(deviation.Plus(1e-9))];
            };
        }),
        new("LpNormalization", ["axis", "p"], node =>
        {
            var (axis, p) = (node.Int("axis", -1), node.Int("p", 2));
            return inputs =>
            {
                using var norm = p == 1 ? inputs[0]!.abs().sum([axis], keepdim: true) : inputs[0]!.Squared().sum([axis], keepdim: true).sqrt_();
                return [inputs[0]! / norm];
            };
        }),
        new("LRN", ["alpha", "beta", "bias", "size"], node =>
        {
            var (alpha, beta, bias, size) = (node.Float("alpha", 1e-4f), node.Float("beta", 0.75f), node.Float("bias", 1), node.Int("size", 1));
            return inputs =>
            {
                var x = inputs[0]!;
                using var squares = (x * x).unsqueeze(1);
                long[] pads = [.. new long[2 * ((int)x.dim() - 2)], (size - 1) / 2, size / 2];
                using var padded = nn.functional.pad(squares, pads);
                using var sums = padded.unfold(2, size, 1).sum([-1L]).squeeze(1);
                return [x / sums.Times(alpha / size).Plus(bias).Power(beta)];
            };
        }),
        new("Dropout", ["ratio", "seed"], node =>
        {
            var dropsNothing = node.HasInput(1) && node.Constant(1) is { } ratio && ratio.Singles() is [0];
            if (!dropsNothing && node.HasInput(2) && (node.Constant(2) is not { } training || training.Longs() is not [0]))
            {
                node.Refuse("training_mode is set, or known only at run time; export the model in evaluation mode");
            }

            // The mask tells that all was kept.
            var masks = node.Outputs > 1;
            return inputs => masks ? [inputs[0]!.alias(), ones(inputs[0]!.shape, ScalarType.Bool, inputs[0]!.device)] : [inputs[0]!.alias()];
        }),
    ];
}

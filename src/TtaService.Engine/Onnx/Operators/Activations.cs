using TorchSharp;
using TtaService.Engine.Tensors;
using static TorchSharp.torch;

namespace TtaService.Engine.Onnx.Operators;

/// <summary>Point-wise activations, and the softmax family.</summary>
internal static class Activations
{
    public static IEnumerable<Operator> All { get; } =
    [
        Point("Relu", x => x.relu()),
        Point("Sigmoid", x => x.sigmoid()),
        Point("Tanh", x => x.tanh()),
        Point("Softplus", x => x.Softplus()),
        Point("Softsign", x => x / x.abs().Plus(1L)),
        Point("HardSwish", x => nn.functional.hardswish(x)),
        Point("Mish", x => x * x.Softplus().tanh_()),
        Point("Erf", x => x.erf()),
        new("LeakyRelu", ["alpha"], node => Alpha(node, 0.01f, (x, alpha) => x.LeakyRelu(alpha))),
        new("Elu", ["alpha"], node => Alpha(node, 1, (x, alpha) => x.Elu(alpha))),
        new("Celu", ["alpha"], node => Alpha(node, 1, (x, alpha) => x.Celu(alpha))),
        new("ThresholdedRelu", ["alpha"], node => Alpha(node, 1, (x, alpha) => x * x.IsGreater(alpha).to_type(x.dtype))),
        new("Selu", ["alpha", "gamma"], node =>
        {
            var (alpha, gamma) = (node.Float("alpha", 1.6732632f), node.Float("gamma", 1.050701f));
            return inputs => [inputs[0]!.Elu(alpha, gamma)];
        }),
        new("HardSigmoid", ["alpha", "beta"], node =>
        {
            var (alpha, beta) = (node.Float("alpha", 0.2f), node.Float("beta", 0.5f));
            return inputs => [inputs[0]!.Times(alpha).Plus(beta).ClampInPlace(0, 1)];
        }),
        new("Shrink", ["bias", "lambd"], node =>
        {
            var (bias, limit) = (node.Float("bias", 0), node.Float("lambd", 0.5f));
            return inputs => [where(inputs[0]!.IsLess(-limit), inputs[0]!.Plus(bias), where(inputs[0]!.IsGreater(limit), inputs[0]!.Minus(bias), zeros_like(inputs[0]!)))];
        }),
        new("Gelu", ["approximate"], node =>
        {
            var tanh = node.Text("approximate", "none") == "tanh";
            return inputs => [tanh
                ? inputs[0]!.Times(0.5) * inputs[0]!.AddScaled(inputs[0]!.Power(3L), 0.044715).Times(Math.Sqrt(2 / Math.PI)).tanh().Plus(1L)
                : inputs[0]!.Times(0.5) * inputs[0]!.Times(1 / Math.Sqrt(2)).erf().Plus(1L)];
        }),
        new("PRelu", [], _ => inputs =>
        {
            // ONNX broadcasts the slope from the right.
            var (x, slope) = (inputs[0]!, inputs[1]!);
            return [where(x.IsLess(0L), x * slope, x)];
        }),
        new("Clip", ["min", "max"], Clip),
        new("Softmax", ["axis"], node => Softmax(node, (x, axis) => x.softmax(axis))),
        new("LogSoftmax", ["axis"], node => Softmax(node, (x, axis) => x.log_softmax(axis))),
        new("Hardmax", ["axis"], node => Softmax(node, (x, axis) => zeros_like(x).scatter_(axis, x.argmax(axis, keepdim: true), ones_like(x)))),
    ];

    private static Operator Point(string type, Func<Tensor, Tensor> run) => new(type, [], _ => inputs => [run(inputs[0]!)]);

    private static Kernel Alpha(Node node, float missing, Func<Tensor, double, Tensor> run)
    {
        var alpha = node.Float("alpha", missing);
        return inputs => [run(inputs[0]!, alpha)];
    }

    private static Kernel Clip(Node node)
    {
        var (low, high) = Bounds(node);
        return inputs =>
        {
            using var min = low is { } known ? tensor(known) : inputs.Length > 1 ? inputs[1]?.alias() : null;
            using var max = high is { } limit ? tensor(limit) : inputs.Length > 2 ? inputs[2]?.alias() : null;
            return [inputs[0]!.Clamp(min, max)];
        };
    }

    /// <summary>A Clip's bounds as far as they are known at load time.</summary>
    public static (float? Low, float? High) Bounds(Node node)
    {
        if (node.Opset < 11)
        {
            return (node.Float("min", float.MinValue), node.Float("max", float.MaxValue));
        }

        return (Single(node.Constant(1)), Single(node.Constant(2)));

        static float? Single(Tensor? constant) => constant is null || constant.dtype != ScalarType.Float32 ? null : constant.Singles()[0];
    }

    // Before opset 13 the tensor is seen as two axes, split at `axis`.
    private static Kernel Softmax(Node node, Func<Tensor, long, Tensor> run)
    {
        var axis = node.Int("axis", node.Opset < 13 ? 1 : -1);
        if (node.Opset >= 13)
        {
            return inputs => [run(inputs[0]!, axis)];
        }

        return inputs =>
        {
            var x = inputs[0]!;
            var split = (int)HostValues.Axis(axis, x.dim());
            using var flat = x.reshape(x.shape.Take(split).Aggregate(1L, (product, extent) => product * extent), -1);
            using var y = run(flat, 1);
            return [y.reshape(x.shape)];
        };
    }
}

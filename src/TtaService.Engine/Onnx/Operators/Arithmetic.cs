using TorchSharp;
using TtaService.Engine.Tensors;
using static TorchSharp.torch;

namespace TtaService.Engine.Onnx.Operators;

/// <summary>Element-wise arithmetic, comparison and logic, with NumPy's broadcasting.</summary>
internal static class Arithmetic
{
    public static IEnumerable<Operator> All { get; } =
    [
        Pair("Add", (a, b) => a.Plus(b)),
        Pair("Sub", (a, b) => a - b),
        Pair("Mul", (a, b) => a * b),
        Pair("Div", Divide),
        Pair("Pow", (a, b) => a.pow(b).to_type(a.dtype)),
        Pair("Equal", (a, b) => a.eq(b)),
        Pair("Greater", (a, b) => a.gt(b)),
        Pair("GreaterOrEqual", (a, b) => a.ge(b)),
        Pair("Less", (a, b) => a.lt(b)),
        Pair("LessOrEqual", (a, b) => a.le(b)),
        Pair("And", (a, b) => a.logical_and(b)),
        Pair("Or", (a, b) => a.logical_or(b)),
        Pair("Xor", (a, b) => a.logical_xor(b)),
        new("Mod", ["fmod"], node =>
        {
            var truncates = node.Int("fmod", 0) != 0;
            return inputs => On(inputs[0]!, inputs[1]!, (a, b) => truncates ? a.fmod(b) : a.remainder(b));
        }),
        Many("Max", (a, b) => a.maximum(b)),
        Many("Min", (a, b) => a.minimum(b)),
        Many("Sum", (a, b) => a.Plus(b)),
        new("Mean", [], _ => inputs => [inputs.Aggregate((a, b) => a!.Plus(b!))!.Over((long)inputs.Length)]),
        One("Abs", x => x.abs()),
        One("Neg", x => x.neg()),
        One("Sqrt", x => x.sqrt()),
        One("Exp", x => x.exp()),
        One("Log", x => x.log()),
        One("Reciprocal", x => x.reciprocal()),
        One("Floor", x => x.floor()),
        One("Ceil", x => x.ceil()),
        One("Round", x => x.round()),
        One("Sign", x => x.sign()),
        One("Sin", x => x.sin()),
        One("Cos", x => x.cos()),
        One("Tan", x => x.tan()),
        One("Asin", x => x.asin()),
        One("Acos", x => x.acos()),
        One("Atan", x => x.atan()),
        One("Sinh", x => x.sinh()),
        One("Cosh", x => x.cosh()),
        One("Asinh", x => x.asinh()),
        One("Acosh", x => x.acosh()),
        One("Atanh", x => x.atanh()),
        One("Not", x => x.logical_not()),
        One("IsNaN", x => x.isnan()),
        new("IsInf", ["detect_negative", "detect_positive"], node =>
        {
            var (negative, positive) = (node.Int("detect_negative", 1) != 0, node.Int("detect_positive", 1) != 0);
            return inputs =>
            {
                var above = positive ? inputs[0]!.isposinf() : zeros_like(inputs[0]!, ScalarType.Bool);
                return [above.logical_or(negative ? inputs[0]!.isneginf() : zeros_like(inputs[0]!, ScalarType.Bool))];
            };
        }),
        new("Where", [], _ => inputs =>
        {
            var device = Home(inputs!);
            return [where(inputs[0]!.to(device), inputs[1]!.to(device), inputs[2]!.to(device))];
        }),
    ];

    private static Operator One(string type, Func<Tensor, Tensor> run) => new(type, [], _ => inputs => [run(inputs[0]!)]);

    private static Operator Pair(string type, Func<Tensor, Tensor, Tensor> run) => new(type, [], _ => inputs => On(inputs[0]!, inputs[1]!, run));

    private static Operator Many(string type, Func<Tensor, Tensor, Tensor> run) => new(type, [], _ => inputs =>
    {
        var y = inputs[0]!.alias();
        foreach (var other in inputs.AsSpan(1))
        {
            using var old = y;
            y = run(old, other!);
        }

        return [y];
    });

    // Integers divide towards zero.
    private static Tensor Divide(Tensor a, Tensor b) => a.is_floating_point() || b.is_floating_point() ? a / b : (a - a.fmod(b)).floor_divide(b);

    // Shape values live on the host; where they meet activations they follow them.
    private static Tensor[] On(Tensor a, Tensor b, Func<Tensor, Tensor, Tensor> run)
    {
        if (a.device_type == b.device_type)
        {
            return [run(a, b)];
        }

        var device = Home([a, b]);
        return [run(a.to(device), b.to(device))];
    }

    private static Device Home(Tensor[] tensors) => (Array.Find(tensors, t => t.device_type != DeviceType.CPU) ?? tensors[0]).device;
}

using TorchSharp;
using TtaService.Engine.Tensors;
using static TorchSharp.torch;

namespace TtaService.Engine.Onnx.Operators;

/// <summary>LSTM, GRU and RNN, in both directions, with lengths and initial states.</summary>
internal static class Recurrent
{
    private static readonly string[] Shared = ["activations", "direction", "hidden_size", "layout", "activation_alpha", "activation_beta", "clip"];

    // One step: what the input and the state before give, and the new state. Gates come as [B, gates * hidden].
    private delegate (Tensor Hidden, Tensor Cell) Step(Tensor gates, Tensor hidden, Tensor cell, Direction direction);

    public static IEnumerable<Operator> All { get; } =
    [
        new("LSTM", [.. Shared, "input_forget"], node =>
        {
            if (node.Int("input_forget", 0) != 0)
            {
                node.Refuse("input_forget is not supported");
            }

            return Run(node, 4, ["Sigmoid", "Tanh", "Tanh"], Lstm, hasCell: true);
        }),
        new("GRU", [.. Shared, "linear_before_reset"], node => Run(node, 3, ["Sigmoid", "Tanh"], node.Int("linear_before_reset", 0) != 0 ? GruResettingLast : GruResettingFirst)),
        new("RNN", Shared, node => Run(node, 1, ["Tanh"], Simple)),
    ];

    private static Kernel Run(Node node, int gates, string[] usual, Step step, bool hasCell = false)
    {
        var direction = node.Text("direction", "forward");
        bool[] backwards = direction switch { "forward" => [false], "reverse" => [true], "bidirectional" => [false, true], _ => [] };
        if (backwards.Length == 0)
        {
            node.Refuse($"direction '{direction}' is not known");
        }

        if (node.Has("clip") || node.Floats("activation_alpha") is { Length: > 0 } || node.Floats("activation_beta") is { Length: > 0 })
        {
            node.Refuse("clip, activation_alpha and activation_beta are not supported");
        }

        var names = node.Texts("activations") is { Length: > 0 } given ? given : [.. backwards.SelectMany(_ => usual)];
        Func<Tensor, Tensor>[] functions = [.. names.Select(name => Function(node, name))];
        if (functions.Length != usual.Length * backwards.Length)
        {
            node.Refuse($"has {functions.Length} activations, {usual.Length * backwards.Length} are needed");
        }

        var batchFirst = node.Int("layout", 0) != 0;
        return inputs =>
        {
            using var x = batchFirst ? inputs[0]!.transpose(0, 1) : inputs[0]!.alias();
            var (steps, batch, size) = (x.shape[0], x.shape[1], inputs[2]!.shape[2]);
            using var lengths = Optional(inputs, 4)?.to(ScalarType.Float32, x.device).reshape(batch, 1);
            var (sequences, hiddens, cells) = (new List<Tensor>(), new List<Tensor>(), new List<Tensor>());
            for (var d = 0; d < backwards.Length; d++)
            {
                var bias = Optional(inputs, 3)?.select(0, d);
                var own = new Direction(
                    inputs[2]!.select(0, d).t(),
                    bias?.narrow(0, gates * size, gates * size) ?? zeros([gates * size], x.dtype, x.device),
                    hasCell ? Optional(inputs, 7)?.select(0, d) : null,
                    functions[(d * usual.Length)..((d + 1) * usual.Length)],
                    size);
                using var weight = inputs[1]!.select(0, d).t();
                using var product = MatrixProduct.Of(x, weight);
                using var projected = bias is null ? product.alias() : product.Plus(bias.narrow(0, 0, gates * size));
                var (hidden, cell) = (Initial(inputs, 5, d), Initial(inputs, 6, d));
                var outputs = new Tensor[steps];
                for (var i = 0L; i < steps; i++)
                {
                    var t = backwards[d] ? steps - 1 - i : i;
                    var (newHidden, newCell) = step(projected.select(0, t), hidden, cell, own);
                    if (lengths is null)
                    {
                        (hidden, cell, outputs[t]) = (newHidden, newCell, newHidden);
                        continue;
                    }

                    // Behind its end a sequence keeps its state and gives zeros.
                    using var goesOn = lengths.IsGreater((double)t);
                    (hidden, cell, outputs[t]) = (where(goesOn, newHidden, hidden), hasCell ? where(goesOn, newCell, cell) : cell, where(goesOn, newHidden, zeros_like(newHidden)));
                }

                sequences.Add(steps == 0 ? zeros([0, batch, size], x.dtype, x.device) : stack(outputs));
                hiddens.Add(hidden);
                cells.Add(cell);
            }

            var (y, last) = (stack(sequences, batchFirst ? 2 : 1), stack(hiddens, batchFirst ? 1 : 0));
            y = batchFirst ? y.transpose(0, 1) : y;
            return hasCell ? [y, last, stack(cells, batchFirst ? 1 : 0)] : [y, last];

            Tensor Initial(Tensor?[] from, int index, int d) => index == 6 && !hasCell ? zeros([0], x.dtype, x.device)
                : Optional(from, index) is { } state ? state.select(batchFirst ? 1 : 0, d)
                : zeros([batch, size], x.dtype, x.device);
        };
    }

    private static Tensor? Optional(Tensor?[] inputs, int index) => index < inputs.Length ? inputs[index] : null;

    private static Func<Tensor, Tensor> Function(Node node, string name)
    {
        switch (name)
        {
            case "Sigmoid":
                return x => x.sigmoid();
            case "Tanh":
                return x => x.tanh();
            case "Relu":
                return x => x.relu();
            default:
                node.Refuse($"activation '{name}' is not supported; Sigmoid, Tanh and Relu are");
                return x => x;
        }
    }

    // Gates in the order input, output, forget, cell; peepholes input, output, forget.
    private static (Tensor Hidden, Tensor Cell) Lstm(Tensor gates, Tensor hidden, Tensor cell, Direction d)
    {
        using var sum = MatrixProduct.Of(hidden, d.Weight).AddInPlace(d.Bias).AddInPlace(gates);
        var (i, o, f, c) = (d.Gate(sum, 0), d.Gate(sum, 1), d.Gate(sum, 2), d.Gate(sum, 3));
        if (d.Peepholes is { } p)
        {
            i = i.Plus(p.narrow(0, 0, d.Size) * cell);
            f = f.Plus(p.narrow(0, 2 * d.Size, d.Size) * cell);
        }

        var next = (d.Functions[0](f) * cell).Plus(d.Functions[0](i) * d.Functions[1](c));
        o = d.Peepholes is { } own ? o.Plus(own.narrow(0, d.Size, d.Size) * next) : o;
        return (d.Functions[0](o) * d.Functions[2](next), next);
    }

    // Gates in the order update, reset, hidden.
    private static (Tensor Hidden, Tensor Cell) GruResettingLast(Tensor gates, Tensor hidden, Tensor cell, Direction d)
    {
        using var own = MatrixProduct.Of(hidden, d.Weight).AddInPlace(d.Bias);
        var update = d.Functions[0](d.Gate(gates, 0).Plus(d.Gate(own, 0)));
        var reset = d.Functions[0](d.Gate(gates, 1).Plus(d.Gate(own, 1)));
        var candidate = d.Functions[1](d.Gate(gates, 2).Plus(reset * d.Gate(own, 2)));
        return (candidate.Plus(update * (hidden - candidate)), cell);
    }

    private static (Tensor Hidden, Tensor Cell) GruResettingFirst(Tensor gates, Tensor hidden, Tensor cell, Direction d)
    {
        var size = d.Size;
        using var own = MatrixProduct.Of(hidden, d.Weight.narrow(1, 0, 2 * size)).AddInPlace(d.Bias.narrow(0, 0, 2 * size));
        var update = d.Functions[0](d.Gate(gates, 0).Plus(d.Gate(own, 0)));
        var reset = d.Functions[0](d.Gate(gates, 1).Plus(d.Gate(own, 1)));
        using var last = MatrixProduct.Of(reset * hidden, d.Weight.narrow(1, 2 * size, size)).AddInPlace(d.Bias.narrow(0, 2 * size, size));
        var candidate = d.Functions[1](d.Gate(gates, 2).Plus(last));
        return (candidate.Plus(update * (hidden - candidate)), cell);
    }

    private static (Tensor Hidden, Tensor Cell) Simple(Tensor gates, Tensor hidden, Tensor cell, Direction d) =>
        (d.Functions[0](MatrixProduct.Of(hidden, d.Weight).AddInPlace(d.Bias).AddInPlace(gates)), cell);

    /// <summary>One direction's parameters: weights of the state [hidden, gates * hidden], their bias, an LSTM's peepholes.</summary>
    private sealed record Direction(Tensor Weight, Tensor Bias, Tensor? Peepholes, Func<Tensor, Tensor>[] Functions, long Size)
    {
        public Tensor Gate(Tensor gates, int index) => gates.narrow(-1, index * Size, Size);
    }
}

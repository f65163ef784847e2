using TorchSharp;
using TtaService.Engine.Onnx.Rewriting;
using static TorchSharp.torch;

namespace TtaService.Engine.Onnx.Operators;

/// <summary>If, Loop and Scan. Their bodies run node by node; BatchNormalization in them is no site.</summary>
internal static class ControlFlow
{
    // Detectors loop over classes, levels and boxes.
    private const long MostTurns = 65_536;

    public static IEnumerable<Operator> All { get; } =
    [
        new("If", ["then_branch", "else_branch", GraphRewriter.Captured], node =>
        {
            var (yes, no) = (Subgraph.Compile(node, "then_branch"), Subgraph.Compile(node, "else_branch"));
            return inputs => (IsTrue(inputs[0]!) ? yes : no)!.Run(inputs);
        }),
        new("Loop", ["body", GraphRewriter.Captured], Loop),
        new("Scan", ["body", "num_scan_inputs", "scan_input_axes", "scan_input_directions", "scan_output_axes", "scan_output_directions", GraphRewriter.Captured], Scan),
    ];

    private static bool IsTrue(Tensor condition) => condition.Longs() is [not 0];

    private static Kernel Loop(Node node)
    {
        var body = Subgraph.Compile(node, "body");
        var carried = Subgraph.Formal(node) - 2;
        if (body is not null && (carried < 0 || body.Inputs != carried + 2 || body.Outputs < carried + 1))
        {
            node.Refuse($"carries {carried} values, its body takes {body.Inputs} inputs and gives {body.Outputs} outputs");
        }

        return inputs =>
        {
            var most = inputs[0]?.Longs()[0] ?? long.MaxValue;
            var goesOn = inputs[1] is null || IsTrue(inputs[1]!);
            Tensor[] state = [.. inputs.Skip(2).Take(carried).Select(value => value!.alias())];
            var collected = new List<Tensor>[body!.Outputs - 1 - carried];
            Reset(collected);
            var made = 0.0;
            for (var turn = 0L; goesOn && turn < most; turn++)
            {
                CheckTurns(node, turn);
                var results = body.Run(inputs, [tensor(turn), tensor(goesOn), .. state]);
                goesOn = IsTrue(results[0]);
                state = results[1..(carried + 1)];
                made += Collect(node, collected, results.AsSpan(carried + 1), made);
            }

            return [.. state, .. collected.Select(parts => Stacked(parts, 0))];
        };
    }

    private static Kernel Scan(Node node)
    {
        var body = Subgraph.Compile(node, "body");
        var scanned = (int)node.Int("num_scan_inputs", 0);
        var carried = Subgraph.Formal(node) - scanned;
        if (node.Opset < 9)
        {
            node.Refuse("Scan of opset 8 is not supported; export with opset_version=17");
        }

        if (body is not null && (scanned < 1 || carried < 0 || body.Inputs != carried + scanned || body.Outputs < carried))
        {
            node.Refuse($"carries {carried} values and scans {scanned}, its body takes {body.Inputs} inputs and gives {body.Outputs} outputs");
        }

        long[] Each(string attribute, int count) => node.Ints(attribute) is { } given && given.Length == count ? given : new long[count];
        var (inputAxes, inputBack) = (Each("scan_input_axes", scanned), Each("scan_input_directions", scanned));
        var outputs = Math.Max(0, (body?.Outputs ?? 0) - carried);
        var (outputAxes, outputBack) = (Each("scan_output_axes", outputs), Each("scan_output_directions", outputs));
        return inputs =>
        {
            Tensor[] state = [.. inputs.Take(carried).Select(value => value!.alias())];
            Tensor[] sequences = [.. inputs.Skip(carried).Take(scanned).Select(value => value!)];
            var turns = sequences[0].shape[(int)HostValues.Axis(inputAxes[0], sequences[0].dim())];
            var collected = new List<Tensor>[outputs];
            Reset(collected);
            var made = 0.0;
            for (var turn = 0L; turn < turns; turn++)
            {
                CheckTurns(node, turn);
                Tensor[] slices = [.. sequences.Select((sequence, i) => sequence.select(
                    HostValues.Axis(inputAxes[i], sequence.dim()),
                    inputBack[i] != 0 ? turns - 1 - turn : turn))];
                var results = body!.Run(inputs, [.. state, .. slices]);
                state = results[..carried];
                made += Collect(node, collected, results.AsSpan(carried), made);
            }

            for (var i = 0; i < outputs; i++)
            {
                if (outputBack[i] != 0)
                {
                    collected[i].Reverse();
                }
            }

            return [.. state, .. collected.Select((parts, i) => Stacked(parts, outputAxes[i]))];
        };
    }

    private static void CheckTurns(Node node, long turn)
    {
        if (turn >= MostTurns)
        {
            throw new PassException($"node '{node.Name}' ({node.Type}) turns more than {MostTurns:N0} times, which is the limit");
        }
    }

    private static void Reset(List<Tensor>[] collected)
    {
        for (var i = 0; i < collected.Length; i++)
        {
            collected[i] = [];
        }
    }

    private static double Collect(Node node, List<Tensor>[] collected, ReadOnlySpan<Tensor> results, double before)
    {
        var made = 0.0;
        for (var i = 0; i < collected.Length; i++)
        {
            collected[i].Add(results[i]);
            made += results[i].numel();
        }

        SizeLimit.Check(node, before + made);
        return made;
    }

    private static Tensor Stacked(List<Tensor> parts, long axis) => parts.Count == 0 ? zeros(0) : stack(parts, axis < 0 ? parts[0].dim() + 1 + axis : axis);
}

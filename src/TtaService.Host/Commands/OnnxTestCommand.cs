using System.CommandLine;
using TtaService.Engine.Onnx;

namespace TtaService.Host.Commands;

/// <summary><c>tta onnx-test</c>: runs ONNX's own node tests against the graph reader.</summary>
internal static class OnnxTestCommand
{
    public static Command Build()
    {
        var folder = new Argument<string>("dir") { Description = "A folder with model.onnx and test_data_set_*/input_*.pb, output_*.pb, or a folder of such folders." };
        var quiet = new Option<bool>("--failures") { Description = "List only what did not pass." };
        var tolerance = new OnnxTolerance();
        var relative = NumberOption.Real("--rtol", "Difference allowed relative to an element, as in ONNX's own runner", tolerance.Relative, 0, 1);
        var absolute = NumberOption.Real("--atol", "Difference allowed in any element", tolerance.Absolute, 0, 1e6);
        var scale = NumberOption.Real("--stol", "Difference allowed relative to an output's largest element: in a large network small elements carry the rounding of large ones", tolerance.Scale, 0, 1);
        var command = new Command("onnx-test", "Runs ONNX node tests against the graph reader.") { folder, quiet, relative, absolute, scale };
        command.SetAction((parsed, cancel) =>
        {
            var terminal = new Terminal(parsed.InvocationConfiguration);
            var root = parsed.GetRequiredValue(folder);
            if (!Directory.Exists(root))
            {
                throw CommandException.WrongUse($"{root} does not exist; give a folder with model.onnx and test_data_set_*");
            }

            var tests = OnnxConformance.Find(root);
            if (tests.Count == 0)
            {
                throw CommandException.WrongUse($"{root} holds no model.onnx");
            }

            var counts = new Dictionary<OnnxTestOutcome, int>();
            foreach (var result in tests.TakeWhile(_ => !cancel.IsCancellationRequested).Select(test => OnnxConformance.Run(test, new OnnxTolerance(parsed.GetValue(relative), parsed.GetValue(absolute), parsed.GetValue(scale)))))
            {
                counts[result.Outcome] = counts.GetValueOrDefault(result.Outcome) + 1;
                if (result.Outcome != OnnxTestOutcome.Passed || !parsed.GetValue(quiet))
                {
                    terminal.Line($"{result.Outcome.ToString().ToLowerInvariant(),-11} {result.Name}  {result.Message}");
                }
            }

            terminal.Line($"{counts.GetValueOrDefault(OnnxTestOutcome.Passed)} passed, {counts.GetValueOrDefault(OnnxTestOutcome.Failed)} failed, {counts.GetValueOrDefault(OnnxTestOutcome.Unsupported)} unsupported{(cancel.IsCancellationRequested ? $", {tests.Count - counts.Values.Sum()} not run" : "")}");
            return Task.FromResult(counts.ContainsKey(OnnxTestOutcome.Failed) ? CommandException.Failure : 0);
        });
        return command;
    }
}

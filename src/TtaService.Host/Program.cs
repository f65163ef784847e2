using System.CommandLine;
using TtaService.Host.Commands;
using TtaService.Host.Commands.Snapshots;
using TtaService.Host.Commands.Streaming;

namespace TtaService.Host;

internal static class Program
{
    private static Task<int> Main(string[] arguments) => RunAsync(arguments, Console.Out, Console.Error, CancellationToken.None);

    /// <summary>Runs <c>tta</c> with these arguments. Returns 0, 1 for a failure, 2 for a wrong use.</summary>
    internal static async Task<int> RunAsync(string[] arguments, TextWriter output, TextWriter error, CancellationToken cancel)
    {
        var root = new RootCommand("Serves ONNX vision models over gRPC and adapts their normalization to each camera stream.")
        {
            ServeCommand.Build(),
            DemoCommand.Build(),
            EvaluateCommand.Build(),
            CalibrateCommand.Build(),
            InspectCommand.Build(),
            MethodsCommand.Build(),
            StreamCommand.Build(),
            StreamsCommand.Build(),
            SnapshotCommand.Build(),
            TopCommand.Build(),
            LoadCommand.Build(),
            HealthCommand.Build(),
            OnnxTestCommand.Build(),
        };
        ServeCommand.AddTo(root);
        var parsed = root.Parse(arguments);
        if (Refusal.Of(parsed) is { } wrong)
        {
            await error.WriteLineAsync($"tta: {wrong} See: {CommandFailure.HelpFor(parsed)}").ConfigureAwait(false);
            return CommandException.Usage;
        }

        try
        {
            // A graceful stop of the host saves every stream; the process must not be cut off before.
            var invocation = new InvocationConfiguration { Output = output, Error = error, EnableDefaultExceptionHandler = false, ProcessTerminationTimeout = TimeSpan.FromSeconds(60) };
            return await parsed.InvokeAsync(invocation, cancel).ConfigureAwait(false);
        }
        catch (Exception failure) when (CommandFailure.Explain(failure) is { } explained)
        {
            await error.WriteLineAsync($"tta: {explained.Message}").ConfigureAwait(false);
            return explained.ExitCode;
        }
    }
}

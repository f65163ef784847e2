using System.CommandLine;
using TtaService.Host.Commands;
using TtaService.Host.Commands.Models;
using TtaService.Host.Commands.Snapshots;
using TtaService.Host.Commands.Streaming;

namespace TtaService.Host;

internal static class Program
{
    private static async Task<int> Main(string[] arguments)
    {
        using var signals = new TerminationSignals();
        // Elsewhere, so that a command that never awaits leaves this thread to the runtime.
        return await Task.Run(() => RunAsync(arguments, Console.Out, Console.Error, signals.Token, signals)).ConfigureAwait(false);
    }

    /// <summary>Runs <c>tta</c> with these arguments. Returns 0, 1 for a failure, 2 for a wrong use, 130 or 143 when it was interrupted.</summary>
    internal static async Task<int> RunAsync(string[] arguments, TextWriter output, TextWriter error, CancellationToken cancel, TerminationSignals? signals = null)
    {
        var root = new RootCommand("Serves ONNX vision models over gRPC and adapts their normalization to each camera stream.")
        {
            ServeCommand.Build(),
            DemoCommand.Build(),
            EvaluateCommand.Build(),
            RecommendCommand.Build(),
            CalibrateCommand.Build(),
            InspectCommand.Build(),
            ModelCommand.Build(),
            ModelsCommand.Build(),
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

        var isServer = parsed.CommandResult.Command is RootCommand or { Name: ServeCommand.Name };
        signals?.WaitsForTheCommand = isServer;
        try
        {
            // Signals are handled here: the library's own handler ends a command that never awaits with an unhandled exception.
            var invocation = new InvocationConfiguration { Output = output, Error = error, EnableDefaultExceptionHandler = false, ProcessTerminationTimeout = null };
            var code = await parsed.InvokeAsync(invocation, cancel).ConfigureAwait(false);
            // What it has is written; a server that was asked to stop has done what it should.
            return code == 0 && cancel.IsCancellationRequested && !isServer ? Interrupted() : code;
        }
        catch (Exception) when (cancel.IsCancellationRequested && !isServer)
        {
            // Whatever it was in the middle of fails in its own way.
            await error.WriteLineAsync("tta: interrupted").ConfigureAwait(false);
            return Interrupted();
        }
        catch (Exception failure) when (CommandFailure.Explain(failure) is { } explained)
        {
            await error.WriteLineAsync($"tta: {explained.Message}").ConfigureAwait(false);
            return explained.ExitCode;
        }

        int Interrupted() => signals?.ExitCode ?? TerminationSignals.Interrupted;
    }
}

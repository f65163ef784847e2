using System.CommandLine;
using System.CommandLine.Parsing;
using Grpc.Core;
using Microsoft.Extensions.Options;
using TtaService.Client;
using TtaService.Engine.Calibration;
using TtaService.Engine.Normalization;
using TtaService.Engine.Onnx;
using TtaService.Engine.Streams;
using TtaService.Evaluation;
using TtaService.Serving.Store;

namespace TtaService.Host.Commands;

/// <summary>What a command's user is told when it fails. Anything not listed is a defect of the program and keeps its stack trace.</summary>
internal static class CommandFailure
{
    public static (string Message, int ExitCode)? Explain(Exception failure) => failure switch
    {
        CommandException known => (known.Message, known.ExitCode),
        MethodSettingsException or MethodRegistrationException => (failure.Message, CommandException.Usage),
        OptionsValidationException options => (string.Join(Environment.NewLine, options.Failures), CommandException.Usage),
        ModelLoadException or CalibrationException or SnapshotException or DataFormatException
                or StoreUnavailableException or CheckpointRefusedException => (failure.Message, CommandException.Failure),
        RpcException rpc => ($"the server answered {rpc.StatusCode}: {rpc.Status.Detail}", CommandException.Failure),
        StepFailedException step => ($"the server refused a step: {step.Message}", CommandException.Failure),
        IOException or UnauthorizedAccessException => (failure.Message, CommandException.Failure),
        OperationCanceledException => ("interrupted", TerminationSignals.Interrupted),
        _ => null,
    };

    public static string HelpFor(ParseResult parsed)
    {
        var names = new List<string>();
        for (SymbolResult? symbol = parsed.CommandResult; symbol is not null; symbol = symbol.Parent)
        {
            if (symbol is CommandResult { Command: not RootCommand } command)
            {
                names.Insert(0, command.Command.Name);
            }
        }

        return string.Join(' ', ["tta", .. names, "--help"]);
    }
}

using System.CommandLine;
using System.Globalization;
using Grpc.Core;
using TtaService.Engine.Calibration;
using TtaService.V1;

namespace TtaService.Host.Commands;

/// <summary><c>tta calibrate --stream</c>: commissioning, a model's calibration from the frames that a running server is sent.</summary>
internal sealed class RemoteCalibration
{
    private readonly Option<Uri> _address = RemoteServer.AddressOption();
    private readonly Option<string?> _key = RemoteServer.ApiKeyOption();
    private readonly Option<string?> _stream = new("--stream")
    {
        Description = "Instead of --model: measure on the frames that this stream of a running server is sent from now on, while its picture is normal.",
        HelpName = "NAME",
    };

    private readonly Option<int> _every = NumberOption.Integer(
        "--every",
        "With --stream: one frame in so many is taken, so that neighbours of a video do not count twice",
        1,
        1,
        100_000);

    public void AddTo(Command command)
    {
        foreach (var option in new Option[] { _stream, _address, _key, _every })
        {
            command.Options.Add(option);
        }
    }

    /// <summary>Whether a stream was named.</summary>
    /// <exception cref="CommandException">Neither it nor a model, or both.</exception>
    public bool IsMeant(ParseResult parsed, Option<string?> model) => (parsed.GetValue(model), parsed.GetValue(_stream)) switch
    {
        (null, null) => throw CommandException.WrongUse(
            "name what to calibrate: --model for a model on frames of --data, or --stream for the model of a running server's stream (--address)"),
        (not null, not null) => throw CommandException.WrongUse("--model and --stream exclude each other: a stream's model is the server's"),
        (_, var stream) => stream is not null,
    };

    /// <param name="parsed">The command line.</param>
    /// <param name="frames">Frames to take; 0 for the server's default.</param>
    /// <param name="cancel">Ends it without a file.</param>
    public async Task<int> RunAsync(ParseResult parsed, int frames, CancellationToken cancel)
    {
        using var server = RemoteServer.Of(parsed, _address, _key);
        var terminal = new Terminal(parsed.InvocationConfiguration);
        var stream = parsed.GetValue(_stream)!;
        var request = new CommissionStreamRequest { Stream = stream, Frames = frames, Every = parsed.GetValue(_every) };
        try
        {
            using var call = server.Client.Calibration.CommissionStream(request, cancellationToken: cancel);
            var told = -1L;
            await foreach (var update in call.ResponseStream.ReadAllAsync(cancel).ConfigureAwait(false))
            {
                if (update.Written)
                {
                    Written(terminal, stream, update);
                    return 0;
                }

                // A line a tenth.
                if (10 * update.Frames / update.Wanted is var tenth && tenth != told)
                {
                    told = tenth;
                    terminal.Line($"{update.Frames:N0} of {update.Wanted:N0} frames of '{stream}', model '{update.Model}'");
                }
            }
        }
        catch (RpcException failed) when (failed.StatusCode != StatusCode.Cancelled || !cancel.IsCancellationRequested)
        {
            throw server.Explain($"calibrate on stream '{stream}'", failed);
        }

        throw new CommandException($"the server ended the calibration on stream '{stream}' without a file; look at its log");
    }

    private static void Written(Terminal terminal, string stream, CommissionStreamUpdate update)
    {
        var enough = Math.Ceiling(update.Frames * Math.Pow(update.StandardError / Calibrator.EnoughError, 2));
        var advice = update.StandardError <= Calibrator.EnoughError
            ? "more frames would not help"
            : string.Create(CultureInfo.InvariantCulture, $"more frames help until {Calibrator.EnoughError}, about {enough:N0} like these");
        terminal.Line($"{update.Frames:N0} frames of '{stream}', {update.Sites} sites; largest standard error {update.StandardError:0.000} of a frame's deviation: {advice}");
        terminal.Line($"written to {ModelCalibration.FileName} of model '{update.Model}'; it takes effect when the model is loaded next: restart the server");
    }
}

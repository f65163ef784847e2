using System.CommandLine;
using Grpc.Core;
using TtaService.Client;
using TtaService.V1;

namespace TtaService.Host.Commands.Streaming;

/// <summary><c>tta stream</c>: sends images, a folder, a video, a camera or standard input as the frames of one stream to a running server.</summary>
internal static class StreamCommand
{
    // A person waits at the prompt, so a server that is not there should be reported soon; one that was there is waited for.
    private const int OpenAttempts = 3;

    public static Command Build()
    {
        var address = RemoteServer.AddressOption();
        var key = RemoteServer.ApiKeyOption();
        var model = new Option<string>("--model") { Description = "The model's name; not needed when the server has one.", DefaultValueFactory = _ => "" };
        var stream = new Option<string>("--stream") { Description = "The stream's id; it is resumed when it exists.", DefaultValueFactory = _ => "cli" };
        var method = new Option<string?>("--method")
        {
            Description = "The method of a new stream, for example ema{momentum=0.1}; the model's default when not given.",
            HelpName = "METHOD",
        };
        var batch = NumberOption.Integer("--batch-size", "Frames a step", 1, 1, 1024);
        var top = NumberOption.Integer("--top", "Labels a frame", 1, 1, 1000);
        var fps = new Option<double?>("--fps")
        {
            Description = "At most so many frames a second; as fast as they are answered when not given.",
            HelpName = "X",
            CustomParser = NumberOption.PositiveReal("--fps", 0.001, 1000),
        };
        var follow = new Option<bool>("--follow") { Description = "Go on with images that are added to the folders." };
        var latest = new Option<bool>("--latest")
        {
            Description = "Leave out frames that are old when the server is ready for the next: as live cameras (rtsp, /dev/video) always do.",
        };
        var list = new Option<FileInfo?>("--list") { Description = "A text file with a path a line, in the order to send; relative to the file.", HelpName = "FILE" };
        var record = new Option<string?>("--record") { Description = "Write every answer and event to a file, a JSON object a line.", HelpName = "FILE" };
        var unfiltered = new Option<bool>("--unfiltered") { Description = "Show and record also what the method answered before its prediction filter (auto, tbr+temporal)." };
        var sources = new Argument<string[]>("sources")
        {
            Description = "In the order to send: JPEG, PNG or WebP files, folders of them, video files, addresses (rtsp://, http://) and cameras (/dev/video0), "
                + "which need ffmpeg, or - for JPEG after JPEG on standard input.",
            Arity = ArgumentArity.ZeroOrMore,
        };
        var command = new Command("stream", "Sends images, folders, videos or a camera to a running server as one stream and shows predictions, drift and latency.")
        {
            address, key, model, stream, method, batch, top, fps, follow, latest, list, record, unfiltered, sources,
        };
        command.SetAction(async (parsed, cancel) =>
        {
            var input = FrameInput.Parse(parsed.GetValue(sources) ?? [], parsed.GetValue(list), parsed.GetValue(follow), parsed.GetValue(fps), parsed.GetValue(latest));
            var open = new OpenStream
            {
                Stream = parsed.GetRequiredValue(stream),
                Model = parsed.GetRequiredValue(model),
                Reply = new ReplyOptions { TopK = parsed.GetValue(top), Unfiltered = parsed.GetValue(unfiltered) },
            };
            if (parsed.GetValue(method) is { } expression)
            {
                open.Method = MethodExpressions.ParseForServer(expression);
            }

            using var server = RemoteServer.Of(parsed, address, key);
            using var recording = parsed.GetValue(record) is { } path ? new Recording(path, TimeProvider.System) : null;
            var view = new StreamView(new Terminal(parsed.InvocationConfiguration), input, new DriftWatch(server, open.Stream));
            var options = new AdaptationStreamOptions { MaxOpenAttempts = OpenAttempts, OnEvent = happened => Tell(view, recording, happened) };
            var opened = await server.OpenAsync(open, options, cancel).ConfigureAwait(false);
            await using var disposal = opened.ConfigureAwait(false);
            await view.ShowAsync(opened.Opened, () => SendAsync(opened, input, parsed.GetValue(batch), view, recording, server, cancel)).ConfigureAwait(false);
            return view.Failed == 0
                ? 0
                : throw new CommandException($"{view.Failed} of {view.Steps} steps failed; the first: {view.FirstError}");
        });
        return command;
    }

    private static void Tell(StreamView view, Recording? recording, StreamEvent happened)
    {
        view.Take(happened);
        recording?.Write(happened);
    }

    private static async Task SendAsync(AdaptationStream stream, FrameInput input, int batch, StreamView view, Recording? recording, RemoteServer server, CancellationToken cancel)
    {
        try
        {
            await foreach (var step in stream.StepsAsync(input.ReadAsync(view.LeaveOut, cancel), batch, cancel: cancel).ConfigureAwait(false))
            {
                view.Take(step);
                recording?.Write(step);
            }
        }
        catch (RpcException ended)
        {
            throw server.Explain($"go on with stream '{stream.Opened.Stream}'", ended);
        }
        catch (InvalidDataException broken)
        {
            throw new CommandException($"the input is damaged: {broken.Message}");
        }
    }
}

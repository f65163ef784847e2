using System.CommandLine;
using System.CommandLine.Parsing;
using System.Globalization;
using Google.Protobuf;
using Grpc.Net.Client;
using TtaService.Client;
using TtaService.V1;

namespace TtaService.Host.Commands;

/// <summary><c>tta stream</c>: sends image files as the frames of one stream to a running server.</summary>
internal static class StreamCommand
{
    private static readonly string[] ImageExtensions = [".png", ".jpg", ".jpeg", ".webp"];

    // A person waits at the prompt, so a server that is not there should be reported soon.
    private static readonly AdaptationStreamOptions FewAttempts = new() { MaxAttempts = 3 };

    public static Command Build()
    {
        var address = AddressOption();
        var model = new Option<string>("--model") { Description = "The model's name; not needed when the server has one.", DefaultValueFactory = _ => "" };
        var stream = new Option<string>("--stream") { Description = "The stream's id; it is resumed when it exists.", DefaultValueFactory = _ => "cli" };
        var method = new Option<string?>("--method") { Description = "The method of a new stream, for example ema{momentum=0.1}; the model's default when not given.", HelpName = "METHOD" };
        var batch = NumberOption.Integer("--batch-size", "Frames a step", 1, 1, 1024);
        var top = NumberOption.Integer("--top", "Labels a frame", 1, 1, 1000);
        var files = new Argument<string[]>("files") { Description = "JPEG, PNG or WebP files, or folders of them, in the order to send.", Arity = ArgumentArity.OneOrMore };
        var command = new Command("stream", "Sends image files to a running server as one stream and prints the predictions.") { address, model, stream, method, batch, top, files };
        command.SetAction(async (parsed, cancel) =>
        {
            var images = parsed.GetRequiredValue(files).SelectMany(Images).ToList();
            var open = new OpenStream { Stream = parsed.GetRequiredValue(stream), Model = parsed.GetRequiredValue(model), Reply = new ReplyOptions { TopK = parsed.GetValue(top) } };
            if (parsed.GetValue(method) is { } expression)
            {
                open.Method = MethodExpressions.ParseSingle(expression).ToWire();
            }

            using var channel = GrpcChannel.ForAddress(parsed.GetRequiredValue(address));
            var opened = await AdaptationStream.OpenAsync(channel.CreateCallInvoker(), open, FewAttempts, cancel).ConfigureAwait(false);
            await using var disposal = opened.ConfigureAwait(false);
            await SendAsync(new Terminal(parsed.InvocationConfiguration), opened, images, parsed.GetValue(batch), cancel).ConfigureAwait(false);
        });
        return command;
    }

    public static Option<Uri> AddressOption() => new("--address") { Description = "The server.", DefaultValueFactory = _ => new Uri("http://127.0.0.1:8001"), CustomParser = ParseAddress };

    private static async Task SendAsync(Terminal terminal, AdaptationStream stream, IReadOnlyList<string> images, int batch, CancellationToken cancel)
    {
        terminal.Line($"stream {stream.Opened.Stream}, model {stream.Opened.Model}, method {stream.Opened.Method.Name}, {stream.Opened.Age?.Steps ?? 0} steps so far");
        foreach (var warning in stream.Opened.Warnings)
        {
            terminal.Line($"warning: {warning}");
        }

        foreach (var step in images.Chunk(batch))
        {
            var frames = new List<Frame>(step.Length);
            foreach (var path in step)
            {
                frames.Add(new Frame { Encoded = UnsafeByteOperations.UnsafeWrap(await File.ReadAllBytesAsync(path, cancel).ConfigureAwait(false)) });
            }

            var reply = await stream.StepAsync(frames, cancel: cancel).ConfigureAwait(false);
            foreach (var (path, prediction) in step.Zip(reply.Predictions))
            {
                terminal.Line($"{reply.Step,6}  {path}  {string.Join(", ", prediction.Top.Select(Show))}");
            }
        }
    }

    private static string Show(LabelScore score) =>
        string.Create(CultureInfo.InvariantCulture, $"{(score.Label.Length > 0 ? score.Label : score.Index.ToString(CultureInfo.InvariantCulture))} {100 * score.Probability:0.0} %");

    private static IEnumerable<string> Images(string path)
    {
        if (File.Exists(path))
        {
            return [path];
        }

        if (!Directory.Exists(path))
        {
            throw CommandException.WrongUse($"{path} does not exist; give image files or folders of them");
        }

        var images = Directory.EnumerateFiles(path, "*", SearchOption.AllDirectories).Where(file => ImageExtensions.Contains(Path.GetExtension(file), StringComparer.OrdinalIgnoreCase)).Order(StringComparer.Ordinal).ToList();
        return images.Count > 0 ? images : throw CommandException.WrongUse($"{path} holds no image ({string.Join(' ', ImageExtensions)}); give a folder that does");
    }

    private static Uri? ParseAddress(ArgumentResult result)
    {
        if (Uri.TryCreate(result.Tokens[0].Value, UriKind.Absolute, out var address) && address.Scheme is "http" or "https")
        {
            return address;
        }

        result.AddError($"--address is '{result.Tokens[0].Value}'; give an address such as http://127.0.0.1:8001.");
        return null;
    }
}

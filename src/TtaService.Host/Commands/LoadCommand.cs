using System.CommandLine;
using System.Diagnostics;
using System.Text.Json;
using Google.Protobuf;
using SkiaSharp;
using TtaService.Host.Commands.Load;
using TtaService.V1;

namespace TtaService.Host.Commands;

/// <summary><c>tta load</c>: cameras that send frames at their rate whatever the server does, and what became of each frame.</summary>
internal static class LoadCommand
{
    private const int Pictures = 16;
    private static readonly JsonSerializerOptions Json = new() { WriteIndented = true, PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower };

    public static Command Build()
    {
        var address = RemoteServer.AddressOption();
        var cameras = NumberOption.Integer("--cameras", "Cameras, each with a connection and a stream of its own", 16, 1, 100_000);
        var rate = NumberOption.Real("--rate", "Frames a second of a camera", 5, 0.01, 1000);
        var seconds = NumberOption.Integer("--seconds", "How long", 30, 1, 86_400);
        var batch = NumberOption.Integer("--batch-size", "Frames a step", 1, 1, 1024);
        var side = NumberOption.Integer("--image-size", "Width and height of the JPEG frames", 64, 8, 4096);
        var model = new Option<string>("--model") { Description = "The model's name; not needed when the server has one.", DefaultValueFactory = _ => "" };
        var method = new Option<string?>("--method") { Description = "The method of the streams; the model's default when not given.", HelpName = "METHOD" };
        var prefix = new Option<string?>("--prefix") { Description = "First part of the streams' ids; a new one with each run when not given.", HelpName = "ID" };
        var json = new Option<bool>("--json") { Description = "Write the report as JSON." };
        var strict = new Option<bool>("--strict") { Description = "Exit with 1 when a frame failed or was left out, or a stream lost adaptation." };
        var command = new Command(
            "load",
            "Sends frames of many cameras at a fixed rate to a running server and reports latency, gaps and what was "
                + "lost.") { address, cameras, rate, seconds, batch, side, model, method, prefix, json, strict };
        command.SetAction(async (parsed, cancel) =>
        {
            var open = new OpenStream { Model = parsed.GetRequiredValue(model), Reply = new ReplyOptions { TopK = 1 } };
            if (parsed.GetValue(method) is { } expression)
            {
                open.Method = MethodExpressions.ParseForServer(expression);
            }

            var frames = Enumerable.Range(0, Pictures).Select(number => Picture(number, parsed.GetValue(side))).ToList();
            var period = TimeSpan.FromSeconds(1 / parsed.GetValue(rate));
            var names = parsed.GetValue(prefix) ?? $"load-{Guid.NewGuid():N}"[..13];
            var running = Enumerable.Range(0, parsed.GetValue(cameras)).Select(number =>
            {
                var one = open.Clone();
                one.Stream = $"{names}-{number}";
                // Spread over a period, as cameras are that nobody started together.
                return new LoadCamera(parsed.GetRequiredValue(address), one, frames, parsed.GetValue(batch), period, period * number / parsed.GetValue(cameras));
            }).ToList();
            using var stop = CancellationTokenSource.CreateLinkedTokenSource(cancel);
            stop.CancelAfter(TimeSpan.FromSeconds(parsed.GetValue(seconds)));
            var began = Stopwatch.GetTimestamp();
            await Task.WhenAll(running.Select(camera => Task.Run(() => camera.RunAsync(stop.Token), CancellationToken.None))).ConfigureAwait(false);
            var report = LoadReport.Of(running, Stopwatch.GetElapsedTime(began));

            var terminal = new Terminal(parsed.InvocationConfiguration);
            if (parsed.GetValue(json))
            {
                await terminal.Output.WriteLineAsync(JsonSerializer.Serialize(report, Json)).ConfigureAwait(false);
            }
            else
            {
                report.Lines().ForEach(line => terminal.Line(line));
            }

            if (report.NeverOpened == report.Cameras)
            {
                throw new CommandException($"no camera could open its stream: {report.FirstError}");
            }

            if (parsed.GetValue(strict) && !report.IsClean)
            {
                throw new CommandException("frames or adaptation were lost; the report says what");
            }
        });
        return command;
    }

    // Smooth with some noise: about the bytes of a real picture of that size.
    private static Frame Picture(int number, int side)
    {
        var random = new Random(number);
        using var bitmap = new SKBitmap(side, side, SKColorType.Rgba8888, SKAlphaType.Opaque);
        for (var y = 0; y < side; y++)
        {
            for (var x = 0; x < side; x++)
            {
                var noise = random.Next(24);
                bitmap.SetPixel(x, y, new SKColor((byte)((x * 200 / side) + noise), (byte)((y * 200 / side) + noise), (byte)((number * 200 / Pictures) + noise)));
            }
        }

        using var data = bitmap.Encode(SKEncodedImageFormat.Jpeg, 85);
        return new Frame { Encoded = UnsafeByteOperations.UnsafeWrap(data.ToArray()) };
    }
}

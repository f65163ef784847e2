using System.Diagnostics;
using System.Text.Json;
using SkiaSharp;
using TtaService.Host.Tests.Deployment;
using TtaService.Host.Tests.Infrastructure;

namespace TtaService.Host.Tests.Commands;

public sealed class StreamCommandTests : IDisposable
{
    private readonly TestFolder _folder = new();

    private string Record => _folder.In("answers.jsonl");

    public void Dispose() => _folder.Dispose();

    [Fact]
    public async Task Stream_FolderListAndRecord_SendsInOrderAndWritesEveryAnswer()
    {
        await using var host = await TestHost.StartAsync();
        Directory.CreateDirectory(_folder.In("frames"));
        Write("frames/b.png", "frames/a.jpg", "c.webp");
        await File.WriteAllLinesAsync(_folder.In("list.txt"), ["# the last first", "c.webp"], TestContext.Current.CancellationToken);

        var run = await TtaRun.Of("stream", "--address", host.Grpc.AbsoluteUri, "--stream", "camera", "--list",
            _folder.In("list.txt"), _folder.In("frames"), "--fps", "100", "--top", "2", "--record", Record);

        Assert.True(run.ExitCode == 0, run.Error);
        var lines = (await ReadRecordAsync()).ToList();
        Assert.Equal(["c.webp", "a.jpg", "b.png"], lines.Select(line => Path.GetFileName(line.GetProperty("sources")[0].GetString())));
        Assert.Equal([1, 2, 3], lines.Select(line => line.GetProperty("step").GetInt32()));
        Assert.All(lines, line => Assert.Equal(2, line.GetProperty("frames")[0].GetArrayLength()));
        Assert.Contains(run.Lines, line => line.StartsWith("3 of 3 frames in", StringComparison.Ordinal) && line.Contains("p99", StringComparison.Ordinal));
        Assert.Contains(run.Lines, line => line.StartsWith('2') && line.Contains("a.jpg", StringComparison.Ordinal) && line.Contains('%', StringComparison.Ordinal));
    }

    [Fact]
    public async Task Stream_ThatWasObserved_SaysItsDriftAtTheEnd()
    {
        await using var host = await TestHost.StartAsync("--Drift:Interval=01:00:00");
        Write("1.png", "2.png");
        await host.StepAsync("cli", TestFrames.Tensor(1));
        await host.Part<Serving.Drift.DriftPublisher>().SweepAsync();

        var run = await TtaRun.Of("stream", "--address", host.Grpc.AbsoluteUri, _folder.Path);

        Assert.True(run.ExitCode == 0, run.Error);
        Assert.Matches("^drift (uncalibrated|warming up)", run.Lines[^1]);
    }

    [Fact]
    public async Task Stream_BadFrame_IsNamedTheOthersRunAndTheExitSaysSo()
    {
        await using var host = await TestHost.StartAsync();
        Write("1.png", "3.png");
        await File.WriteAllTextAsync(_folder.In("2.png"), "no image", TestContext.Current.CancellationToken);

        var run = await TtaRun.Of("stream", "--address", host.Grpc.AbsoluteUri, _folder.Path);

        Assert.Equal(1, run.ExitCode);
        Assert.Contains("1 of 3 steps failed", run.Error, StringComparison.Ordinal);
        Assert.Contains("2.png", run.Error, StringComparison.Ordinal);
        Assert.Equal(2, (await host.GetAsync("cli")).Age.Steps);
    }

    [Fact]
    public async Task Stream_StandardInput_TakesJpegAfterJpeg()
    {
        await using var host = await TestHost.StartAsync();
        byte[] images = [.. TestFrames.File(1, SKEncodedImageFormat.Jpeg), .. TestFrames.File(2, SKEncodedImageFormat.Jpeg)];
        await File.WriteAllBytesAsync(_folder.In("two"), images, TestContext.Current.CancellationToken);
        await using var program = OtherProgram.Start("bash", ["-c", $"cat '{_folder.In("two")}' | dotnet '{Tta}' stream --address {host.Grpc} --stream piped -"]);
        await program.ExitAsync();

        Assert.True(program.ExitCode == 0, program.Printed);
        Assert.Contains("2  -#2", program.Printed, StringComparison.Ordinal);
        Assert.Equal(2, (await host.GetAsync("piped")).Age.Steps);

        // The same as a file.
        File.Move(_folder.In("two"), _folder.In("two.mjpeg"));
        Assert.Equal(0, (await TtaRun.Of("stream", "--address", host.Grpc.AbsoluteUri, "--stream", "piped", _folder.In("two.mjpeg"))).ExitCode);
        Assert.Equal(4, (await host.GetAsync("piped")).Age.Steps);
    }

    [Fact]
    public async Task Stream_Video_GoesThroughFfmpegAtItsRate()
    {
        OtherProgram.Require("ffmpeg");
        await using var host = await TestHost.StartAsync();
        var video = _folder.In("film.avi");
        var (made, said) = await Repository.RunAsync(
            "ffmpeg", "-nostdin", "-loglevel", "error", "-f", "lavfi", "-i", "testsrc=duration=2:size=64x48:rate=10", "-c:v", "mpeg4", video);
        Assert.True(made == 0, said);

        var all = await TtaRun.Of("stream", "--address", host.Grpc.AbsoluteUri, "--stream", "all", video);
        var some = await TtaRun.Of("stream", "--address", host.Grpc.AbsoluteUri, "--stream", "some", "--fps", "5", video);

        Assert.True(all.ExitCode == 0 && some.ExitCode == 0, all.Error + some.Error);
        Assert.Equal(20, (await host.GetAsync("all")).Age.Steps);
        Assert.InRange((await host.GetAsync("some")).Age.Steps, 9, 11);

        await File.WriteAllTextAsync(_folder.In("broken.mp4"), "no film", TestContext.Current.CancellationToken);
        (await TtaRun.Of("stream", "--address", host.Grpc.AbsoluteUri, _folder.In("broken.mp4"))).AssertFails(1, "ffmpeg could not read", "broken.mp4");
    }

    [Fact]
    public async Task Stream_GrowingFolder_GoesOnUntilItIsStoppedAndThenSumsUp()
    {
        await using var host = await TestHost.StartAsync();
        Write("1.png");
        await using var program = OtherProgram.Start("dotnet", [Tta, "stream", "--address", host.Grpc.AbsoluteUri, "--follow", "--record", Record, _folder.Path]);
        await program.UntilAsync(() => Recorded(1));
        Write("2.png");
        await program.UntilAsync(() => Recorded(2));
        await program.TerminateAsync();

        Assert.NotEqual(0, program.ExitCode);
        Assert.Contains("2 frames in", program.Printed, StringComparison.Ordinal);
        Assert.DoesNotContain("   at ", program.Printed, StringComparison.Ordinal);

        Task<bool> Recorded(int lines) => Task.FromResult(File.Exists(Record) && File.ReadAllLines(Record).Length >= lines);
    }

    [Fact]
    public async Task Stream_ServerGoesAndComesBack_WaitsAndSaysSo()
    {
        var port = OtherProgram.FreePort();
        var host = await TestHost.StartAsync($"--Server:GrpcPort={port}");
        Write([.. Enumerable.Range(10, 40).Select(number => $"{number}.png")]);
        var running = TtaRun.Of("stream", "--address", host.Grpc.AbsoluteUri, "--fps", "20", "--record", Record, _folder.Path);
        var began = Stopwatch.StartNew();
        while (!File.Exists(Record) || new FileInfo(Record).Length == 0)
        {
            Assert.True(began.Elapsed < TimeSpan.FromSeconds(60) && !running.IsCompleted, "no answer came");
            await Task.Delay(10, TestContext.Current.CancellationToken);
        }

        await host.DisposeAsync();
        await using var again = await TestHost.StartAsync($"--Server:GrpcPort={port}");
        var run = await running;

        Assert.True(run.ExitCode == 0, run.Error);
        Assert.Contains("connected again", run.Error, StringComparison.Ordinal);
        Assert.Contains("is lost, it begins anew", run.Error, StringComparison.Ordinal);
        Assert.Contains("40 of 40 frames", run.Output, StringComparison.Ordinal);
        Assert.Contains(await ReadRecordAsync(), line => line.TryGetProperty("event", out var name) && name.GetString() == "StateLost");
    }

    [Fact]
    public async Task Stream_NothingUseful_IsAWrongUse()
    {
        Directory.CreateDirectory(_folder.In("empty"));
        (await TtaRun.Of("stream")).AssertRefused(2, "nothing to send");
        (await TtaRun.Of("stream", _folder.In("empty"))).AssertRefused(2, "holds no image");
        (await TtaRun.Of("stream", "--list", _folder.In("none"))).AssertRefused(2, "--list", "does not exist");
        (await TtaRun.Of("stream", "--fps", "0", "-")).AssertRefused(2, "--fps", "'0'");
    }

    [Fact]
    public async Task EveryRemoteCommand_NoServer_SaysWhatWasTriedWhereAndWhatToDo()
    {
        Write("1.png");
        string[][] commands = [["stream", _folder.In("1.png")], ["top"], ["streams", "list"],
            ["streams", "show", "x"], ["streams", "delete", "x"], ["load", "--seconds", "1", "--cameras", "1"]];
        foreach (var command in commands)
        {
            var run = await TtaRun.Of([.. command, "--address", "http://127.0.0.1:9"]);

            run.AssertRefused(1, "could", "http://127.0.0.1:9", "nothing listens there", "tta serve");
            Assert.DoesNotContain("subchannel", run.Error + run.Output, StringComparison.OrdinalIgnoreCase);
        }
    }

    [Fact]
    public async Task Streams_HttpPortOrUnknownHost_IsToldApart()
    {
        await using var host = await TestHost.StartAsync();

        (await TtaRun.Of("streams", "list", "--address", host.Http.AbsoluteUri)).AssertRefused(1, "Server:GrpcPort");
        (await TtaRun.Of("streams", "list", "--address", "http://no-such-host.invalid:8001")).AssertRefused(1, "no-such-host.invalid", "--address");
    }

    private static string Tta => Path.Combine(AppContext.BaseDirectory, "tta.dll");

    private void Write(params string[] names)
    {
        foreach (var name in names)
        {
            var format = Path.GetExtension(name) switch { ".png" => SKEncodedImageFormat.Png, ".webp" => SKEncodedImageFormat.Webp, _ => SKEncodedImageFormat.Jpeg };
            File.WriteAllBytes(_folder.In(name), TestFrames.File(name.Sum(character => character), format));
        }
    }

    private async Task<IEnumerable<JsonElement>> ReadRecordAsync() => (await File.ReadAllLinesAsync(Record)).Select(line => JsonDocument.Parse(line).RootElement);
}

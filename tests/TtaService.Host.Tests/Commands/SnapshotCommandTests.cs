using System.Diagnostics;
using System.Globalization;
using System.Text.Json;
using TtaService.Host.Tests.Infrastructure;
using TtaService.Host.Tests.Store;

namespace TtaService.Host.Tests.Commands;

public sealed class SnapshotCommandTests : IAsyncLifetime
{
    private readonly TestFolder _folder = new();

    private static string Model => Path.Combine(TestHost.ModelsPath, TestHost.Model);

    // A server's exports after one and after four steps, and what its file store holds.
    private string First => Path.Combine(_folder.Path, "first.safetensors");

    private string Second => Path.Combine(_folder.Path, "second.safetensors");

    private string Store => Path.Combine(_folder.Path, "store");

    private string Checkpoint => Directory.GetFiles(Store, "*.safetensors").Order(StringComparer.Ordinal).Last();

    public async ValueTask InitializeAsync()
    {
        await using var host = await TestHost.StartAsync("--Store:Kind=file", $"--Store:Path={Store}", "--Store:Encoding=float16_delta", "--Store:CheckpointInterval=00:00:00.2");
        await host.StepAsync("camera", TestFrames.Tensor(1), 1);
        await File.WriteAllBytesAsync(First, await host.ExportAsync("camera"));
        for (var step = 2; step <= 4; step++)
        {
            await host.StepAsync("camera", TestFrames.Tensor(step), (ulong)step);
        }

        await File.WriteAllBytesAsync(Second, await host.ExportAsync("camera"));
        await ReplicaTests.SavedAsync(host, "camera");
    }

    public ValueTask DisposeAsync()
    {
        _folder.Dispose();
        return ValueTask.CompletedTask;
    }

    [Fact]
    public async Task Inspect_Export_ShowsMetadataAndTensors()
    {
        var run = await TtaRun.Of("snapshot", "inspect", Second, "--json");

        Assert.Equal(0, run.ExitCode);
        using var json = JsonDocument.Parse(run.Output);
        Assert.Equal("4", json.RootElement.GetProperty("metadata").GetProperty("step").GetString());
        var tensors = json.RootElement.GetProperty("tensors").EnumerateArray().ToList();
        Assert.NotEmpty(tensors);
        Assert.All(tensors, tensor => Assert.InRange(tensor.GetProperty("mean").GetDouble(), tensor.GetProperty("min").GetDouble(), tensor.GetProperty("max").GetDouble()));
    }

    [Fact]
    public async Task Inspect_Export_KeepsNamesAndValuesApart()
    {
        var run = await TtaRun.Of("snapshot", "inspect", Second);

        var head = run.Lines.TakeWhile(line => !line.StartsWith("tensor", StringComparison.Ordinal))
            .ToDictionary(line => line.Split(' ')[0], line => line[line.IndexOf(' ', StringComparison.Ordinal)..].Trim());
        Assert.Equal("4", head["frames"]);
        Assert.Equal("4", head["observed_frames"]);
        Assert.StartsWith("{", head["hyperparameters"], StringComparison.Ordinal);
        Assert.Single(run.Output.Split('\n').TakeWhile(line => !line.Contains("tensor ", StringComparison.Ordinal)).Where(line => line.Length > 0)
            .Select(line => line.Length - line[line.IndexOf(' ', StringComparison.Ordinal)..].TrimStart().Length).Distinct());
    }

    [Fact]
    public async Task Inspect_EncodedCheckpoint_AsksForTheModelAndTakesIt()
    {
        var without = await TtaRun.Of("snapshot", "inspect", Checkpoint);
        var with = await TtaRun.Of("snapshot", "inspect", Checkpoint, "--model", Model);

        Assert.Contains("--model", without.Output, StringComparison.Ordinal);
        Assert.Contains(without.Lines, line => line.StartsWith("stream", StringComparison.Ordinal) && line.EndsWith("camera", StringComparison.Ordinal));
        Assert.Contains("tensor", with.Output, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Verify_FolderWithADamagedFile_NamesItAndFails()
    {
        var good = await TtaRun.Of("snapshot", "verify", Store, First, "--model", Model);
        var bytes = await File.ReadAllBytesAsync(Checkpoint, TestContext.Current.CancellationToken);
        bytes[^1] ^= 1;
        await File.WriteAllBytesAsync(Checkpoint, bytes, TestContext.Current.CancellationToken);
        var bad = await TtaRun.Of("snapshot", "verify", Store, First);

        Assert.Equal(0, good.ExitCode);
        Assert.DoesNotContain("REFUSED", good.Output, StringComparison.Ordinal);
        Assert.Equal(1, bad.ExitCode);
        Assert.Contains(bad.Lines, line => line.StartsWith($"REFUSED {Checkpoint}", StringComparison.Ordinal) && line.Contains("checksum", StringComparison.Ordinal));
    }

    [Fact]
    public async Task Verify_SnapshotOfAnotherModel_IsRefusedByName()
    {
        var run = await TtaRun.Of("snapshot", "verify", First, "--model", Path.Combine(AppContext.BaseDirectory, "models", "fashion-mnist"));

        Assert.Equal(1, run.ExitCode);
        Assert.Contains("belongs to model", run.Output, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Compare_TwoMoments_ShowsWhatMovedAndHonoursTheTolerance()
    {
        var same = await TtaRun.Of("snapshot", "compare", Second, Second, "--tolerance", "0");
        var moved = await TtaRun.Of("snapshot", "compare", First, Second, "--tolerance", "1e-9");
        var coded = await TtaRun.Of("snapshot", "compare", Second, Checkpoint, "--model", Model, "--tolerance", "1e-3");

        Assert.Equal(0, same.ExitCode);
        Assert.Contains(same.Lines, line => line.StartsWith("0 of ", StringComparison.Ordinal));
        Assert.Equal(1, moved.ExitCode);
        Assert.Contains("step: 1 -> 4", moved.Lines);
        Assert.True(coded.ExitCode == 0, coded.Output);
    }

    [Fact]
    public async Task Convert_EncodedCheckpoint_BecomesASnapshotThatAServerAndPythonOpen()
    {
        var plain = Path.Combine(_folder.Path, "plain.safetensors");
        Assert.Equal(0, (await TtaRun.Of("snapshot", "convert", Checkpoint, plain, "--model", Model)).ExitCode);

        await using var host = await TestHost.StartAsync();
        var imported = await host.Streams.ImportStreamAsync(
            new() { Name = "again", Snapshot = Google.Protobuf.ByteString.CopyFrom(await File.ReadAllBytesAsync(plain, TestContext.Current.CancellationToken)) });
        Assert.Equal(4, imported.Age.Steps);

        var small = Path.Combine(_folder.Path, "small.safetensors");
        Assert.Equal(0, (await TtaRun.Of("snapshot", "convert", plain, small, "--model", Model, "--encoding", "float16_delta")).ExitCode);
        Assert.InRange(new FileInfo(small).Length, 1, new FileInfo(plain).Length - 1);
        Assert.Equal(0, (await TtaRun.Of("snapshot", "compare", plain, small, "--model", Model, "--tolerance", "1e-3")).ExitCode);

        await OpenInPythonAsync(plain);
    }

    [Fact]
    public async Task WrongFiles_AreRefusedInOneLine()
    {
        var text = Path.Combine(_folder.Path, "text");
        await File.WriteAllTextAsync(text, "no snapshot", TestContext.Current.CancellationToken);

        (await TtaRun.Of("snapshot", "inspect", text)).AssertRefused(2, "no snapshot");
        (await TtaRun.Of("snapshot", "inspect", Path.Combine(_folder.Path, "nothing"))).AssertRefused(2, "can't be read");
        (await TtaRun.Of("snapshot", "convert", Checkpoint, text)).AssertRefused(2, "--model");
        (await TtaRun.Of("snapshot", "convert", First, text, "--encoding", "zip")).AssertRefused(2, "--encoding", "'zip'");
    }

    // The container is open to everybody: header length, JSON, numbers.
    private static async Task OpenInPythonAsync(string path)
    {
        const string Script = """
            import json, struct, sys
            import numpy
            data = open(sys.argv[1], 'rb').read()
            length = struct.unpack('<Q', data[:8])[0]
            header = json.loads(data[8:8 + length])
            print(header['__metadata__']['step'])
            for name, tensor in header.items():
                if name != '__metadata__':
                    start, end = tensor['data_offsets']
                    values = numpy.frombuffer(data[8 + length + start:8 + length + end], '<f4').reshape(tensor['shape'])
                    assert numpy.isfinite(values).all(), name
            """;
        var start = new ProcessStartInfo("/usr/bin/python3", ["-c", Script, path]) { RedirectStandardOutput = true, RedirectStandardError = true };
        if (!File.Exists(start.FileName))
        {
            return;
        }

        using var python = Process.Start(start)!;
        var output = await python.StandardOutput.ReadToEndAsync(TestContext.Current.CancellationToken);
        var error = await python.StandardError.ReadToEndAsync(TestContext.Current.CancellationToken);
        await python.WaitForExitAsync(TestContext.Current.CancellationToken);
        if (error.Contains("No module named 'numpy'", StringComparison.Ordinal))
        {
            return;
        }

        Assert.True(python.ExitCode == 0, error);
        Assert.Equal(4, int.Parse(output, CultureInfo.InvariantCulture));
    }
}

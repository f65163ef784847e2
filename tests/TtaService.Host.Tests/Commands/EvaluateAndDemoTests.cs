using System.Text.Json;
using TtaService.Engine.Execution;
using TtaService.Engine.Normalization;
using TtaService.Host.Commands;

namespace TtaService.Host.Tests.Commands;

/// <summary>The demo model, the commands and the real server, as a user runs them.</summary>
public sealed class EvaluateAndDemoTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("tta-evaluate-").FullName;

    [Fact]
    public async Task Demo_FewSeconds_ShowsEveryCameraAndASummary()
    {
        var run = await TtaRun.Of("demo", "--seconds", "3", "--cameras", "3", "--batch-size", "2");

        Assert.Equal(0, run.ExitCode);
        Assert.Contains("camera-3", run.Output, StringComparison.Ordinal);
        Assert.Contains("accuracy of auto", run.Output, StringComparison.Ordinal);
        Assert.DoesNotContain("\u001b[", run.Output, StringComparison.Ordinal);
        Assert.Contains("Every frame went through the service twice", run.Output, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Demo_EightCameras_OneIsCleanOneChangesAndTheBestPublishedMethodIsNamed()
    {
        var run = await TtaRun.Of("demo", "--seconds", "6", "--cameras", "8", "--batch-size", "4");

        Assert.Equal(0, run.ExitCode);
        Assert.Contains(run.Lines, line => line.Contains("camera-6", StringComparison.Ordinal) && line.Contains("clean", StringComparison.Ordinal));
        Assert.Contains(run.Lines, line => line.Contains("camera-8", StringComparison.Ordinal) && line.Contains(", changes", StringComparison.Ordinal));
        Assert.Contains("camera-6 sees what the model was trained for", run.Output, StringComparison.Ordinal);
        Assert.Contains("the best single published method (", run.Output, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Evaluate_Matrix_GoesOnWhereItWasStopped()
    {
        var (csv, table) = (Path.Combine(_folder, "matrix.csv"), Path.Combine(_folder, "matrix.md"));
        string[] Arguments(string batches) =>
        [
            "evaluate", "--matrix", "--model", "fashion-mnist", "--method", "source,ema,auto", "--corruptions",
                "fog,contrast", "--setting", "single,recurring", "--order", "one-class,imbalanced",
            "--batch-size", batches, "--seeds", "0", "--limit", "24", "--csv", csv, "--markdown", table,
        ];
        var first = await TtaRun.Of(Arguments("8"));
        Assert.Equal(0, first.ExitCode);
        // Two settings and the clean one, two orders, three methods.
        Assert.Contains("18 cells to run, 0 are in", first.Output, StringComparison.Ordinal);
        var lines = await File.ReadAllLinesAsync(csv, TestContext.Current.CancellationToken);
        Assert.Equal(1 + 18, lines.Length);

        // Stopped in the middle of a line: that cell is run again, and gives the same.
        var content = await File.ReadAllTextAsync(csv, TestContext.Current.CancellationToken);
        await File.WriteAllTextAsync(csv, content[..^3], TestContext.Current.CancellationToken);
        var second = await TtaRun.Of(Arguments("8"));
        Assert.Contains("1 cells to run, 17 are in", second.Output, StringComparison.Ordinal);
        Assert.Equal(lines.Order(), (await File.ReadAllLinesAsync(csv, TestContext.Current.CancellationToken)).Order());

        var third = await TtaRun.Of(Arguments("4,8"));
        Assert.Contains("18 cells to run, 18 are in", third.Output, StringComparison.Ordinal);
        var rows = (await File.ReadAllLinesAsync(table, TestContext.Current.CancellationToken)).Skip(2).ToList();
        Assert.Equal(12, rows.Count);
        Assert.All(rows, row => Assert.Equal(9 + 2, row.Split('|').Length));
        Assert.Contains("auto against source: mean", third.Output, StringComparison.Ordinal);

        await File.WriteAllTextAsync(csv, "setting,order\n", TestContext.Current.CancellationToken);
        (await TtaRun.Of(Arguments("8"))).AssertRefused(CommandException.Failure, "no file of a matrix");
    }

    [Fact]
    public async Task Evaluate_JsonCsvAndLogits_AgreeWithTheTable()
    {
        var (json, csv, logits) = (Path.Combine(_folder, "r.json"), Path.Combine(_folder, "r.csv"), Path.Combine(_folder, "l.npy"));

        var run = await TtaRun.Of("evaluate", "--model", "fashion-mnist", "--method", "ema", "--corruptions",
            "clean,fog", "--limit", "96", "--batch-size", "32", "--json", json, "--csv", csv, "--logits-out", logits);

        Assert.Equal(0, run.ExitCode);
        using var rows = JsonDocument.Parse(await File.ReadAllTextAsync(json, TestContext.Current.CancellationToken));
        Assert.Equal(["clean", "fog"], rows.RootElement.EnumerateArray().Select(row => row.GetProperty("domain").GetString()));
        Assert.All(rows.RootElement.EnumerateArray(), row => Assert.Equal(96, row.GetProperty("frames").GetInt32()));
        Assert.Equal(3, (await File.ReadAllLinesAsync(csv, TestContext.Current.CancellationToken)).Length);
        Assert.Equal(2 * 96, NpyArray.Read(logits).Rows);
        var fog = rows.RootElement[1].GetProperty("error_percent").GetDouble();
        Assert.Contains(run.Lines, line =>
            line.StartsWith("fog", StringComparison.Ordinal) && line.EndsWith(fog.ToString("0.0", System.Globalization.CultureInfo.InvariantCulture), StringComparison.Ordinal));
    }

    [Fact]
    public async Task Evaluate_FromASnapshot_GoesOnFromItsState()
    {
        var file = Path.Combine(_folder, "state.safetensors");
        await File.WriteAllBytesAsync(file, SnapshotOfDarkFrames(), TestContext.Current.CancellationToken);
        string[] Arguments(string logits, params string[] more) => ["evaluate", "--model", "fashion-mnist", "--corruptions", "none",
            "--order", "as-is", "--limit", "16", "--batch-size", "8", "--logits-out", Path.Combine(_folder, logits), .. more];

        var runs = new[] { await TtaRun.Of(Arguments("resumed.npy", "--state", file)),
            await TtaRun.Of(Arguments("again.npy", "--state", file)), await TtaRun.Of(Arguments("fresh.npy", "--method", "ema")) };

        Assert.All(runs, run => Assert.Equal("", run.Error));
        Assert.Equal(await BytesAsync("resumed.npy"), await BytesAsync("again.npy"));
        Assert.NotEqual(NpyArray.Read(Path.Combine(_folder, "resumed.npy")).Values, NpyArray.Read(Path.Combine(_folder, "fresh.npy")).Values);
        (await TtaRun.Of(Arguments("other.npy", "--state", file, "--method", "tbr"))).AssertRefused(CommandException.Usage, "ema", "tbr");
    }

    [Fact]
    public async Task Evaluate_AsIs_RepeatsTheRunAndRefusesABrokenSnapshot()
    {
        string[] Arguments(string logits, params string[] more) => ["evaluate", "--model", "fashion-mnist", "--corruptions", "none",
            "--order", "as-is", "--limit", "40", "--batch-size", "8", "--logits-out", Path.Combine(_folder, logits), .. more];
        await TtaRun.Of(Arguments("first.npy", "--method", "tbr"));
        await TtaRun.Of(Arguments("second.npy", "--method", "tbr"));
        Assert.Equal(await BytesAsync("first.npy"), await BytesAsync("second.npy"));

        await File.WriteAllBytesAsync(Path.Combine(_folder, "state.safetensors"), [1, 2, 3], TestContext.Current.CancellationToken);
        (await TtaRun.Of(Arguments("third.npy", "--state", Path.Combine(_folder, "state.safetensors")))).AssertRefused(CommandException.Failure, "snapshot");
    }

    [Theory]
    [InlineData("--corruptions", "rain", "clean, gaussian_noise")]
    [InlineData("--order", "random", "iid, correlated, as-is")]
    [InlineData("--setting", "double", "single, continual, mixed")]
    [InlineData("--data", "/nowhere", "does not exist")]
    [InlineData("--method", "nothing", "does not exist")]
    public async Task Evaluate_WrongValue_SaysWhatThereIs(string option, string value, string said)
    {
        var run = await TtaRun.Of("evaluate", "--model", "fashion-mnist", "--limit", "8", option, value);

        Assert.NotEqual(0, run.ExitCode);
        Assert.Contains(said, run.Error, StringComparison.Ordinal);
        Assert.DoesNotContain("   at ", run.Error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Inspect_DemoModel_ShowsSitesAndStreamsPerGibibyte()
    {
        var run = await TtaRun.Of("inspect", "fashion-mnist", "--json");

        Assert.Equal(0, run.ExitCode);
        using var report = JsonDocument.Parse(run.Output);
        Assert.Equal(13, report.RootElement.GetProperty("site_count").GetInt32());
        var unmix = report.RootElement.GetProperty("methods").EnumerateArray().First(method => method.GetProperty("method").GetString() == "unmix_tns");
        // 2 * K floats a channel, and K a site.
        Assert.Equal(16 * sizeof(float) * ((2 * report.RootElement.GetProperty("channels").GetInt64()) + 13), unmix.GetProperty("state_bytes").GetInt64());
    }

    [Fact]
    public async Task OnnxTest_FolderWithoutTests_IsRefused() => (await TtaRun.Of("onnx-test", _folder)).AssertRefused(CommandException.Usage, "holds no model.onnx");

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    private static byte[] SnapshotOfDarkFrames()
    {
        var location = ModelLocation.Resolve("fashion-mnist", null);
        using var model = AdaptiveModel.Load(location.OnnxPath, location.LoadOptions);
        var state = model.CreateState(MethodSettings.Create("ema"));
        model.Run([new StreamStep(state, FrameBlock.FromPixels(new byte[64 * 28 * 28], 64, 1, 28, 28))]);
        return model.Export(state, DateTimeOffset.UnixEpoch);
    }

    private Task<byte[]> BytesAsync(string name) => File.ReadAllBytesAsync(Path.Combine(_folder, name), TestContext.Current.CancellationToken);
}

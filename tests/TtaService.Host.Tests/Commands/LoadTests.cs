using System.Globalization;
using System.Text.Json;
using TtaService.Host.Grpc;
using TtaService.Host.Tests.Infrastructure;
using TtaService.Serving.Streams;

namespace TtaService.Host.Tests.Commands;

public sealed class LoadTests
{
    [Fact]
    public async Task Load_CountsEveryFrame()
    {
        await using var host = await TestHost.StartAsync();

        var run = await TtaRun.Of("load", "--address", host.Grpc.AbsoluteUri, "--cameras", "4", "--rate", "10", "--seconds", "2", "--model", TestHost.Model, "--json", "--strict");

        Assert.True(run.ExitCode == 0, run.Error + run.Output);
        using var report = JsonDocument.Parse(run.Output);
        int Value(string name) => report.RootElement.GetProperty(name).GetInt32();
        Assert.InRange(Value("steps"), 40, 88);
        Assert.Equal(Value("steps"), Value("answered"));
        Assert.All(["never_opened", "left_out", "failed", "lost", "resets", "forgotten_steps", "double_steps", "moved"], name => Assert.Equal(0, Value(name)));
        Assert.InRange(report.RootElement.GetProperty("latency_p99").GetDouble(),
            report.RootElement.GetProperty("latency_p50").GetDouble(), report.RootElement.GetProperty("latency_max").GetDouble());
        Assert.True(report.RootElement.GetProperty("longest_gap").GetDouble() >= 90, "a camera that sends every 100 ms has gaps of about that");
    }

    // The figure is 1,000 cameras for a minute: TTA_LOAD_CAMERAS, TTA_LOAD_SECONDS.
    [Fact]
    public async Task Load_ManyCamerasOnTheDemosModel_LoseAndDoubleNothing()
    {
        var (cameras, seconds) = (Environment.GetEnvironmentVariable("TTA_LOAD_CAMERAS") ?? "100", Environment.GetEnvironmentVariable("TTA_LOAD_SECONDS") ?? "4");
        await using var host = await TestHost.StartAsync($"--Models:Path={FashionCamera.Models}");

        var run = await TtaRun.Of(
            "load", "--address", host.Grpc.AbsoluteUri, "--cameras", cameras, "--rate", "1", "--seconds", seconds, "--image-size", "28", "--json", "--strict");

        Assert.True(run.ExitCode == 0, run.Error + run.Output);
        TestContext.Current.TestOutputHelper!.WriteLine($"figure: {run.Output}");
        Assert.Equal(int.Parse(cameras, CultureInfo.InvariantCulture), host.Part<StreamDirectory>().Loaded.Count());
        // What cameras sent is held until it is answered, and no longer.
        await TestHost.UntilAsync(() => host.Part<MessageBudget>().Bytes == 0, "bytes of messages stay counted");
    }

    [Fact]
    public async Task Load_StepsThatAreRefused_AreCountedAndNamed()
    {
        await using var host = await TestHost.StartAsync("--Frames:MaxSide=32");

        var run = await TtaRun.Of(
            "load", "--address", host.Grpc.AbsoluteUri, "--cameras", "1", "--rate", "10", "--seconds", "1", "--image-size", "64", "--model", TestHost.Model, "--strict");

        Assert.Equal(1, run.ExitCode);
        Assert.Contains("first error: ", run.Output, StringComparison.Ordinal);
        Assert.Contains(" 0 answered", run.Output, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Load_UnknownModel_SaysWhyNobodyGotIn()
    {
        await using var host = await TestHost.StartAsync();

        var run = await TtaRun.Of("load", "--address", host.Grpc.AbsoluteUri, "--cameras", "1", "--seconds", "1", "--model", "nope");

        run.AssertRefused(1, "no camera could open", "nope");
    }
}

using TtaService.Host.Tests.Infrastructure;

namespace TtaService.Host.Tests.Commands;

/// <summary>Commands that take long end on Ctrl-C and SIGTERM with what they have, and never with a stack.</summary>
public sealed class InterruptionTests
{
    [Theory]
    [InlineData(true, 130)]
    [InlineData(false, 143)]
    public async Task Evaluate_Interrupted_WritesWhatItHas(bool interrupt, int code)
    {
        using var folder = new TestFolder();
        await using var command = Start(
            ["evaluate", "--model", "fashion-mnist", "--method", "source,unmix_tns", "--seeds", "1,2,3,4,5,6,7,8", "--batch-size", "1", "--csv", folder.In("rows.csv")]);
        await RunningAsync(command);
        await command.AskToEndAsync(interrupt);
        await command.ExitAsync();

        Assert.Equal(code, command.ExitCode);
        Assert.Contains("tta: interrupted", command.Printed, StringComparison.Ordinal);
        Assert.Contains("interrupted after", command.Printed, StringComparison.Ordinal);
        Assert.Contains("unmix_tns", command.Printed, StringComparison.Ordinal);
        Assert.StartsWith("setting,order", await File.ReadAllTextAsync(folder.In("rows.csv"), TestContext.Current.CancellationToken), StringComparison.Ordinal);
        AssertNoStack(command);
    }

    [Fact]
    public async Task Evaluate_TwoSignalsInARow_EndsWithoutAStack()
    {
        await using var command = Start(["evaluate", "--model", "fashion-mnist", "--seeds", "1,2,3,4,5,6,7,8"]);
        await RunningAsync(command);
        await command.AskToEndAsync(interrupt: false);
        await command.AskToEndAsync(interrupt: false);
        await command.ExitAsync();

        Assert.Equal(143, command.ExitCode);
        AssertNoStack(command);
    }

    [Theory]
    [InlineData(true, 130)]
    [InlineData(false, 143)]
    public async Task Top_Interrupted_Ends(bool interrupt, int code)
    {
        await using var server = await ServerProcess.StartAsync("Store:Kind=memory", "Drift:Interval=00:00:00.5");
        await using var command = Start(["top", "--address", $"http://127.0.0.1:{server.GrpcPort}"]);
        await command.UntilAsync(() => Task.FromResult(command.Printed.Contains("tiny", StringComparison.Ordinal)));
        await command.AskToEndAsync(interrupt);
        await command.ExitAsync();

        Assert.Equal(code, command.ExitCode);
        AssertNoStack(command);
    }

    [Fact]
    public async Task Load_Terminated_WritesItsReport()
    {
        await using var server = await ServerProcess.StartAsync("Store:Kind=memory");
        await using var command = Start(["load", "--address", $"http://127.0.0.1:{server.GrpcPort}", "--cameras", "1", "--seconds", "600", "--prefix", "interrupted"]);
        await using var streams = new Camera("probe", server.GrpcPort, TimeSpan.FromMilliseconds(100));
        await streams.UntilAnsweredAsync(5);
        await Task.Delay(TimeSpan.FromSeconds(2), TestContext.Current.CancellationToken);
        await command.AskToEndAsync(interrupt: false);
        await command.ExitAsync();

        Assert.Equal(143, command.ExitCode);
        Assert.Contains("camera", command.Printed, StringComparison.Ordinal);
        AssertNoStack(command);
    }

    [Fact]
    public async Task Serve_TwoSignalsInARow_StopsAsAlways()
    {
        using var folder = new TestFolder();
        await using var server = await ServerProcess.StartAsync("Store:Kind=file", $"Store:Path={folder.Path}");
        await server.Process.AskToEndAsync(interrupt: false);
        await server.Process.AskToEndAsync(interrupt: false);
        await server.Process.ExitAsync();

        Assert.Equal(0, server.Process.ExitCode);
        AssertNoStack(server.Process);
    }

    private static OtherProgram Start(string[] arguments) => OtherProgram.Start("dotnet", [Path.Combine(AppContext.BaseDirectory, "tta.dll"), .. arguments]);

    // It says nothing before its end. Long enough for the model and the first passes; not so long that it could be over.
    private static async Task RunningAsync(OtherProgram command)
    {
        using var process = System.Diagnostics.Process.GetProcessById(command.Id);
        await TestHost.UntilAsync(
            () =>
            {
                process.Refresh();
                return process.HasExited || process.Threads.Count > 0 && process.TotalProcessorTime > TimeSpan.FromSeconds(4);
            },
            "it does not run");
        Assert.False(command.HasExited, command.Printed);
    }

    private static void AssertNoStack(OtherProgram command)
    {
        Assert.DoesNotContain("   at ", command.Printed, StringComparison.Ordinal);
        Assert.DoesNotContain("Unhandled", command.Printed, StringComparison.Ordinal);
    }
}

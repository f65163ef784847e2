using TtaService.Engine.Normalization;

namespace TtaService.Host.Tests.Commands;

public sealed class CommandLineTests
{
    [Fact]
    public async Task Help_Root_ListsEveryCommand()
    {
        var run = await TtaRun.Of("--help");

        Assert.Equal(0, run.ExitCode);
        Assert.All(["serve", "demo", "evaluate", "inspect", "methods", "stream", "snapshot", "onnx-test"], command =>
            Assert.Contains($"  {command}", run.Output, StringComparison.Ordinal));
    }

    [Fact]
    public async Task UnknownCommand_IsRefusedInOneLine() =>
        (await TtaRun.Of("inspct")).AssertRefused(2, "inspct", "tta --help");

    [Theory]
    [InlineData("inspct", "'inspect'")]
    [InlineData("evalaute", "'evaluate'")]
    [InlineData("stream --mehtod", "'--method'")]
    [InlineData("snapshot verfy", "'verify'")]
    [InlineData("streams list --adress", "'--address'")]
    public async Task Mistyped_NamesTheNearest(string typed, string meant) =>
        (await TtaRun.Of(typed.Split(' '))).AssertRefused(2, $"Did you mean {meant}?");

    [Fact]
    public async Task NothingNear_NamesNothing()
    {
        var run = await TtaRun.Of("xyzzy");

        run.AssertRefused(2, "xyzzy");
        Assert.DoesNotContain("Did you mean", run.Error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task MissingArgument_IsRefusedWithTheCommandsHelp() =>
        (await TtaRun.Of("inspect")).AssertRefused(2, "model", "tta inspect --help");

    [Theory]
    [InlineData("demo", "--severity", "6", "1 to 5")]
    [InlineData("demo", "--seconds", "soon", "'soon'")]
    [InlineData("evaluate", "--batch-size", "1,0", "1,0")]
    [InlineData("evaluate", "--seeds", "3..1", "3..1")]
    [InlineData("evaluate", "--delta", "x", "'x'")]
    [InlineData("stream", "--address", "localhost", "http://127.0.0.1:8001")]
    [InlineData("serve", "--grpc-port", "70000", "65535")]
    public async Task OptionOutOfRange_IsRefusedWithItsNameAndBounds(string command, string option, string value, string said) =>
        (await TtaRun.Of(command, option, value)).AssertRefused(2, option, said);

    [Fact]
    public async Task Stream_NoServer_SaysSoAndFails()
    {
        var image = Path.Combine(Path.GetTempPath(), $"{Guid.NewGuid():N}.png");
        await File.WriteAllBytesAsync(image, [1, 2, 3]);

        var run = await TtaRun.Of("stream", "--address", "http://127.0.0.1:9", image);
        File.Delete(image);

        run.AssertRefused(1, "Unavailable");
    }

    [Fact]
    public async Task Stream_NoSuchFile_IsAWrongUse() =>
        (await TtaRun.Of("stream", "no-such-folder")).AssertRefused(2, "no-such-folder", "does not exist");

    [Fact]
    public async Task Methods_ListsEveryMethodWithItsHyperparameters()
    {
        var run = await TtaRun.Of("methods");

        Assert.Equal(0, run.ExitCode);
        foreach (var method in MethodRegistry.BuiltIn.All)
        {
            Assert.Contains($"{method.Name}: {method.Summary}", run.Lines);
            Assert.Contains($"from {method.Source}", run.Lines);
            Assert.All(method.Hyperparameters, hyperparameter => Assert.Contains(
                run.Lines, line => line.StartsWith(hyperparameter.Name, StringComparison.Ordinal) && line.Contains(hyperparameter.Range, StringComparison.Ordinal)));
        }
    }
}

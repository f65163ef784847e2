using TtaService.Engine.Drift;
using TtaService.Host.Commands;
using TtaService.Host.Tests.Commands;

namespace TtaService.Host.Tests.Drift;

public sealed class CalibrateCommandTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("tta-calibrate-").FullName;

    [Fact]
    public async Task Calibrate_Sample_WritesWhatTheMonitorReads()
    {
        var file = Path.Combine(_folder, DriftReference.FileName);
        var run = await TtaRun.Of("calibrate", "--model", "fashion-mnist", "--first", "900", "--stream-length", "300", "--batch-size", "20", "--method", "source,ema", "--output", file);

        Assert.Equal("", run.Error);
        Assert.Contains(run.Lines, line => line.StartsWith("layer3.1.bn2", StringComparison.Ordinal));
        var reference = DriftReference.Read(file);
        Assert.Equal((900, 3, 128), (reference.Frames, reference.Streams, reference.Tau));
        Assert.Equal(["source", "ema"], reference.Methods.Keys);
        Assert.All(reference.Methods.Values, method =>
        {
            Assert.Equal(13, method.Sites.Count);
            Assert.Equal(1, method.Classes.Sum(), 1e-3);
            Assert.InRange(method.Entropy!.Value, 0.001, 0.9);
            Assert.All(method.Sites, site => Assert.True(site.Limit > site.GaussianKl && site.GaussianKl > 0));
        });
    }

    [Fact]
    public async Task Calibrate_TooFewFramesOrAMethodThatRefusesThem_SaysSo()
    {
        var file = Path.Combine(_folder, DriftReference.FileName);
        (await TtaRun.Of("calibrate", "--model", "fashion-mnist", "--first", "100", "--output", file)).AssertRefused(CommandException.Failure, "100 frames", "256");
        (await TtaRun.Of("calibrate", "--model", "fashion-mnist", "--first", "300", "--batch-size", "1", "--method", "tbn", "--output", file)).AssertRefused(CommandException.Failure, "tbn", "batch size");
        (await TtaRun.Of("calibrate", "--model", "fashion-mnist", "--method", "ema,ema{momentum=0.1}", "--output", file)).AssertRefused(CommandException.Usage, "twice");
        Assert.False(File.Exists(file));
    }

    public void Dispose() => Directory.Delete(_folder, recursive: true);
}

using System.Runtime.InteropServices;
using SkiaSharp;
using TtaService.Engine.Calibration;
using TtaService.Engine.Drift;
using TtaService.Evaluation;
using TtaService.Host.Commands;
using TtaService.Host.Tests.Commands;
using TtaService.Host.Tests.Infrastructure;

namespace TtaService.Host.Tests.Drift;

public sealed class CalibrateCommandTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("tta-calibrate-").FullName;

    [Fact]
    public async Task Calibrate_Sample_WritesWhatTheMonitorReads()
    {
        var file = Path.Combine(_folder, DriftReference.FileName);
        var run = await TtaRun.Of(
            "calibrate", "--model", "fashion-mnist", "--first", "900", "--stream-length", "300", "--batch-size", "20", "--method", "source,ema", "--output", file);

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
        (await TtaRun.Of("calibrate", "--model", "fashion-mnist", "--first", "300", "--batch-size", "1", "--method", "tbn", "--output", file))
            .AssertRefused(CommandException.Failure, "tbn", "batch size");
        (await TtaRun.Of("calibrate", "--model", "fashion-mnist", "--method", "ema,ema{momentum=0.1}", "--output", file)).AssertRefused(CommandException.Usage, "twice");
        Assert.False(File.Exists(file));
    }

    [Fact]
    public async Task Calibrate_FolderWithoutLabels_WritesTheCalibrationToo()
    {
        var frames = Directory.CreateDirectory(Path.Combine(_folder, "frames")).FullName;
        var images = LabelledImages.Open(Path.Combine(AppContext.BaseDirectory, "models", "fashion-mnist", "sample"), _ => throw new InvalidOperationException());
        for (var i = 0; i < 300; i++)
        {
            File.WriteAllBytes(Path.Combine(frames, $"{i:0000}.png"), Png(images.Read(i)));
        }

        var (drift, calibration) = (Path.Combine(_folder, DriftReference.FileName), Path.Combine(_folder, ModelCalibration.FileName));
        var run = await TtaRun.Of("calibrate", "--model", "fashion-mnist", "--data", frames, "--frames", "200", "--method", "source", "--output", drift);
        Assert.Equal("", run.Error);
        Assert.Contains(run.Lines, line => line.Contains("200 frames, 13 sites, 10 classes", StringComparison.Ordinal));
        Assert.Contains(run.Lines, line => line.Contains("more frames help until", StringComparison.Ordinal));
        Assert.Equal(300, DriftReference.Read(drift).Frames);
        var read = ModelCalibration.Read(calibration);
        Assert.Equal((200, 10, 13), (read.Frames, read.Classes, read.Sites.Count));

        File.WriteAllBytes(Path.Combine(frames, "0150.png"), [1, 2, 3]);
        (await TtaRun.Of("calibrate", "--model", "fashion-mnist", "--data", frames, "--only", "calibration", "--output", drift))
            .AssertRefused(CommandException.Failure, "0150.png");
        (await TtaRun.Of("calibrate", "--model", "fashion-mnist", "--data", frames, "--first", "50", "--only", "calibration", "--output", drift))
            .AssertRefused(CommandException.Failure, "64 frames and more, there are 50");
        Assert.Equal(read.Created, ModelCalibration.Read(calibration).Created);
    }

    [Fact]
    public async Task Calibrate_FoldedModelOnUnlabelledFrames_MakesItAdapt()
    {
        var folder = Directory.CreateDirectory(Path.Combine(_folder, "plain")).FullName;
        File.Copy(Path.Combine(AppContext.BaseDirectory, "Data", "two-models", "plain", "model.onnx"), Path.Combine(folder, "model.onnx"));
        var frames = Directory.CreateDirectory(Path.Combine(_folder, "frames")).FullName;
        for (var i = 0; i < 70; i++)
        {
            // Of any size: they are made to fit as a camera's are.
            File.WriteAllBytes(Path.Combine(frames, $"{i:000}.png"), TestFrames.File(i, SKEncodedImageFormat.Png, 20 + i, 40));
        }

        var before = await TtaRun.Of("inspect", folder);
        Assert.Equal(3, before.Lines.Count(line => line.Contains("virtual, not calibrated", StringComparison.Ordinal)));
        Assert.Contains(before.Lines, line => line.StartsWith("Nothing adapts: ", StringComparison.Ordinal)
            && line.Contains("3 places where BatchNorm was folded can adapt: run `tta calibrate --model MODEL --data FOLDER`", StringComparison.Ordinal));
        Assert.Contains(before.Lines, line => line == "method   source");

        var run = await TtaRun.Of("calibrate", "--model", folder, "--data", frames, "--only", "calibration");
        Assert.Equal((0, string.Empty), (run.ExitCode, run.Error));
        Assert.Contains(run.Lines, line => line.StartsWith("70 frames, 3 sites (3 virtual), 5 classes; largest standard error", StringComparison.Ordinal));
        Assert.Equal(3, run.Lines.Count(line => line.Contains("  virtual  ", StringComparison.Ordinal)));

        var after = await TtaRun.Of("inspect", folder);
        Assert.Contains(after.Lines, line => line == "method   auto");
        Assert.Contains(after.Lines, line => line.StartsWith("Adapts: all 3 normalization sites (3 of them virtual", StringComparison.Ordinal));

        // The old file stays until a new one is whole, and another model's is refused.
        var file = Path.Combine(folder, ModelCalibration.FileName);
        var written = await File.ReadAllBytesAsync(file, TestContext.Current.CancellationToken);
        File.WriteAllBytes(Path.Combine(frames, "033.png"), [1, 2, 3]);
        (await TtaRun.Of("calibrate", "--model", folder, "--data", frames, "--only", "calibration")).AssertRefused(CommandException.Failure, "033.png");
        (await TtaRun.Of("calibrate", "--model", folder, "--data", frames, "--first", "30", "--only", "calibration"))
            .AssertRefused(CommandException.Failure, "64 frames and more, there are 30");
        Assert.Equal(written, await File.ReadAllBytesAsync(file, TestContext.Current.CancellationToken));
        File.Copy(Path.Combine(AppContext.BaseDirectory, "models", "fashion-mnist", ModelCalibration.FileName), file, overwrite: true);
        (await TtaRun.Of("inspect", folder)).AssertRefused(CommandException.Failure, file, "belongs to model", "tta calibrate");
    }

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    private static byte[] Png(Image image)
    {
        using var bitmap = new SKBitmap(new SKImageInfo(image.Width, image.Height, SKColorType.Gray8, SKAlphaType.Opaque));
        for (var row = 0; row < image.Height; row++)
        {
            Marshal.Copy(image.Pixels, row * image.Width, bitmap.GetPixels() + (row * bitmap.RowBytes), image.Width);
        }

        using var encoded = bitmap.Encode(SKEncodedImageFormat.Png, 100);
        return encoded.ToArray();
    }
}

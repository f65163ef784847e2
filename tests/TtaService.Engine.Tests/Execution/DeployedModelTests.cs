using System.Diagnostics;
using TtaService.Engine.Calibration;
using TtaService.Engine.Execution;
using TtaService.Engine.Normalization;
using TtaService.Engine.Onnx;
using TtaService.Engine.Onnx.Wire;
using TtaService.Engine.Tests.Onnx;

namespace TtaService.Engine.Tests.Execution;

/// <summary>Models as they are deployed: loaded, calibrated on a few unlabelled frames, then every method with a neighbour in its passes.</summary>
/// <remarks>TTA_DEPLOYED_MODELS=FOLDER runs all models of a folder (export_torchvision.py writes torchvision's); without it the small networks of Data/onnx, folded.</remarks>
public sealed class DeployedModelTests : IDisposable
{
    private static readonly string? Folder = Environment.GetEnvironmentVariable("TTA_DEPLOYED_MODELS");

    private readonly string _written = Directory.CreateTempSubdirectory("tta-deployed").FullName;

    public static TheoryData<string> Models { get; } = Folder is null
        ? new("bottleneck_opset17", "squeeze_excite_opset17", "dense_opset11")
        : new(Directory.GetDirectories(Folder).Where(folder => File.Exists(Path.Combine(folder, "model.onnx"))).Order(StringComparer.Ordinal));

    [Theory]
    [MemberData(nameof(Models))]
    public void Calibrate_ThenEveryMethod_AnswersFiniteAndAloneAsBesideOthers(string model)
    {
        var began = Stopwatch.GetTimestamp();
        var path = Folder is null ? OnnxFiles.Write(_written, FoldedModel.Of(
            ModelProto.Parser.ParseFrom(File.ReadAllBytes(Path.Combine(AppContext.BaseDirectory, "Data", "onnx", $"{model}.onnx")))).Model) : Path.Combine(model, "model.onnx");
        using var plain = AdaptiveModel.Load(path, new AdaptiveModelOptions { ForCalibration = true });
        var side = plain.InputShape[2] > 0 ? (int)plain.InputShape[2] : 16;
        var calibrator = new Calibrator(plain);
        for (var at = 0; at < Calibrator.MinFrames; at += 16)
        {
            calibrator.Observe(Frames(at, 16, side));
        }

        var (sites, calibration) = (plain.Sites.Count, calibrator.Complete(DateTimeOffset.UnixEpoch));
        plain.Dispose();
        using var calibrated = AdaptiveModel.Load(path, new AdaptiveModelOptions { Calibration = calibration });
        Assert.Equal(sites, calibrated.Sites.Count);
        var source = calibrated.RunSource([Frames(100, 4, side)])[0].Values;
        foreach (var method in MethodRegistry.BuiltIn.All.Select(method => MethodSettings.Create(method.Name)))
        {
            Assert.Null(calibrated.WhyUnavailable(method));
            var (alone, beside, neighbour) = (calibrated.CreateState(method, 1), calibrated.CreateState(method, 1), calibrated.CreateState(method, 2));
            for (var step = 0; step < 2; step++)
            {
                var frames = Frames(100 + (10 * step), 4, side);
                var expected = calibrated.Run([new StreamStep(alone, frames)])[0];
                var together = calibrated.Run([new StreamStep(neighbour, Frames(500 + (10 * step), 5, side)), new StreamStep(beside, frames)]);
                Assert.All([expected, .. together], result => Assert.Equal(StepStatus.Ok, result.Status));
                Assert.All(together[1].Outputs[0].Values, value => Assert.True(float.IsFinite(value)));
                var scale = Math.Max(1, expected.Outputs[0].Values.Max(Math.Abs));
                // Random weights amplify what a convolution rounds otherwise in a larger batch (EfficientNet-B0: 2e-3 with source, too, 3 % by what eta learned of it); a
                // neighbour's statistics would show far above it.
                Close.Assert(expected.Outputs[0].Values, together[1].Outputs[0].Values, (Folder is null ? 1e-2 : 5e-2) * scale, $"{method.Name}, step {step}");
                if (step == 0 && method.Name is "tbn")
                {
                    // Random weights without a normalization answer next to nothing (AlexNet: 0.01).
                    Assert.Contains(source.Zip(expected.Outputs[0].Values), pair => Math.Abs(pair.First - pair.Second) > 1e-3 * source.Max(Math.Abs));
                }
            }

            calibrated.Release(alone);
            calibrated.Release(beside);
            calibrated.Release(neighbour);
        }

        Assert.Null(calibrated.Advice);
        Report($"{calibrated.Sites.Count(site => site.Kind == SiteKind.Virtual)} virtual sites of {sites}, {calibrated.Convolutions} convolutions");

        void Report(string what) => TestContext.Current.TestOutputHelper?.WriteLine(
            FormattableString.Invariant($"{Path.GetFileName(model)}: {what}, {Stopwatch.GetElapsedTime(began).TotalSeconds:0.0} s"));
    }

    public void Dispose() => Directory.Delete(_written, recursive: true);

    // Random colours in random blocks: frames that differ in more than their noise.
    private static FrameBlock Frames(int seed, int count, int side)
    {
        var pixels = new byte[count * 3 * side * side];
        for (var frame = 0; frame < count; frame++)
        {
            var random = new Random(seed + frame);
            var colours = new byte[3 * 16];
            random.NextBytes(colours);
            for (var i = 0; i < 3 * side * side; i++)
            {
                var (channel, y, x) = (i / (side * side), i / side % side, i % side);
                pixels[(frame * 3 * side * side) + i] = (byte)Math.Clamp(colours[(channel * 16) + (4 * (4 * y / side)) + (4 * x / side)] + random.Next(-32, 32), 0, 255);
            }
        }

        return FrameBlock.FromPixels(pixels, count, 3, side, side);
    }
}

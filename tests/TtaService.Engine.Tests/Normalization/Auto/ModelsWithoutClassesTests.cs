using TtaService.Engine.Calibration;
using TtaService.Engine.Execution;
using TtaService.Engine.Normalization;
using TtaService.Engine.Streams;
using TtaService.Engine.Tests.Onnx;

namespace TtaService.Engine.Tests.Normalization.Auto;

/// <summary>A model that answers a map: no composition to correct and nothing to filter, but moments to follow.</summary>
public sealed class ModelsWithoutClassesTests : IDisposable
{
    private const float SourceMean = 0.5f;

    private readonly string _folder = Directory.CreateTempSubdirectory("tta-auto-map").FullName;
    private readonly string _path;
    private readonly Random _random = new(7);

    public ModelsWithoutClassesTests()
    {
        var model = OnnxFiles.Model(
            OnnxFiles.Node("BatchNormalization", ["x", "bn.weight", "bn.bias", "bn.running_mean", "bn.running_var"], "n"),
            OnnxFiles.Node("Sigmoid", ["n"], "map"));
        model.Graph.Initializer.Add(OnnxFiles.Floats("bn.weight", [1], 1));
        model.Graph.Initializer.Add(OnnxFiles.Floats("bn.bias", [1], 0));
        model.Graph.Initializer.Add(OnnxFiles.Floats("bn.running_mean", [1], SourceMean));
        model.Graph.Initializer.Add(OnnxFiles.Floats("bn.running_var", [1], 1));
        _path = OnnxFiles.Write(_folder, model);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Run_ShiftedStream_ComesBackToWhatTheSourceSawAndANormalOneStays(bool onDevice)
    {
        using var model = Load(onDevice);
        Assert.Equal(0, model.Calibration!.Classes);
        var (normal, shifted) = (model.CreateState(MethodSettings.Create("auto")), model.CreateState(MethodSettings.Create("auto")));
        for (var step = 0; step < 60; step++)
        {
            var (usual, far) = (Frame(0), Frame(3));
            var asSource = model.RunSource([usual])[0].Values;
            var results = model.Run([new StreamStep(normal, usual), new StreamStep(shifted, far)]);
            Assert.All(results, result => Assert.Null(result.Unfiltered));
            // Before the stream is known, single frames may be corrected.
            if (step > 30)
            {
                Close.Assert(asSource, results[0].Outputs[0].Values, 0.15, $"step {step}");
                Assert.InRange(results[1].Outputs[0].Values.Average(), 0.2, 0.8);
            }
        }

        var sourceOfFar = model.RunSource([Frame(3)])[0].Values.Average();
        Assert.True(sourceOfFar > 0.85, $"the source answers {sourceOfFar}");
        Assert.DoesNotContain(Safetensors.Read(model.Export(normal, default)).Names, name => name.Contains("predictions", StringComparison.Ordinal));
    }

    [Fact]
    public void Run_Uncalibrated_AdaptsToo()
    {
        using var model = AdaptiveModel.Load(_path);
        var state = model.CreateState(MethodSettings.Create("auto"));
        var last = 0f;
        for (var step = 0; step < 60; step++)
        {
            last = model.Run([new StreamStep(state, Frame(3))])[0].Outputs[0].Values.Average();
        }

        Assert.InRange(last, 0.2, 0.8);
    }

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    private AdaptiveModel Load(bool onDevice)
    {
        using var plain = AdaptiveModel.Load(_path);
        var calibrator = new Calibrator(plain);
        for (var i = 0; i < 256; i++)
        {
            calibrator.Observe(Frame(0));
        }

        return AdaptiveModel.Load(_path, new AdaptiveModelOptions { Calibration = calibrator.Complete(default), UsesTorchOperators = onDevice });
    }

    private FrameBlock Frame(float shift)
    {
        var (values, scene) = (new float[4], (float)(_random.NextDouble() - 0.5));
        for (var i = 0; i < values.Length; i++)
        {
            values[i] = SourceMean + shift + scene + ((float)(_random.NextDouble() - 0.5) * 3.2f);
        }

        return FrameBlock.FromValues(values, 1, 1, 2, 2);
    }
}

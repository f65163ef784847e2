using System.Numerics.Tensors;
using TtaService.Engine.Execution;
using TtaService.Engine.Normalization;
using TtaService.Engine.Streams;

namespace TtaService.Engine.Tests.Normalization.Auto;

/// <summary><c>auto</c> against its prototype: the same frames, the same calibration, the same predictions.</summary>
public sealed class AutoParityTests
{
    private const double SamePredictions = 0.995;

    // The path of other devices and the uncalibrated form share most of the code: two streams each; TTA_PARITY=all runs every one.
    private static readonly bool RunsAll = Environment.GetEnvironmentVariable("TTA_PARITY") == "all";

    [Theory]
    [InlineData("auto", false, "corrupted,clean,changing,independent")]
    [InlineData("auto", true, "changing,independent")]
    [InlineData("nocal", false, "clean,corrupted")]
    [InlineData("nocal", true, "changing")]
    public void Run_StreamsOfThePrototype_PredictsTheSame(string variant, bool onDevice, string streams)
    {
        using var model = Prototype.Load(variant == "auto", onDevice);
        var (same, all) = (0, 0);
        foreach (var stream in RunsAll ? ["corrupted", "clean", "changing", "independent"] : streams.Split(','))
        {
            foreach (var size in new[] { 1, 16, 64 })
            {
                var key = $"{stream}.{size}.{variant}.";
                var expected = Prototype.OfStreams(key + "probabilities");
                // The prototype knows no guard.
                var state = model.CreateState(MethodSettings.Create("auto", new() { ["guard"] = "off" }));
                var (alike, worst) = (0, 0f);
                for (var at = 0; at < expected.Length / 10; at += size)
                {
                    var result = model.Run([new StreamStep(state, Prototype.Frames(stream, at, size))])[0];
                    Assert.Equal(StepStatus.Ok, result.Status);
                    for (var i = 0; i < size; i++)
                    {
                        var row = result.Outputs[0].Values.AsSpan(i * 10, 10);
                        var golden = expected.AsSpan((at + i) * 10, 10);
                        alike += TensorPrimitives.IndexOfMax<float>(row) == TensorPrimitives.IndexOfMax<float>(golden) ? 1 : 0;
                        worst = Math.Max(worst, MathF.Abs(MathF.Exp(row[0]) - golden[0]));
                    }
                }

                TestContext.Current.TestOutputHelper?.WriteLine($"{key}: {alike} of {expected.Length / 10}, probabilities within {worst:g3}");
                Assert.True(alike >= (SamePredictions * (expected.Length / 10)) - 1, $"{key}: only {alike} of {expected.Length / 10} predictions are the prototype's");
                (same, all) = (same + alike, all + (expected.Length / 10));
                var snapshot = model.Export(state, default);
                Near(Prototype.OfStreams(key + "clock"), Tensor(snapshot, "stream.clock"), 1e-3, key + "clock");
                Near(Prototype.OfStreams(key + "composition"), Tensor(snapshot, "stream.composition"), 0.01, key + "composition");
                Near(Prototype.OfStreams(key + "trust"), Tensor(snapshot, "stream.source_trust"), 0.02, key + "trust");
                model.Release(state);
            }
        }

        Assert.True(same >= SamePredictions * all, $"only {same} of {all} predictions are the prototype's");
    }

    private static void Near(float[] expected, float[] actual, double tolerance, string what) => Close.Assert(expected, actual, tolerance, what);

    private static float[] Tensor(byte[] snapshot, string name)
    {
        var content = Safetensors.Read(snapshot);
        var values = new float[content.Shape(name).Aggregate(1, (product, extent) => product * extent)];
        content.CopyTo(snapshot, name, values);
        return values;
    }
}

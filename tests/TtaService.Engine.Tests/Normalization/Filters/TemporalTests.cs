using System.Numerics.Tensors;
using TtaService.Engine.Normalization;
using TtaService.Engine.Normalization.Filters;

namespace TtaService.Engine.Tests.Normalization.Filters;

/// <summary>The filter in time, on predictions that are drawn.</summary>
public sealed class TemporalTests
{
    private const int Classes = 5;

    [Theory]
    [InlineData(1)]
    [InlineData(16)]
    public void Run_ShuffledFrames_AreAnsweredAsTheyAre(int step)
    {
        var random = new Random(3);
        var (p, filtered) = Filter(_ => random.Next(Classes), step, random);

        Assert.InRange(MeanDifference(p, filtered), 0, 0.01);
    }

    [Theory]
    [InlineData(1)]
    [InlineData(16)]
    public void Run_ShuffledFramesOfAShiftThatBendsPredictions_AreAnsweredAsTheyAre(int step)
    {
        // Most frames are taken for one class, whatever they show: as alike as neighbours in a run, and no run.
        var random = new Random(4);
        var (p, filtered) = Filter(_ => random.Next(10) < 7 ? 2 : random.Next(Classes), step, random);

        Assert.InRange(MeanDifference(p, filtered), 0, 0.02);
    }

    [Fact]
    public void Run_FramesInRuns_TakeTheRunsClass()
    {
        var random = new Random(5);
        var (p, filtered) = Filter(frame => frame / 40 % Classes, 4, random);

        int Wrong(float[] rows) => rows.Chunk(Classes).Select((row, frame) => TensorPrimitives.IndexOfMax<float>(row) == frame / 40 % Classes ? 0 : 1).Skip(40).Sum();
        Assert.InRange(Wrong(filtered), 0, Wrong(p) / 3);
    }

    private static double MeanDifference(float[] one, float[] other) => one.Zip(other, (a, b) => Math.Abs(a - b)).Average();

    // 800 predictions, of which a third are wrong or unsure.
    private static (float[] Before, float[] Behind) Filter(Func<int, int> classOf, int step, Random random)
    {
        const int Frames = 800;
        var filter = MethodSettings.Create("source+temporal").Definition.Filter!.Create(MethodSettings.Create("source+temporal"), new MethodTarget([], Classes));
        var state = new float[filter.State.Sum(tensor => tensor.Length)];
        filter.Initialize(state);
        var (before, behind) = (new float[Frames * Classes], new float[Frames * Classes]);
        for (var frame = 0; frame < Frames; frame++)
        {
            var row = before.AsSpan(frame * Classes, Classes);
            for (var k = 0; k < Classes; k++)
            {
                row[k] = (2 * random.NextSingle()) + (k == classOf(frame) ? 3 * random.NextSingle() : 0);
            }

            TensorPrimitives.SoftMax<float>(row, row);
        }

        for (var at = 0; at < Frames; at += step)
        {
            var own = new Range(at * Classes, Math.Min(Frames, at + step) * Classes);
            filter.Run(new FilterStep { Classes = Classes, Probabilities = before.AsSpan(own), Features = [], State = state, Answer = behind.AsSpan(own) });
        }

        return (before, behind);
    }
}

using TtaService.Engine.Calibration;
using TtaService.Engine.Execution;
using TtaService.Engine.Normalization;
using TtaService.Engine.Normalization.Auto;

namespace TtaService.Engine.Tests.Normalization.Auto;

/// <summary>Each idea of <c>auto</c> by itself.</summary>
public sealed class AutoPartTests
{
    private static readonly float[] Prior = [0.25f, 0.25f, 0.5f];

    [Fact]
    public void Distance_OfIndependentNormalFrames_IsOneAndFallsWithTheirNumber()
    {
        var random = new Random(1);
        var normal = Normal(channels: 64);
        var (one, sixteen) = (0.0, 0.0);
        for (var i = 0; i < 200; i++)
        {
            var frames = Enumerable.Range(0, 16).Select(_ => Frame(normal, random)).ToArray();
            one += normal.Distance(frames[0].Mean, normal.Mean, frames[0].Within, Within(normal)) / 200;
            var mean = Average(frames.Select(frame => frame.Mean));
            sixteen += normal.Distance(mean, normal.Mean, Average(frames.Select(frame => frame.Within)), Within(normal)) / 200;
        }

        Assert.Equal(1, one, 0.05);
        Assert.Equal(1 / 16.0, sixteen, 0.005);
    }

    [Fact]
    public void Distance_OfAChannelThatWasStillWhileCalibrating_IsMeasuredByWhatTheNextLayerSees()
    {
        var calibration = new SiteCalibration
        {
            Mean = [0, 0],
            MeanVariance = [SiteCalibration.LeastVariance, 0.1f],
            Variance = [0, 1],
            VarianceVariance = [SiteCalibration.LeastVariance, 0.1f],
            ClassMean = [],
            ClassVariance = [],
            ClassShare = 0.5f,
            ClassDistance = 0.5f,
            FrameDistance = 2,
        };
        var normal = SiteNormal.Calibrated(Site(2), calibration);
        // A hundredth of a deviation behind the site, whose epsilon is 1e-5: hundreds, where only its own stillness counted.
        Assert.InRange(normal.Distance([3e-5f, 0], normal.Mean, normal.Variance, normal.Variance), 0, 3);
    }

    [Theory]
    [InlineData(3)]
    [InlineData(8)]
    [InlineData(37)]
    public void WeightedSquares_AnyLength_IsTheSum(int length)
    {
        var random = new Random(length);
        var (a, b, w) = (Numbers(random, length), Numbers(random, length), Numbers(random, length));
        var expected = 0.0;
        for (var i = 0; i < length; i++)
        {
            expected += ((double)a[i] - b[i]) * ((double)a[i] - b[i]) * w[i];
        }

        Assert.Equal(expected, SiteNormal.WeightedSquares(a, b, w), 1e-4);
    }

    [Fact]
    public void ShiftGate_DistanceThatNumberAndClassesExplain_ChangesNothing()
    {
        Assert.Equal(0, ShiftGate.Weight(distance: 1 / 50f, clock: 50, classNoise: 0));
        Assert.Equal(0, ShiftGate.Weight(distance: 0.3f, clock: 50, classNoise: 0.29f));
        Assert.Equal(0.9f, ShiftGate.Weight(distance: 1, clock: 10, classNoise: 0), 1e-6f);
        Assert.Equal(0, ShiftGate.Weight(distance: 0, clock: 1, classNoise: 0));
    }

    [Fact]
    public void ShiftGate_OneSiteFarAboveTheOthers_IsHeldAtTwiceTheMedian()
    {
        float[] weights = [0, 0.1f, 0.2f, 0.9f, 0.3f];
        ShiftGate.LimitToMedian(weights, new float[5]);
        Assert.Equal([0, 0.1f, 0.2f, 0.4f, 0.3f], weights);
    }

    [Fact]
    public void StepGate_CorrelatedClasses_ExplainMoreThanIndependentOnes()
    {
        var normal = Normal(channels: 4);
        var (independent, alike) = (StepGate.Noise(normal.ClassShare, normal.ClassNoise, 64, correlation: 0, imbalance: 0),
            StepGate.Noise(normal.ClassShare, normal.ClassNoise, 64, correlation: 1, imbalance: 0));
        Assert.Equal(((1 - normal.ClassShare) + normal.ClassNoise) / 64, independent, 1e-6f);
        Assert.True(alike > normal.ClassNoise * 0.99f);
        Assert.Equal(alike, StepGate.Noise(normal.ClassShare, normal.ClassNoise, 64, correlation: 0, imbalance: 1), 1e-2f);
        Assert.Equal(0, StepGate.StepWeight(StepGate.Excess(distance: alike, noise: alike, imbalance: 0), noise: alike, correlation: 1, uncertainty: 1));
        Assert.Equal(0.5f, StepGate.StepWeight(StepGate.Excess(distance: 2 * alike, noise: alike, imbalance: 0), noise: alike, correlation: 1, uncertainty: 0), 1e-6f);
        Assert.True(StepGate.StepWeight(excess: -1, noise: independent, correlation: 0, uncertainty: 0.5f) > 0.9f);
    }

    [Fact]
    public void SiteNormal_StepOfTheFurthestClass_IsExplainedByIt()
    {
        var calibration = new SiteCalibration
        {
            Mean = [0, 1],
            MeanVariance = [1, 1],
            Variance = [2, 2],
            VarianceVariance = [1, 1],
            ClassMean = [-0.5f, 0, 0, 0, 3, 0],
            ClassVariance = [0, 0, 0, 0, 1, 0],
            ClassShare = 0.5f,
            ClassDistance = 0.6f,
            FrameDistance = 2,
        };
        var normal = SiteNormal.Calibrated(Site(2), calibration);
        var far = (9 + 1) / 4f;
        Assert.Equal(0, normal.Unexplained(far, [3, 0], [1, 0], normal.Variance), 1e-5f);
        // Another camera moves what no class does.
        Assert.Equal((9 + 1) / 4f, normal.Unexplained((9 + 9 + 1) / 4f, [3, 3], [1, 1], normal.Variance), 1e-5f);
        Assert.Equal(1 / 4f, normal.Unexplained(1 / 4f, [0, 1], [0, 0], normal.Variance), 1e-5f);
        // Of a stream with half the contrast, classes lie half as far apart.
        float[] quarter = [.. normal.Variance.Select(value => ((value + normal.Site.Epsilon) / 4) - normal.Site.Epsilon)];
        Assert.Equal(0, normal.Unexplained(1, [1.5f, 0], [0.25f, 0], quarter), 1e-5f);
        // Where the classes' moments are not known, the furthest may be further than the average.
        var unknown = SiteNormal.Calibrated(Site(2), calibration with { ClassMean = [], ClassVariance = [] });
        Assert.Equal(far - (2.5f * 0.6f), unknown.Unexplained(far, [3, 0], [1, 0], normal.Variance), 1e-5f);
        Assert.Equal(0.5f * 2 / 4, StepGate.NoiseOfClass(normal, 16), 1e-6f);
    }

    [Fact]
    public void FrameGate_FrameAsFarAsNormalOnes_KeepsTheStreamsMoments()
    {
        Assert.Equal(0, StepGate.FrameWeight(distance: 2, usual: 2));
        Assert.Equal(0.5f, StepGate.FrameWeight(distance: 3, usual: 2));
        Assert.Equal(1, StepGate.FrameWeight(float.PositiveInfinity, usual: 2));
    }

    [Fact]
    public void FrameGate_StreamThatWasNormalSoFar_ToleratesFurtherFrames()
    {
        Assert.Equal(1, StepGate.FrameTolerance(usualDistance: 1, framesBefore: 0));
        Assert.Equal(1.5f, StepGate.FrameTolerance(usualDistance: 1, framesBefore: 16));
        Assert.Equal(1.25f, StepGate.FrameTolerance(usualDistance: 1.5f, framesBefore: 16));
        Assert.Equal(1, StepGate.FrameTolerance(usualDistance: 3, framesBefore: 10_000));
    }

    [Fact]
    public void MomentCusum_TenFramesFarAway_AreNotLearnedAndChangeNothing()
    {
        var (change, usual) = (0f, 3f);
        for (var frame = 0; frame < 10; frame++)
        {
            Assert.True(MomentCusum.Suspends(300, 1, 100, ref change, usual));
        }

        // The stream goes on as it was: the suspicion passes.
        for (var frame = 0; frame < 8; frame++)
        {
            Assert.False(MomentCusum.Suspends(3, 1, 100, ref change, usual));
            Assert.Equal(100, MomentCusum.Update(3, 1, 100, ref change, ref usual));
        }

        Assert.Equal(0, change);

        // More of them are a change.
        while (MomentCusum.Suspends(300, 1, 100, ref change, usual))
        {
        }

        Assert.Equal(4, MomentCusum.Update(300, 1, 100, ref change, ref usual));

        // A step that alone holds enough frames is believed at once, and a stream that has not settled believes everything.
        Assert.False(MomentCusum.Suspends(300, 16, 100, ref change, 3));
        Assert.False(MomentCusum.Suspends(300, 1, 20, ref change, 3));
    }

    [Fact]
    public void MomentCusum_FramesFurtherThanUsual_SetTheClockBackOnce()
    {
        var (change, usual, clock) = (0f, 1f, 1f);
        for (var i = 0; i < 100; i++)
        {
            clock = MomentCusum.Update(1.1f, 1, clock, ref change, ref usual) + 1;
        }

        Assert.Equal(101, clock);
        var steps = 0;
        while (clock > 8)
        {
            clock = MomentCusum.Update(3, 1, clock, ref change, ref usual);
            steps++;
        }

        Assert.InRange(steps, 10, 13);
        Assert.Equal(4, clock);
        Assert.Equal(0, change);
        Assert.True(usual > 1.1f);
    }

    [Fact]
    public void MomentCusum_FewFramesBehindTheClock_ForgetsNothing()
    {
        var (change, usual) = (100f, 1f);
        Assert.Equal(8, MomentCusum.Update(50, 1, clock: 8, ref change, ref usual));
    }

    [Fact]
    public void ClassCorrelation_WithoutEvidence_IsOneClass()
    {
        Assert.Equal(1, ClassCorrelation.FromEvidence(0));
        Assert.Equal(1, ClassCorrelation.FromEvidence(-4));
        Assert.Equal(0.5f, ClassCorrelation.FromEvidence(-6));
        Assert.Equal(0, ClassCorrelation.FromEvidence(-20));
    }

    [Fact]
    public void ClassCorrelation_FirstStepAsVariousAsTheCalibration_IsIndependent()
    {
        Assert.Equal(0.1f, ClassCorrelation.InFirstStep(variety: 1, classShare: 0.6f), 1e-6f);
        Assert.Equal(1, ClassCorrelation.InFirstStep(variety: 0.3f, classShare: 0.6f));
    }

    [Fact]
    public void CompositionTrust_StrongShift_DisbelievesPredictionsSoonerWhereFramesVary()
    {
        Assert.Equal(1, CompositionTrust.Of(distance: 0.3f, variety: 0), 1e-3f);
        Assert.Equal(0.5f, CompositionTrust.Of(distance: 3, variety: 0), 1e-6f);
        Assert.True(CompositionTrust.Of(distance: 3, variety: 1) < 0.05f);
        Assert.Equal(1, CompositionTrust.Variety(variety: 1, classShare: 0.6f));
        Assert.Equal(0, CompositionTrust.Variety(variety: 0.4f, classShare: 0.6f));
        Assert.Equal(1, CompositionTrust.InClassUnits(distance: 2, classDistance: 0.9f), 1e-6f);
    }

    [Fact]
    public void Composition_StreamOfOneClassWithoutShift_LosesMostOfItsBias()
    {
        // Two classes at -1 and +1; only the second is seen, so that the running moments are its own.
        var normal = SiteNormal.Calibrated(Site(1), new SiteCalibration
        {
            Mean = [0],
            MeanVariance = [1.2f],
            Variance = [2],
            VarianceVariance = [1],
            ClassMean = [-1, 1],
            ClassVariance = [0, 0],
            ClassShare = 0.8f,
            ClassDistance = 0.8f,
            FrameDistance = 2,
        });
        var (mean, variance) = (new float[1], new float[1]);
        Composition.Remove(normal, [-0.5f, 0.5f], [1], [2.2f], mean, variance, new float[1]);
        Assert.InRange(mean[0], 0, 0.3f);
        Assert.InRange(variance[0], 2.7f, 3.2f);
        Composition.Remove(normal, [0, 0], [1], [2.2f], mean, variance, new float[1]);
        Assert.Equal((1, 2.2f), (mean[0], variance[0]));
    }

    [Fact]
    public void Imbalance_OfIndependentFrames_FallsWithTheirNumber()
    {
        Assert.Equal(0, Composition.Imbalance(Prior, Prior));
        Assert.Equal((0.75f * 0.75f / 0.25f + 0.25f + 0.5f) / 2, Composition.Imbalance([1, 0, 0], Prior), 1e-6f);
    }

    [Theory]
    [InlineData(1, 0, 1)]
    [InlineData(64, 0, 16)]
    [InlineData(16, 10, 6)]
    [InlineData(1, 30, 0)]
    [InlineData(1, 31, 1)]
    [InlineData(64, 64, 2)]
    public void SourceTrust_FirstFramesAndEveryThirtySecond_AreAskedFor(int frames, long before, int expected) =>
        Assert.Equal(expected, SourceTrust.FramesOf(frames, before));

    [Fact]
    public void SourceTrust_OneSidedSourceWithoutVarietyUnderAShift_FallsBackToTheSource()
    {
        var layout = new AutoLayout(3);
        var state = State(layout);
        SourceTrust.Observe(layout, [1, 0, 0, 1, 0, 0, 1, 0, 0, 1, 0, 0, 1, 0, 0, 1, 0, 0, 1, 0, 0, 1, 0, 0], new float[24], state);
        Assert.Equal(8, state[AutoLayout.SourceFrames]);
        Assert.Equal(0, SourceTrust.FromImbalance(layout, state, Prior, variety: 0, compositionTrust: 0, frames: 8));
        Assert.Equal(1, SourceTrust.FromImbalance(layout, state, Prior, variety: 1, compositionTrust: 0, frames: 8));
        Assert.Equal(1, SourceTrust.FromImbalance(layout, state, Prior, variety: 0, compositionTrust: 1, frames: 8));
    }

    [Fact]
    public void SourceTrust_Uncalibrated_IsEarnedBySurerPredictionsOfAsManyClasses()
    {
        var layout = new AutoLayout(3);
        float[] unsure = [.. Enumerable.Range(0, 16).SelectMany(i => Row(i % 3, 0.4f))];
        float[] sure = [.. Enumerable.Range(0, 16).SelectMany(i => Row(i % 3, 0.95f))];
        float[] collapsed = [.. Enumerable.Range(0, 16).SelectMany(_ => Row(0, 0.95f))];
        Assert.True(Trust(unsure, sure) > 0.99f);
        Assert.True(Trust(sure, sure) < 0.3f);
        Assert.True(Trust(sure, unsure) < 0.01f);
        Assert.True(Trust(unsure, sure) > Trust(unsure, collapsed));
        Assert.True(SourceTrust.Initial < 0.2f);

        float Trust(float[] source, float[] own)
        {
            var state = State(layout);
            SourceTrust.Observe(layout, source, own, state);
            return SourceTrust.FromEntropy(layout, state);
        }
    }

    [Fact]
    public void TemporalFilter_IndependentFrames_AreAnsweredAsTheyAre()
    {
        var layout = new AutoLayout(3);
        var (state, random, answer) = (State(layout), new Random(3), new float[3]);
        var changed = 0f;
        for (var i = 0; i < 300; i++)
        {
            var row = Row(random.Next(4) switch { 0 => 0, 1 => 1, _ => 2 }, 0.8f);
            TemporalFilter.Run(layout, state, Prior, trust: 1, row, row, answer);
            changed = i < 100 ? 0 : Math.Max(changed, row.Zip(answer, (p, q) => Math.Abs(p - q)).Max());
        }

        Assert.True(changed < 0.02f, $"changed by {changed}");
        Assert.True(state[AutoLayout.Evidence].ToArray().Max() < 0);
    }

    [Theory]
    [InlineData(1)]
    [InlineData(8)]
    public void TemporalFilter_RunsOfAClass_CorrectSingleFrames(int size)
    {
        var layout = new AutoLayout(3);
        var state = State(layout);
        var (wrong, of) = (0, 0);
        for (var at = 0; at < 480; at += size)
        {
            // Runs of 60 frames; every fifth is mistaken.
            float[] rows = [.. Enumerable.Range(at, size).SelectMany(i => i % 5 == 2 ? Row(((i / 60) + 1) % 3, 0.6f) : Row(i / 60 % 3, 0.7f))];
            float[] mean = [.. Enumerable.Range(0, 3).Select(k => Enumerable.Range(0, size).Average(i => rows[(i * 3) + k]))];
            var answer = new float[rows.Length];
            TemporalFilter.Run(layout, state, Prior, trust: 1, rows, mean, answer);
            for (var i = 0; i < size; i++)
            {
                Assert.Equal(1, answer[i * 3] + answer[(i * 3) + 1] + answer[(i * 3) + 2], 1e-4f);
                if (at + i >= 60)
                {
                    wrong += Array.IndexOf(answer, answer.AsSpan(i * 3, 3).ToArray().Max(), i * 3, 3) - (i * 3) == (at + i) / 60 % 3 ? 0 : 1;
                    of++;
                }
            }
        }

        Assert.True(wrong < 0.1 * of, $"{wrong} of {of} wrong, 20 % without the filter");
    }

    [Fact]
    public void ClassScores_OfAModelThatEndsInASoftmax_AreNotSoftenedAgain()
    {
        float[] probabilities = [0.7f, 0.2f, 0.1f, 0.1f, 0.1f, 0.8f];
        var (read, written) = (new float[6], new float[6]);
        ClassScores.ToProbabilities(OutputKind.Probabilities, probabilities, 3, read);
        Assert.Equal(probabilities, read);
        ClassScores.FromProbabilities(OutputKind.Probabilities, read, written);
        Assert.Equal(probabilities, written);

        float[] logits = [1.7f, 1.2f, -1.9f, 0.1f, 0.1f, 0.8f];
        ClassScores.ToProbabilities(OutputKind.Logits, logits, 3, read);
        Assert.Equal(2, read.Sum(), 1e-5f);
        ClassScores.FromProbabilities(OutputKind.Logits, read, written);
        Assert.Equal(logits[0] - logits[1], written[0] - written[1], 1e-4f);

        ClassScores.ToProbabilities(OutputKind.LogProbabilities, written, 3, read);
        ClassScores.FromProbabilities(OutputKind.LogProbabilities, read, written);
        Assert.Equal(logits[0] - logits[1], written[0] - written[1], 1e-4f);
    }

    [Theory]
    [InlineData(OutputKind.Logits, 6, 2, 3)]
    [InlineData(OutputKind.Probabilities, 6, 2, 3)]
    [InlineData(OutputKind.Logits, 6, 2, 3, 1, 1)]
    [InlineData(OutputKind.Logits, 0, 2, 100, 4)]
    [InlineData(OutputKind.Logits, 0, 2, 1)]
    [InlineData(OutputKind.Raw, 0, 2, 3)]
    [InlineData(OutputKind.MultiLabelProbabilities, 0, 2, 3)]
    public void ClassScores_AreThoseOfClassesThatExcludeEachOther(OutputKind kind, int expected, params int[] shape)
    {
        var output = new ModelOutput(1, "scores", [-1, .. shape.Skip(1).Select(extent => (long)extent)], kind, "a test says so");
        OutputTensor[] outputs = [new("other", [2], new float[2]), new("scores", shape, new float[shape.Aggregate((a, b) => a * b)])];

        Assert.Equal(expected, ClassScores.Of(outputs, 2, output).Length);
        Assert.Equal(expected / 2, ClassScores.Count(output));
        Assert.Equal(0, ClassScores.Of(outputs, 2, null).Length);
    }

    private static float[] State(AutoLayout layout)
    {
        var state = new float[layout.Floats];
        state[AutoLayout.FilterFrames] = 16;
        state[AutoLayout.SourceTrust] = 1;
        Prior.CopyTo(state.AsSpan()[layout.FilterPredictions]);
        for (var j = 0; j < TemporalFilter.Experts; j++)
        {
            Prior.CopyTo(state.AsSpan()[layout.Belief][(j * 3)..]);
        }

        return state;
    }

    private static float[] Row(int of, float probability)
    {
        float[] row = [(1 - probability) / 2, (1 - probability) / 2, (1 - probability) / 2];
        row[of] = probability;
        return row;
    }

    private static NormalizationSite Site(int channels) =>
        new(0, "site", 1e-5f, 0.1f, Filled(channels, 1), Filled(channels, 0), Filled(channels, 0), Filled(channels, 1));

    private static SiteNormal Normal(int channels) => SiteNormal.Calibrated(Site(channels), new SiteCalibration
    {
        Mean = Filled(channels, 0.5f),
        MeanVariance = Filled(channels, 0.2f),
        Variance = Filled(channels, 1),
        VarianceVariance = Filled(channels, 0.1f),
        ClassMean = [],
        ClassVariance = [],
        ClassShare = 0.6f,
        ClassDistance = 0.5f,
        FrameDistance = 1.5f,
    });

    private static (float[] Mean, float[] Within) Frame(SiteNormal normal, Random random) =>
        ([.. normal.Mean.Select(mean => mean + (MathF.Sqrt(0.2f) * Gaussian(random)))], [.. normal.Mean.Select(_ => 1 + (MathF.Sqrt(0.1f) * Gaussian(random)))]);

    private static float[] Within(SiteNormal normal) => [.. normal.Variance.Zip(normal.MeanVariance, (all, between) => all - between)];

    private static float[] Average(IEnumerable<float[]> rows)
    {
        var all = rows.ToArray();
        return [.. Enumerable.Range(0, all[0].Length).Select(c => all.Average(row => row[c]))];
    }

    private static float[] Numbers(Random random, int count) => [.. Enumerable.Range(0, count).Select(_ => (float)random.NextDouble())];

    private static float[] Filled(int count, float value) => [.. Enumerable.Repeat(value, count)];

    private static float Gaussian(Random random) => (float)(Math.Sqrt(-2 * Math.Log(1 - random.NextDouble())) * Math.Cos(2 * Math.PI * random.NextDouble()));
}

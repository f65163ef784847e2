using TtaService.Engine.Drift;
using TtaService.Engine.Execution;
using TtaService.Engine.Normalization;

namespace TtaService.Engine.Tests.Drift;

/// <summary>From numbers to words: levels, change-points, predictions, frames, and the formulas of the divergences.</summary>
public sealed class DriftJudgementTests
{
    [Fact]
    public void Level_NeedsThreeReadingsToRiseAndFallsBelowFourFifths()
    {
        var tracker = new DriftLevelTracker();
        var frames = 100L;
        DriftLevel Next(double score)
        {
            tracker.Update(Reading(score, frames += 32));
            return tracker.Level;
        }

        frames = 64;
        Assert.Equal(DriftLevel.WarmingUp, Next(9));
        Assert.Equal(DriftLevel.WarmingUp, Next(1.5));
        Assert.Equal(DriftLevel.WarmingUp, Next(1.5));
        Assert.Equal(DriftLevel.Warning, Next(1.5));
        Assert.Equal(DriftLevel.Warning, Next(0.85));
        Assert.Equal(DriftLevel.Normal, Next(0.79));
        Assert.Equal(DriftLevel.Normal, Next(0.85));
        Assert.Equal(DriftLevel.Normal, Next(4));
        Assert.Equal(DriftLevel.Normal, Next(0.9));
        Assert.Equal(DriftLevel.Normal, Next(4));
        Assert.Equal(DriftLevel.Normal, Next(4));
        Assert.Equal(DriftLevel.Critical, Next(4));
        Assert.Equal(DriftLevel.Critical, Next(2.5));
        Assert.Equal(DriftLevel.Warning, Next(2.3));
        Assert.Equal(DriftLevel.Normal, Next(0.2));
    }

    [Fact]
    public void Level_OfAStreamThatStandsStill_DoesNotRise()
    {
        var tracker = new DriftLevelTracker();
        for (var sweep = 0; sweep < 10; sweep++)
        {
            tracker.Update(Reading(5, 500));
        }

        Assert.Equal(DriftLevel.WarmingUp, tracker.Level);
    }

    [Fact]
    public void Level_WithoutAReferenceOrAfterAReset_SaysSo()
    {
        var tracker = new DriftLevelTracker();
        Assert.True(tracker.Update(Reading(null, 500)));
        Assert.Equal(DriftLevel.Uncalibrated, tracker.Level);
        tracker = new DriftLevelTracker();
        foreach (var frames in new[] { 200, 300, 400 })
        {
            tracker.Update(Reading(2, frames));
        }

        Assert.Equal(DriftLevel.Warning, tracker.Level);
        Assert.True(tracker.Update(Reading(2, 8)));
        Assert.Equal(DriftLevel.WarmingUp, tracker.Level);
    }

    [Fact]
    public void ChangeDetector_AJumpOfTheDistance_IsDatedToItsStep()
    {
        var random = new Random(1);
        var detector = new ChangeDetector();
        for (var frame = 1; frame <= 2000; frame++)
        {
            var jump = frame > 1200 && frame <= 1300 ? 20 : 1;
            detector.Observe(frame, frame, (float)(jump * Math.Exp(random.NextDouble() - 0.5)));
            if (frame == 1200)
            {
                Assert.Equal(0, detector.ChangedAtStep);
            }
        }

        Assert.InRange(detector.ChangedAtStep, 1199, 1203);
    }

    [Fact]
    public void ChangeDetector_AClassThatComesRound_IsNoChange()
    {
        // A camera that shows ten classes in runs of 100, one of which looks unlike the others.
        var random = new Random(3);
        var detector = new ChangeDetector();
        for (var frame = 1; frame <= 20_000; frame++)
        {
            var shown = frame / 100 % 10;
            detector.Observe(frame, frame, (float)((shown == 7 ? 8 : 1) * Math.Exp(random.NextDouble() - 0.5)), shown);
            if (frame > 2000)
            {
                Assert.True(detector.ChangedAtStep <= 2000, $"a change at {detector.ChangedAtStep}");
            }
        }

        // A change of the light lifts every class.
        for (var frame = 20_001; frame <= 20_100; frame++)
        {
            detector.Observe(frame, frame, (float)(20 * Math.Exp(random.NextDouble() - 0.5)), frame / 10 % 10);
        }

        Assert.InRange(detector.ChangedAtStep, 19_999, 20_003);
    }

    [Fact]
    public void Sweep_OfMethodsWithAMixOrComponents_ReadsThem()
    {
        using var model = AdaptiveModel.Load(
            Path.Combine(AppContext.BaseDirectory, "Data", "onnx", "bottleneck_opset17.onnx"), new AdaptiveModelOptions { Observation = new ObservationOptions() });
        var monitor = new DriftMonitor(model, null);
        DriftReading After(string method, int steps)
        {
            var state = model.CreateState(MethodSettings.Create(method));
            for (var step = 0; step < steps; step++)
            {
                // The same frames again and again: they come to lie at few components.
                model.Run([new StreamStep(state, Noise(4, 1))]);
            }

            return monitor.Read(state);
        }

        Assert.Equal(0.1, After("alpha_bn", 1).TestWeight!.Value, 1e-6);
        var (early, late) = (After("adaptive", 1).TestWeight!.Value, After("adaptive", 40).TestWeight!.Value);
        Assert.InRange(early, 0.0625, late);
        Assert.InRange(late, early + 0.05, 1);
        var (even, uneven) = (After("unmix_tns", 1).OccupancyEntropy!.Value, After("unmix_tns", 200).OccupancyEntropy!.Value);
        Assert.InRange(even, 0.97, 1);
        Assert.InRange(uneven, 0, even - 0.1);
        Assert.Equal((null, null), (After("ema", 1).TestWeight, After("ema", 1).OccupancyEntropy));
        Assert.Null(After("unmix_tns", 1).TestWeight);
    }

    [Fact]
    public void Sweep_OfAShiftedStream_ComputesTheFormulas()
    {
        using var model = AdaptiveModel.Load(
            Path.Combine(AppContext.BaseDirectory, "Data", "onnx", "bottleneck_opset17.onnx"), new AdaptiveModelOptions { Observation = new ObservationOptions() });
        var state = model.CreateState(MethodSettings.Create("ema"));
        Assert.Null(new DriftMonitor(model, null).TryRead(state));
        model.Run([new StreamStep(state, Noise(4, 1))]);

        var reading = new DriftMonitor(model, null).Read(state);

        Assert.Null(reading.Score);
        Assert.Equal(4, reading.Frames);
        var row = model.Pass.Observed!.Arena.Read(state.ObservedRow);
        foreach (var site in model.Sites)
        {
            var mean = model.Pass.Observed.Mean(site, row);
            var variance = model.Pass.Observed.Variance(site, row);
            var (kl, wasserstein, live) = (0.0, 0.0, 0);
            var median = site.Variance.Order().ElementAt(site.Channels / 2);
            for (var c = 0; c < site.Channels; c++)
            {
                if (site.Variance[c] > 1e-5 * median)
                {
                    var (vo, vs, d) = ((double)variance[c] + site.Epsilon, (double)site.Variance[c] + site.Epsilon, (double)mean[c] - site.Mean[c]);
                    kl += ((((vo + (d * d)) / vs) + ((vs + (d * d)) / vo)) / 4) - 0.5;
                    wasserstein += Math.Sqrt((d * d) + Math.Pow(Math.Sqrt(vo) - Math.Sqrt(vs), 2)) / Math.Sqrt(vs);
                    live++;
                }
            }

            Assert.Equal(kl / live, reading.GaussianKl[site.Index], 1e-3 * Math.Max(1, kl / live));
            Assert.Equal(wasserstein / live, reading.Wasserstein[site.Index], 1e-3 * Math.Max(1, wasserstein / live));
        }
    }

    [Fact]
    public void Reference_OfAnotherModelOrWindow_IsRefused()
    {
        using var model = AdaptiveModel.Load(
            Path.Combine(AppContext.BaseDirectory, "Data", "onnx", "bottleneck_opset17.onnx"), new AdaptiveModelOptions { Observation = new ObservationOptions() });
        var sites = model.Sites.Select(site => new SiteReference(site.Name, 1, 0.1, 1, 0.1)).ToList();
        var fits = new DriftReference
        {
            Model = model.Digest,
            Created = default,
            Frames = 1,
            Streams = 1,
            Tau = 128,
            Methods = new Dictionary<string, MethodReference> { ["ema"] = new() { ScoreLimit = 1, FeatureSpread = 1, Sites = sites } }
        };
        var file = Path.GetTempFileName();
        fits.Write(file);
        var read = DriftReference.Read(file);
        File.Delete(file);

        Assert.Equal(1.3, read.Methods["ema"].Sites[0].Limit, 1e-9);
        Assert.NotNull(new DriftMonitor(model, read).Reference);
        Assert.Throws<DriftReferenceException>(() => new DriftMonitor(model, read with { Model = "other" }));
        Assert.Throws<DriftReferenceException>(() => new DriftMonitor(model, read with { Tau = 64 }));
        Assert.Throws<DriftReferenceException>(
            () => new DriftMonitor(model, read with { Methods = new Dictionary<string, MethodReference> { ["ema"] = read.Methods["ema"] with { Sites = [] } } }));
        Assert.Throws<DriftReferenceException>(() => DriftReference.Read(Path.Combine(Path.GetTempPath(), "no-such-drift.json")));
    }

    [Fact]
    public void Predictions_OfOneClassAndOfAll_HaveTheirExtremes()
    {
        var (one, all) = (new PredictionStatistics(16), new PredictionStatistics(1000));
        for (var frame = 0; frame < 400; frame++)
        {
            one.Observe([100, 0, 0, 0]);
            float[] scores = [0, 0, 0, 0];
            scores[frame % 4] = 100;
            all.Observe(scores);
        }

        Assert.Equal(0.25, one.Diversity, 1e-3);
        Assert.Equal(1, all.Diversity, 1e-3);
        Assert.Equal(0, one.Entropy, 1e-6);
        Assert.Equal(1, new PredictionStatistics(16).Observe([5, 5, 5, 5]), 1e-6);
        Assert.Equal(0, all.LabelShift([0.25, 0.25, 0.25, 0.25])!.Value, 1e-3);
        Assert.Equal(1, one.LabelShift([0, 0.5, 0.5, 0])!.Value, 1e-3);
        // Against the definition: ((1*log2(1/0.625)) + (0.25*log2(0.25/0.625)) + 3*0.25*log2(0.25/0.125))/2.
        Assert.Equal(Math.Sqrt(((Math.Log2(1 / 0.625)) + (0.25 * Math.Log2(0.25 / 0.625)) + 0.75) / 2), one.LabelShift([0.25, 0.25, 0.25, 0.25])!.Value, 1e-3);
        Assert.Null(one.LabelShift([1]));
    }

    [Fact]
    public void Health_CountsBlankAndFrozenFramesAndEveryHundredthForTheShadow()
    {
        var health = new StreamHealth(128, 100);
        var random = new Random(2);
        var due = 0;
        byte[] blank = [.. Enumerable.Repeat((byte)7, 3 * 64)];
        var previous = blank;
        for (var frame = 0; frame < 1000; frame++)
        {
            var pixels = new byte[3 * 64];
            random.NextBytes(pixels);
            pixels = frame % 10 == 0 ? blank : frame % 10 == 5 ? previous : pixels;
            previous = pixels;
            due += health.Observe([1, 2, 3], FrameFacts.Of(FrameBlock.FromPixels(pixels, 1, 3, 8, 8), 0)).Sampled ? 1 : 0;
        }

        health.Compare([3, 1], [3, 1]);
        health.Compare([3, 1], [0, 0.1f]);
        var read = health.Read(null);
        Assert.Equal((10, 100, 100), (due, read.BlankFrames, read.FrozenFrames));
        Assert.Equal((2, 1), (read.ShadowFrames, read.ShadowAgreed));
        Assert.True(read.ShadowSourceEntropy > read.ShadowAdaptedEntropy);
        Assert.Null(read.LabelShift);
    }

    [Fact]
    public void FrameFacts_OfValues_TellBlankAndEqualFrames()
    {
        var noise = Noise(2, 3);
        Assert.False(FrameFacts.Of(noise, 0).Blank);
        Assert.NotEqual(FrameFacts.Of(noise, 0).Digest, FrameFacts.Of(noise, 1).Digest);
        Assert.Equal(FrameFacts.Of(noise, 1), FrameFacts.Of(noise.CopyFrame(1), 0));
        Assert.True(FrameFacts.Of(FrameBlock.FromValues(Enumerable.Repeat(0.3f, 27).ToArray(), 1, 3, 3, 3), 0).Blank);
    }

    private static DriftReading Reading(double? score, long frames) => new()
    {
        Frames = frames,
        Steps = frames,
        GaussianKl = [],
        Wasserstein = [],
        Score = score,
        FeatureSpread = 1,
        TestWeight = null,
        OccupancyEntropy = null,
        ChangedAtStep = 0
    };

    private static FrameBlock Noise(int count, int seed)
    {
        var random = new Random(seed);
        var values = new float[count * 3 * 32 * 32];
        for (var i = 0; i < values.Length; i++)
        {
            values[i] = random.NextSingle() + 0.5f;
        }

        return FrameBlock.FromValues(values, count, 3, 32, 32);
    }
}

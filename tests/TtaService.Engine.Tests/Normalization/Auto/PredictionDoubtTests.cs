using TtaService.Engine.Execution;
using TtaService.Engine.Normalization;
using TtaService.Engine.Normalization.Auto;
using TtaService.Engine.Streams;
using TtaService.Engine.Tests.Evaluation;
using TtaService.Evaluation;

namespace TtaService.Engine.Tests.Normalization.Auto;

/// <summary>The source answers while a stream's own predictions are guesses, and only then.</summary>
public sealed class PredictionDoubtTests
{
    private const int Classes = 4;
    private const int Domains = 5;
    private const int FramesOfADomain = 64;
    private static readonly string[] Corruptions = ["gaussian_noise", "fog", "contrast", "brightness", "defocus_blur"];

    [Theory]
    [InlineData(0.97f, true, false)]    // sure of different classes
    [InlineData(0.97f, false, false)]   // sure of one class: a run of it
    [InlineData(0.75f, true, false)]    // half sure, yet frames differ
    [InlineData(0.40f, true, true)]     // hardly better than guessing
    [InlineData(0.40f, false, true)]
    public void Observe_PredictionsOfASureness_DoubtsGuesses(float sureness, bool varies, bool expected)
    {
        var (doubt, mean) = (new float[PredictionDoubt.Floats], new float[Classes]);
        var doubts = false;
        for (var step = 0; step < 8; step++)
        {
            doubts = Observe([.. Enumerable.Range(0, 8).SelectMany(i => Row(varies ? i % Classes : 0, sureness))], doubt, mean);
        }

        Assert.Equal(expected, doubts);
    }

    [Fact]
    public void Observe_DoubtThatLasts_RestsAtTheSourceAndIsTriedAgainUntilPredictionsAreGood()
    {
        var (doubt, mean) = (new float[PredictionDoubt.Floats], new float[Classes]);
        for (var frame = 0; frame < PredictionDoubt.LastingFrames; frame++)
        {
            Assert.False(PredictionDoubt.Rests(doubt), $"rests at frame {frame}");
            Observe(Row(frame % Classes, 0.3f), doubt, mean);
        }

        for (var step = 0; step < PredictionDoubt.RestedSteps; step++)
        {
            Assert.True(PredictionDoubt.Rests(doubt));
            PredictionDoubt.Rest(doubt);
        }

        Assert.False(PredictionDoubt.Rests(doubt));
        Observe(Row(0, 0.3f), doubt, mean);
        Assert.True(PredictionDoubt.Rests(doubt), "one try that fails is followed by rest");
        var doubts = true;
        for (var frame = 0; frame < 48; frame++)
        {
            doubts = Observe(Row(frame % Classes, 0.99f), doubt, mean);
        }

        Assert.False(doubts);
        Assert.False(PredictionDoubt.Rests(doubt));
    }

    [Fact]
    public void TellsMoreThanSource_SourceThatSeesOneClassEverywhere_IsNoBetterThanGuesses()
    {
        var (doubt, mean) = (new float[PredictionDoubt.Floats], new float[Classes]);
        Observe([.. Enumerable.Range(0, 16).SelectMany(i => Row(i % Classes, 0.7f))], doubt, mean);
        float[] collapsed = Row(0, 0.97f);
        float[] various = [0.25f, 0.25f, 0.25f, 0.25f];
        Assert.True(PredictionDoubt.TellsMoreThanSource(doubt, mean, sourceFrames: 16, sourceEntropy: 0.12f, collapsed));
        Assert.False(PredictionDoubt.TellsMoreThanSource(doubt, mean, sourceFrames: 16, sourceEntropy: 0.5f, various));
        Assert.False(PredictionDoubt.TellsMoreThanSource(doubt, mean, sourceFrames: 4, sourceEntropy: 0.12f, collapsed));
    }

    [Theory]
    [InlineData("fashion-mnist", DomainSetting.Continual, 1)]
    [InlineData("fashion-mnist", DomainSetting.Mixed, 16)]
    [InlineData("fashion-mobile", DomainSetting.Continual, 16)]
    [InlineData("fashion-mobile", DomainSetting.Mixed, 1)]
    public void Run_OneClassUnderAChangingShift_ErrsLittleMoreThanTheSource(string network, DomainSetting setting, int size)
    {
        using var model = CleanOrderTests.Load(network);
        var images = LabelledImages.Open(Repository.Sample, path => throw new InvalidOperationException(path));
        EvaluationDomain[] domains = [.. Corruptions.Select(name => new EvaluationDomain(Corruption.Find(name), 5))];
        var evaluator = new Evaluator(model, new EvaluationFrames(images, domains, 0, image => image));
        var streams = new[] { 1, 2, 3 }.SelectMany(seed => EvaluationPlan.Streams(images.Labels, Domains, setting, StreamOrder.OneClass, seed, limit: FramesOfADomain)).ToList();
        MethodSettings[] methods = [MethodSettings.Create("source"), MethodSettings.Create("auto"), MethodSettings.Create("auto", new() { ["guard"] = "off" })];
        var runs = methods.SelectMany(method => streams.Select(samples =>
            new EvaluationRun { Method = method, Samples = samples, BatchSize = size })).ToList();
        var errors = evaluator.Run(runs, cancel: TestContext.Current.CancellationToken)
            .Chunk(streams.Count).Select(results => results.Average(result => result.ErrorPercent)).ToArray();
        TestContext.Current.TestOutputHelper?.WriteLine(
            $"{network}, {setting}, {size} a step: source {errors[0]:0.0} %, auto {errors[1]:0.0} %, without its guard {errors[2]:0.0} %");
        Assert.True(errors[1] <= errors[0] + 6, $"auto errs {errors[1]:0.0} %, the source {errors[0]:0.0} %");
        Assert.True(errors[2] >= errors[1] + 12, $"without its guard auto errs {errors[2]:0.0} %, with it {errors[1]:0.0} %");
    }

    // A stream in doubt beside one that is not: the source is asked for one of them, and each is answered as alone.
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Run_StreamInDoubtInABatch_IsAnsweredByTheSourceAndTheOthersAsAlone(bool onDevice)
    {
        using var model = Prototype.Load(onDevice: onDevice);
        var guarded = MethodSettings.Create("auto");
        var (alone, together) = (model.CreateState(guarded), model.CreateState(guarded));
        var (calm, calmTogether) = (model.CreateState(guarded), model.CreateState(guarded));
        var bySource = 0;
        for (var at = 0; at + 8 <= 192; at += 8)
        {
            var frames = Of(at);
            var expected = model.Run([new StreamStep(alone, frames)])[0];
            var others = model.Run([new StreamStep(calm, Prototype.Frames("clean", at, 8))])[0];
            var batch = model.Run([new StreamStep(calmTogether, Prototype.Frames("clean", at, 8)), new StreamStep(together, frames)]);
            Close.Assert(expected.Outputs[0].Values, batch[1].Outputs[0].Values, 1e-3, $"in doubt, frame {at}");
            Close.Assert(others.Outputs[0].Values, batch[0].Outputs[0].Values, 1e-3, $"beside it, frame {at}");
            var source = model.RunSource([frames])[0].Values;
            bySource += source.Zip(expected.Outputs[0].Values).All(pair => MathF.Abs(pair.First - pair.Second) < 1e-3f) ? 1 : 0;
        }

        Assert.InRange(bySource, 8, 24);
    }

    [Fact]
    public void Import_InDoubt_ContinuesAsTheStream()
    {
        using var model = Prototype.Load();
        var state = model.CreateState(MethodSettings.Create("auto"));
        for (var at = 0; at < 96; at += 8)
        {
            model.Run([new StreamStep(state, Of(at))]);
        }

        var imported = model.Import(model.Export(state, default));
        for (var at = 96; at < 192; at += 8)
        {
            Assert.Equal(model.Run([new StreamStep(state, Of(at))])[0].Outputs[0].Values, model.Run([new StreamStep(imported, Of(at))])[0].Outputs[0].Values);
        }
    }

    [Fact]
    public void Import_SnapshotFromBeforeTheGuard_IsReadAndBeginsWithoutDoubt()
    {
        using var model = Prototype.Load();
        var state = model.CreateState(MethodSettings.Create("auto"));
        model.Run([new StreamStep(state, Prototype.Frames("clean", 0, 16))]);
        var file = model.Export(state, default);
        var content = Safetensors.Read(file);
        var names = content.Names.Where(name => !name.StartsWith("stream.doubt", StringComparison.Ordinal));
        var older = Safetensors.Write(content.Metadata, [.. names.Select(name => (name, content.Shape(name), Floats(name)))]);
        Assert.NotEqual(content.Names.Count(), Safetensors.Read(older).Names.Count());
        var imported = model.Import(older);
        Assert.Equal(16, imported.Frames);
        var doubt = Safetensors.Read(model.Export(imported, default));
        var figures = new float[PredictionDoubt.Floats];
        doubt.CopyTo(model.Export(imported, default), "stream.doubt", figures);
        Assert.All(figures, figure => Assert.Equal(0, figure));

        float[] Floats(string name)
        {
            var values = new float[content.Shape(name).Aggregate(1, (product, extent) => product * extent)];
            content.CopyTo(file, name, values);
            return values;
        }
    }

    private static bool Observe(float[] probabilities, Span<float> doubt, Span<float> mean)
    {
        var own = Enumerable.Range(0, Classes).Select(k => probabilities.Chunk(Classes).Average(row => row[k])).ToArray();
        var doubts = PredictionDoubt.Observe(probabilities, own, PredictionDoubt.UsualEntropy, doubt, mean);
        PredictionDoubt.Count(doubts, probabilities.Length / Classes, doubt);
        return doubts;
    }

    private static float[] Row(int best, float probability) => [.. Enumerable.Range(0, Classes).Select(k => k == best ? probability : (1 - probability) / (Classes - 1))];

    // Frames of the classes' first: one class of three cameras, frame by frame.
    private static FrameBlock Of(int from)
    {
        string[] cameras = ["corrupted", "independent", "changing"];
        var label = Prototype.Labels("corrupted")[0];
        byte[] pixels = [.. Enumerable.Range(from, 8).SelectMany(i =>
        {
            var camera = cameras[i % cameras.Length];
            var labels = Prototype.Labels(camera);
            int[] own = [.. Enumerable.Range(0, labels.Length).Where(frame => labels[frame] == label)];
            return Prototype.Pixels(camera, own[i / cameras.Length % own.Length]);
        })];
        return FrameBlock.FromPixels(pixels, 8, 1, Prototype.Side, Prototype.Side);
    }
}

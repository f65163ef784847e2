using TtaService.Engine.Execution;
using TtaService.Engine.Normalization;
using TtaService.Evaluation;

namespace TtaService.Engine.Tests.Evaluation;

/// <summary>The demo model on its labelled sample.</summary>
public sealed class EvaluatorTests : IDisposable
{
    private static readonly LabelledImages Images = LabelledImages.Open(Repository.Sample, path => throw new InvalidOperationException(path));

    private readonly AdaptiveModel _model = AdaptiveModel.Load(Repository.Model, new AdaptiveModelOptions { InputNormalization = new([0.2860f], [0.3530f]) });

    [Fact]
    public void Run_CleanTestSet_IsRightInNinetyThreePercent()
    {
        var frames = Frames("clean");
        var stream = EvaluationPlan.Streams(Images.Labels, 1, DomainSetting.Single, StreamOrder.AsIs, 0)[0];

        var result = new Evaluator(_model, frames).Run([new EvaluationRun { Method = MethodSettings.Create("source"), Samples = stream, BatchSize = 64 }])[0];

        Assert.Equal(10_000, result.Frames[0]);
        Assert.InRange(result.ErrorPercent, 0, 7);
    }

    /// <summary>Many streams in a pass answer as each alone.</summary>
    [Fact]
    public void Run_StreamsTogether_AnswerAsAlone()
    {
        var frames = Frames("clean", "fog", "gaussian_noise");
        var runs = new[] { "ema", "unmix_tns", "source" }.SelectMany(method => EvaluationPlan.Streams(Images.Labels, 3, DomainSetting.Single, StreamOrder.Correlated, 4, limit: 40)
            .Select(samples => new EvaluationRun { Method = MethodSettings.Create(method), Samples = samples, BatchSize = 1, KeepsLogits = true })).ToList();

        var together = new Evaluator(_model, frames).Run(runs);

        for (var i = 0; i < runs.Count; i++)
        {
            var alone = new Evaluator(_model, frames).Run([runs[i]])[0];
            Assert.Equal(alone.Frames, together[i].Frames);
            for (var row = 0; row < alone.Logits.Count; row++)
            {
                Assert.All(alone.Logits[row].Zip(together[i].Logits[row]), pair => Assert.Equal(pair.First, pair.Second, 1e-4));
            }
        }
    }

    [Fact]
    public void Run_StepsTooSmallForTheMethod_AreReportedAsRefused()
    {
        var stream = EvaluationPlan.Streams(Images.Labels, 1, DomainSetting.Single, StreamOrder.Iid, 0, limit: 20)[0];

        var result = new Evaluator(_model, Frames("clean")).Run([new EvaluationRun { Method = MethodSettings.Create("tbn"), Samples = stream, BatchSize = 1 }])[0];

        Assert.Contains("frames", result.Refusal, StringComparison.Ordinal);
    }

    [Fact]
    public void Run_SmallRemainder_JoinsTheStepBefore()
    {
        var stream = EvaluationPlan.Streams(Images.Labels, 1, DomainSetting.Single, StreamOrder.Iid, 0, limit: 67)[0];

        var result = new Evaluator(_model, Frames("clean")).Run([new EvaluationRun { Method = MethodSettings.Create("tbn"), Samples = stream, BatchSize = 32 }])[0];

        Assert.Null(result.Refusal);
        Assert.Equal(67, result.Frames[0]);
    }

    /// <summary>A run that goes on from a snapshot answers as the run that was never broken off.</summary>
    [Fact]
    public void Run_FromASnapshot_GoesOnWhereTheStreamWas()
    {
        var frames = Frames("fog");
        var stream = EvaluationPlan.Streams(Images.Labels, 1, DomainSetting.Single, StreamOrder.Correlated, 2, limit: 64)[0];
        EvaluationRun Run(int from) => new() { Method = MethodSettings.Create("tbr"), Samples = [.. stream.Skip(from)], BatchSize = 8, KeepsLogits = true };
        var evaluator = new Evaluator(_model, frames);
        var whole = evaluator.Run([Run(0)])[0];
        var state = _model.CreateState(MethodSettings.Create("tbr"));
        for (var at = 0; at < 32; at += 8)
        {
            Assert.Equal(StepStatus.Ok, _model.Run([new StreamStep(state, frames.Read([.. stream.Skip(at).Take(8)]))])[0].Status);
        }

        var snapshot = _model.Export(state, DateTimeOffset.UnixEpoch);
        _model.Release(state);
        var rest = evaluator.Run([Run(32) with { Snapshot = snapshot }])[0];
        var fresh = evaluator.Run([Run(32)])[0];

        Assert.Equal(whole.Logits.Skip(32).SelectMany(row => row), rest.Logits.SelectMany(row => row), (a, b) => Math.Abs(a - b) <= 1e-4f);
        Assert.NotEqual(whole.Logits.Skip(32).SelectMany(row => row), fresh.Logits.SelectMany(row => row), (a, b) => Math.Abs(a - b) <= 1e-4f);
    }

    [Fact]
    public void Run_EveryStream_IsReportedAndReleased()
    {
        var heard = new List<int>();
        var runs = EvaluationPlan.Streams(Images.Labels, 3, DomainSetting.Single, StreamOrder.Iid, 0, limit: 20)
            .Select(samples => new EvaluationRun { Method = MethodSettings.Create("ema"), Samples = samples, BatchSize = 1 }).ToList();

        new Evaluator(_model, Frames("clean", "fog", "contrast")).Run(runs, new Hears(heard));

        Assert.Equal(20, heard.Count);
        Assert.All(heard, frames => Assert.Equal(3, frames));
        Assert.Equal(0, _model.ResidentStreams);
    }

    [Fact]
    public void Run_ClassThatTheModelLacks_IsRefusedAndReleasesTheStreams()
    {
        var images = new LabelledImages([3, 10], Images.Read);
        var frames = new EvaluationFrames(images, [new EvaluationDomain(null, 5)], 0, image => image);
        var run = new EvaluationRun { Method = MethodSettings.Create("ema"), Samples = [new(0, 0), new(0, 1)], BatchSize = 1 };

        Assert.Contains("class 10", Assert.Throws<DataFormatException>(() => new Evaluator(_model, frames).Run([run])).Message, StringComparison.Ordinal);
        Assert.Equal(0, _model.ResidentStreams);
    }

    /// <summary>The published pattern: batch statistics repair i.i.d. batches and break down on correlated ones.</summary>
    [Fact]
    public void Run_Tbn_HelpsOnIidBatchesAndBreaksDownOnCorrelatedOnes()
    {
        var frames = Frames("gaussian_noise", "brightness", "contrast");
        double Error(string method, StreamOrder order, int batch) => new Evaluator(_model, frames).Run([.. EvaluationPlan
            .Streams(Images.Labels, 3, DomainSetting.Single, order, 0, limit: 512)
            .Select(samples => new EvaluationRun { Method = MethodSettings.Create(method), Samples = samples, BatchSize = batch })]).Average(result => result.ErrorPercent);

        var source = Error("source", StreamOrder.Iid, 64);

        Assert.True(Error("tbn", StreamOrder.Iid, 64) < 0.6 * source);
        Assert.True(Error("tbn", StreamOrder.Correlated, 64) > Error("tbn", StreamOrder.Iid, 64) + 10);
        Assert.True(Error("tbn", StreamOrder.Correlated, 16) > Error("tbn", StreamOrder.Correlated, 64) + 10);
        Assert.True(Error("unmix_tns", StreamOrder.Correlated, 1) < source);
    }

    /// <summary>Eight correlated cameras with 8 frames each in every batch of 64: one state for all (what test-time code does) against a state a camera.</summary>
    /// <remarks>The limits are above the anchor's 0.55, ema's above tbr's: what streams learn is bounded (0.61 to 0.64 for tbr with the bound, 0.59 without), and on this
    /// model and these corruptions a shared average already repairs a part, so less is left to gain than in the trial the anchor comes from.</remarks>
    [Theory]
    [InlineData("ema", 0.7)]
    [InlineData("tbr", 0.66)]
    public void Run_StatePerStream_IsFarBetterThanASharedOne(string method, double limit)
    {
        // The published anchor's length: at 8 frames a step a slow average needs it to leave the source.
        const int Length = 2560;
        string[] domains = ["clean", "gaussian_noise", "gaussian_noise", "contrast", "brightness", "defocus_blur", "impulse_noise", "snow"];
        var source = Frames(domains);
        var cameras = Enumerable.Range(0, domains.Length)
            .Select(camera => EvaluationPlan.Streams(Images.Labels, 1, DomainSetting.Single, StreamOrder.Correlated, 100 + camera, limit: Length)[0]
                .Select(sample => sample with { Domain = camera }).ToArray())
            .ToArray();
        EvaluationSample[] shared = [.. Enumerable.Range(0, Length / 8).SelectMany(step => cameras.SelectMany(camera => camera.Skip(8 * step).Take(8)))];
        EvaluationRun Run(EvaluationSample[] samples, int batch) => new() { Method = MethodSettings.Create(method), Samples = samples, BatchSize = batch };

        var evaluator = new Evaluator(_model, source);
        var together = evaluator.Run([Run(shared, 64)])[0].ErrorPercent;
        var apart = evaluator.Run([.. cameras.Select(camera => Run(camera, 8))]).Average(result => result.ErrorPercent);

        TestContext.Current.TestOutputHelper?.WriteLine(
            FormattableString.Invariant($"{method}: one shared state {together:0.0} %, a state per stream {apart:0.0} %, ratio {apart / together:0.00}"));
        Assert.True(apart <= limit * together, FormattableString.Invariant($"shared {together:0.0} %, per stream {apart:0.0} %"));
    }

    public void Dispose() => _model.Dispose();

    private sealed class Hears(List<int> heard) : IProgress<int>
    {
        public void Report(int value) => heard.Add(value);
    }

    private static EvaluationFrames Frames(params string[] domains) =>
        new(Images, [.. domains.Select(name => new EvaluationDomain(Corruption.Find(name), 5))], seed: 0, image => image);
}

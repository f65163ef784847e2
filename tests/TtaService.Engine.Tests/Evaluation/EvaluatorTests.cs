using TtaService.Engine.Evaluation;
using TtaService.Engine.Execution;
using TtaService.Engine.Normalization;

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
    [Theory]
    [InlineData("ema")]
    [InlineData("tbr")]
    public void Run_StatePerStream_IsFarBetterThanASharedOne(string method)
    {
        const int Length = 1024;
        string[] domains = ["clean", "gaussian_noise", "gaussian_noise", "contrast", "brightness", "defocus_blur", "impulse_noise", "snow"];
        var source = Frames(domains);
        var cameras = Enumerable.Range(0, domains.Length)
            .Select(camera => EvaluationPlan.Streams(Images.Labels, 1, DomainSetting.Single, StreamOrder.Correlated, 100 + camera, limit: Length)[0].Select(sample => sample with { Domain = camera }).ToArray())
            .ToArray();
        EvaluationSample[] shared = [.. Enumerable.Range(0, Length / 8).SelectMany(step => cameras.SelectMany(camera => camera.Skip(8 * step).Take(8)))];
        EvaluationRun Run(EvaluationSample[] samples, int batch) => new() { Method = MethodSettings.Create(method), Samples = samples, BatchSize = batch };

        var evaluator = new Evaluator(_model, source);
        var together = evaluator.Run([Run(shared, 64)])[0].ErrorPercent;
        var apart = evaluator.Run([.. cameras.Select(camera => Run(camera, 8))]).Average(result => result.ErrorPercent);

        TestContext.Current.TestOutputHelper?.WriteLine(FormattableString.Invariant($"{method}: one shared state {together:0.0} %, a state per stream {apart:0.0} %, ratio {apart / together:0.00}"));
        Assert.True(apart <= 0.75 * together, FormattableString.Invariant($"shared {together:0.0} %, per stream {apart:0.0} %"));
    }

    public void Dispose() => _model.Dispose();

    private static EvaluationFrames Frames(params string[] domains) =>
        new(Images, [.. domains.Select(name => new EvaluationDomain(Corruption.Find(name), 5))], seed: 0, image => image);
}

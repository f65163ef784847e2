using System.Text.Json.Nodes;
using TtaService.Engine.Normalization;
using TtaService.Evaluation;
using TtaService.Host.Commands;
using TtaService.Host.Commands.Evaluation;
using TtaService.Host.Tests.Infrastructure;

namespace TtaService.Host.Tests.Commands;

/// <summary>What is measured on a user's frames decides, and no less is claimed than that.</summary>
public sealed class RecommendTests
{
    [Theory]
    [InlineData("tbr", new double[] { 40, 40, 20, 41, 10, 12, 30, 30 }, "tbr errs on 11.0 %")]
    [InlineData("source", new double[] { 40, 40, 39.5, 40, 39, 41, 40, 40 }, "can't tell from it")]
    [InlineData("ema", new double[] { 40, 40, 30, 30, 5, 60, 39, 39 }, "worse than source somewhere: tbr")]
    [InlineData("ema", new double[] { 40, 40, 30, 30, 5, double.NaN, 39, 39 }, "ema errs on 30.0 %")]
    public void Of_WhatMethodsErr_ChoosesTheBestThatHarmsNowhere(string expected, double[] errors, string said)
    {
        var study = Study("source,ema,tbr,auto");
        var outcomes = study.Methods.SelectMany((method, i) => study.BatchSizes.Select((batch, j) => Outcome(method.Label, batch, errors[(2 * i) + j]))).ToList();
        var recommendation = Recommendation.Of(study, outcomes, 1000);

        Assert.Equal(expected, recommendation.Method);
        Assert.Contains(said, recommendation.Reason, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Recommend_OnLabelledFrames_EndsWithALineForModelJson()
    {
        var run = await TtaRun.Of("recommend", "--model", "fashion-mnist", "--data", EvaluationData.Sample(ModelLocation.Resolve("fashion-mnist", null)),
            "--method", "source,tbr,auto,tbr+lame{neighbors=3}", "--limit", "120", "--batch-size", "16", "--order", "correlated");

        Assert.Equal(0, run.ExitCode);
        var last = run.Output.Split('\n', StringSplitOptions.RemoveEmptyEntries)[^1];
        var entry = JsonNode.Parse($"{{{last}}}")!["default_method"]!;
        // Clean frames in runs: what filters in time is best, and what renormalizes harms.
        Assert.Equal("auto", (string?)entry["name"]);
        Assert.NotNull(MethodRegistry.BuiltIn.Describe((string)entry["name"]!));
    }

    [Fact]
    public async Task Recommend_OnFramesWithoutLabels_SaysWhatToDo()
    {
        using var folder = new TestFolder();
        Directory.CreateDirectory(folder.In("frames"));
        await File.WriteAllBytesAsync(Path.Combine(folder.In("frames"), "1.png"), [1, 2, 3]);

        (await TtaRun.Of("recommend", "--model", "fashion-mnist", "--data", folder.In("frames")))
            .AssertRefused(CommandException.Failure, "frames without labels", "a folder a class", "tta calibrate");
    }

    private static EvaluationStudy Study(string methods) => new()
    {
        Domains = [new EvaluationDomain(null, 1)],
        Methods = MethodExpressions.Parse(methods, [], MethodRegistry.BuiltIn),
        Orders = [StreamOrder.Iid],
        Settings = [DomainSetting.Single],
        BatchSizes = [1, 16],
        Seeds = [0],
        Delta = 0.1,
        Limit = 1000,
        Snapshot = [],
        KeepsLogits = false,
    };

    private static EvaluationOutcome Outcome(string method, int batch, double error) => new(
        new EvaluationCell(DomainSetting.Single, StreamOrder.Iid, batch, method, 0),
        [double.IsNaN(error) ? new EvaluationResult([0], [0], [], "refused") : new EvaluationResult([1000], [(int)Math.Round(10 * error)], [], null)]);
}

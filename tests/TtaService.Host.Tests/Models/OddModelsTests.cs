using Grpc.Core;
using SkiaSharp;
using TtaService.Engine.Onnx;
using TtaService.Host.Tests.Infrastructure;
using TtaService.V1;

namespace TtaService.Host.Tests.Models;

/// <summary>What a model takes and gives is decided once, from its graph and model.json; what can't be served is named, and the others serve.</summary>
public sealed class OddModelsTests(OddModels models) : IClassFixture<OddModels>
{
    private static readonly byte[] Picture = TestFrames.File(3, SKEncodedImageFormat.Png);

    [Theory]
    [InlineData("softmax", OutputKind.Probabilities)]
    [InlineData("log-softmax", OutputKind.LogProbabilities)]
    public async Task Predictions_OfAGraphThatEndsInSoftmax_AreThoseOfTheSameGraphWithout(string model, OutputKind kind)
    {
        var expected = await TopAsync("tiny");
        var actual = await TopAsync(model);

        Assert.Equal(kind, (await ModelAsync(model)).Outputs[0].Kind);
        Assert.All(expected, label => Assert.Equal(label.Probability, actual.Single(other => other.Index == label.Index).Probability, 1e-5));
    }

    [Theory]
    [InlineData("sigmoid", OutputKind.MultiLabelProbabilities)]
    [InlineData("declared", OutputKind.MultiLabelLogits)]
    public async Task Predictions_OfSeveralLabels_AreASigmoidEach(string model, OutputKind kind)
    {
        var scores = TestFrames.Scores(await StepAsync("tiny"));

        var top = await TopAsync(model);

        Assert.Equal(kind, (await ModelAsync(model)).Outputs[0].Kind);
        Assert.All(top, label => Assert.Equal(1 / (1 + Math.Exp(-scores[label.Index])), label.Probability, 1e-5));
    }

    [Fact]
    public async Task Predictions_OfAnOutputWithoutAnAxisForFrames_AreRead()
    {
        var expected = await TopAsync("tiny");

        Assert.Equal([-1, 5], (await ModelAsync("frames-lost")).Outputs[0].Shape);
        Assert.All((await TopAsync("frames-lost")).Zip(expected), pair => Assert.Equal(pair.Second.Probability, pair.First.Probability, 1e-5));
    }

    [Fact]
    public async Task Predictions_OfARawOutput_AreNone()
    {
        Assert.Empty((await StepAsync("raw")).Predictions[0].Top);
        Assert.False((await ModelAsync("raw")).HasPredictionOutput);
    }

    [Theory]
    [InlineData("bytes", "UINT8")]
    [InlineData("ints", "INT32")]
    [InlineData("nhwc", "UINT8")]
    [InlineData("double", "DOUBLE")]
    public async Task Input_OfAnotherTypeOrLayout_IsFedWhatItDeclares(string model, string type)
    {
        var described = await ModelAsync(model);

        Assert.Equal(type, described.InputType);
        Assert.Equal([-1, 3, 16, 16], described.InputShape);
        TestFrames.AssertClose(TestFrames.Scores(await StepAsync("tiny")), TestFrames.Scores(await StepAsync(model)));
    }

    /// <summary>Networks that average the four frames of a clip: of one picture over and over they answer as the network alone.</summary>
    [Theory]
    [InlineData("clips")]
    [InlineData("clips-frames-first")]
    public async Task Input_OfClips_TakesWholeClipsAndAnswersEachFrame(string model)
    {
        var (first, second) = (TestFrames.Encoded(Picture), TestFrames.Encoded(TestFrames.File(4, SKEncodedImageFormat.Png)));
        var alone = (await InferAsync("tiny", first, second)).Step;
        var clips = (await InferAsync(model, first, first, first, first, second, second, second, second)).Step;

        Assert.Equal(8, clips.Predictions.Count);
        Assert.Equal([8, 5], clips.Outputs[0].Shape);
        for (var frame = 0; frame < 8; frame++)
        {
            TestFrames.AssertClose(Row(alone, frame / 4), Row(clips, frame));
            Assert.Equal(alone.Predictions[frame / 4].Top[0].Index, clips.Predictions[frame].Top[0].Index);
        }

        var refused = await Assert.ThrowsAsync<RpcException>(async () => await InferAsync(model, first, first, first));
        Assert.Equal(StatusCode.InvalidArgument, refused.StatusCode);
        Assert.Contains("the model answers clips of 4 frames, there are 3; send whole clips", refused.Status.Detail, StringComparison.Ordinal);

        async Task<InferReply> InferAsync(string name, params Frame[] frames) => await models.Host.Adaptation.InferAsync(new InferRequest
        {
            Open = new OpenStream { Stream = $"{name}-{Guid.NewGuid():N}", Model = name, Method = new Method { Name = "source" }, Reply = new ReplyOptions { RawOutputs = true } },
            Step = new StepRequest { Frames = { frames } },
        });

        static float[] Row(StepReply step, int frame) => TestFrames.Scores(step)[(frame * 5)..((frame + 1) * 5)];
    }

    [Fact]
    public async Task Input_OfAnOffset_IsFedShiftedPixels()
    {
        // The graph scales by 1/255, so shifted pixels are those of a mean of 128/255.
        using var folders = new ModelFolders();
        folders.Add("tiny", """{ "preprocessing": { "mean": [0.501960784, 0.501960784, 0.501960784], "std": [1, 1, 1] } }""");
        await using var host = await TestHost.StartAsync($"--Models:Path={folders.Root}");

        TestFrames.AssertClose(TestFrames.Scores(await StepAsync(host, "tiny", TestFrames.Encoded(Picture))), TestFrames.Scores(await StepAsync("offset")));
    }

    [Fact]
    public async Task Tensor_ForAGraphThatTakesBytes_IsRoundedToThem()
    {
        float[] levels = [.. Enumerable.Range(0, 3 * 16 * 16).Select(i => i % 256)];
        var exact = TestFrames.Scores(await StepAsync(models.Host, "bytes", TestFrames.Tensor([3, 16, 16], levels)));
        var near = TestFrames.Scores(
            await StepAsync(models.Host, "bytes", TestFrames.Tensor([3, 16, 16], Array.ConvertAll(levels, level => level is 0 or 255 ? (level * 2) - 1 : level + 0.4f))));

        Assert.Equal(exact, near);
    }

    [Theory]
    [InlineData("wrong-reshape", "can't run a frame of its own size")]
    [InlineData("signed", "preprocessing.offset to -128")]
    [InlineData("flags", "BOOL")]
    [InlineData("normalized-bytes", "mean")]
    [InlineData("one-label-too-few", "4 labels", "scores [N,5]")]
    [InlineData("one-label-too-many", "6 labels", "scores [N,5]")]
    [InlineData("no-such-output", "'logits'", "scores")]
    [InlineData("no-probabilities", "sum to 1")]
    [InlineData("softmax-twice", "ends in Softmax", "logits")]
    [InlineData("torn", "not an ONNX model")]
    public async Task BrokenModel_IsNamedWithItsReasonEverywhere(string model, params string[] said)
    {
        var refused = await RpcAssert.RefusedAsync(StatusCode.FailedPrecondition, "MODEL_BROKEN", () => StepAsync(model));
        var listed = (await models.Host.Models.ListModelsAsync(new ListModelsRequest())).Models.Single(listed => listed.Name == model).UnavailableReason;
        using var http = new HttpClient { BaseAddress = models.Host.Http };
        var ready = await http.GetStringAsync(new Uri("/health/ready", UriKind.Relative), TestContext.Current.CancellationToken);

        Assert.StartsWith("Degraded: ", ready, StringComparison.Ordinal);
        Assert.All(said, words => Assert.All([refused.Message, listed, ready], text => Assert.Contains(words, text, StringComparison.Ordinal)));
        Assert.All([refused.Message, listed, ready], text => Assert.DoesNotContain("   at ", text, StringComparison.Ordinal));
        Assert.DoesNotContain('\n', listed);
    }

    [Fact]
    public async Task NoName_BesideABrokenModel_IsNobodys()
    {
        using var folders = new ModelFolders();
        folders.Add("good");
        folders.AddOdd("broken", graph: "flags");
        await using var host = await TestHost.StartAsync($"--Models:Path={folders.Root}");

        var refused = await RpcAssert.RefusedAsync(StatusCode.InvalidArgument, "MODEL_MISSING", () => StepAsync(host, "", TestFrames.Tensor(1)));

        Assert.Contains("broken, good", refused.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task BrokenModel_WhenThatIsFatal_EndsTheStart()
    {
        using var folders = new ModelFolders();
        folders.Add("good");
        folders.AddOdd("broken", graph: "wrong-reshape");

        var refused = await Assert.ThrowsAsync<ModelLoadException>(() => TestHost.StartAsync($"--Models:Path={folders.Root}", "--Models:FailOnBroken=true"));

        Assert.Contains("broken: ", refused.Message, StringComparison.Ordinal);
        Assert.Contains("Models:FailOnBroken", refused.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task NoModelLeft_EndsTheStartInOneLine()
    {
        using var folders = new ModelFolders();
        folders.AddOdd("flags");
        folders.Add("mistaken", "{");

        var refused = await Assert.ThrowsAsync<ModelLoadException>(() => TestHost.StartAsync($"--Models:Path={folders.Root}"));

        Assert.StartsWith("no model can be served: flags: ", refused.Message, StringComparison.Ordinal);
        Assert.Contains("mistaken: ", refused.Message, StringComparison.Ordinal);
        Assert.DoesNotContain('\n', refused.Message);
    }

    [Fact]
    public async Task ModelWithoutADefaultMethod_RunsSource() => Assert.Equal("source", (await ModelAsync("tiny")).DefaultMethod.Name);

    private async Task<Model> ModelAsync(string name) => await models.Host.Models.GetModelAsync(new GetModelRequest { Name = name });

    private async Task<IReadOnlyList<LabelScore>> TopAsync(string model) => (await StepAsync(model)).Predictions[0].Top;

    private Task<StepReply> StepAsync(string model) => StepAsync(models.Host, model, TestFrames.Encoded(Picture));

    private static async Task<StepReply> StepAsync(TestHost host, string model, Frame frame) => (await host.Adaptation.InferAsync(new InferRequest
    {
        Open = new OpenStream { Stream = $"camera-{Guid.NewGuid():N}", Model = model, Method = new Method { Name = "source" }, Reply = new ReplyOptions { RawOutputs = true } },
        Step = new StepRequest { Frames = { frame } },
    })).Step;
}

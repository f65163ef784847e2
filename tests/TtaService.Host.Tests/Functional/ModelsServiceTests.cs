using System.Security.Cryptography;
using Grpc.Core;
using TtaService.Host.Tests.Infrastructure;
using TtaService.V1;

namespace TtaService.Host.Tests.Functional;

public sealed class ModelsServiceTests(ServerFixture server) : IClassFixture<ServerFixture>
{
    [Fact]
    public async Task List_TwoModels_InTheOrderOfTheirNames()
    {
        var models = (await server.Host.Models.ListModelsAsync(new ListModelsRequest())).Models;

        Assert.Equal(["plain", "tiny"], models.Select(model => model.Name));
        Assert.All(models, model => Assert.Empty(model.Methods));
        Assert.Equal([0, 8 + 8 + 16], models.Select(model => model.SiteChannels));
    }

    [Fact]
    public async Task Get_Model_TellsWhatItsFileAndFolderSay()
    {
        var model = await GetAsync("tiny");

        Assert.Equal(Convert.ToHexStringLower(SHA256.HashData(await File.ReadAllBytesAsync(Path.Combine(TestHost.ModelsPath, "tiny", "model.onnx")))), model.Digest);
        Assert.Equal([-1, 3, 16, 16], model.InputShape);
        Assert.Equal(["scores"], model.OutputNames);
        Assert.Equal(["ant", "bee", "cat", "dog", "eel"], model.Labels);
        Assert.Equal([8, 8, 16], model.Sites.Select(site => site.Channels));
        Assert.Equal(3, model.Sites.Select(site => site.Name).Distinct().Count());
        Assert.Equal("unmix_tns", model.DefaultMethod.Name);
        Assert.Equal(16, model.DefaultMethod.Hyperparameters.Fields["components"].NumberValue);
    }

    [Fact]
    public async Task Get_Methods_AreAllAvailableWithDefaultsThatAStreamAccepts()
    {
        var methods = (await GetAsync("tiny")).Methods;

        Assert.Superset(
            new HashSet<string> { "source", "tbn", "alpha_bn", "prior", "ema", "tbr", "adaptive", "unmix_tns", "iabn" }, methods.Select(method => method.Name).ToHashSet());
        foreach (var method in methods)
        {
            Assert.True(method.Available, method.UnavailableReason);
            Assert.All(
                method.Hyperparameters, hyperparameter => Assert.True(hyperparameter is { Name.Length: > 0, Summary.Length: > 0, DefaultValue.Length: > 0, Range.Length: > 0 }));
            var stream = await server.Host.Streams.CreateStreamAsync(
                new CreateStreamRequest { Stream = new V1.Stream { Name = $"by-{method.Name}", Model = "tiny", Method = new Method { Name = method.Name } } });
            Assert.Equal(method.StateBytes, stream.StateBytes);
            Assert.Equal(method.Hyperparameters.Select(hyperparameter => hyperparameter.Name).Order(), stream.Method.Hyperparameters.Fields.Keys.Order());
        }
    }

    [Fact]
    public async Task Get_ModelWithoutSites_HasSourceOnlyAndSaysWhy()
    {
        var methods = (await GetAsync("plain")).Methods;

        Assert.Equal("source", Assert.Single(methods, method => method.Available).Name);
        Assert.All(methods.Where(method => !method.Available), method => Assert.Contains("TrainingMode.PRESERVE", method.UnavailableReason, StringComparison.Ordinal));
    }

    [Fact]
    public async Task ModelWithoutSites_ServesSourceLikeTheOneWithThem()
    {
        async Task<StepReply> RunAsync(string model) => (await server.Host.Adaptation.InferAsync(new InferRequest
        {
            Open = new OpenStream { Stream = $"source-{model}", Model = model, Method = new Method { Name = "source" }, Reply = new ReplyOptions { RawOutputs = true } },
            Step = new StepRequest { Frames = { TestFrames.Tensor(1), TestFrames.Tensor(2) } },
        })).Step;

        TestFrames.AssertClose(TestFrames.Scores(await RunAsync("tiny")), TestFrames.Scores(await RunAsync("plain")));
    }

    [Fact]
    public async Task Get_UnknownModel_IsNotFound() =>
        await RpcAssert.RefusedAsync(StatusCode.NotFound, "MODEL_NOT_FOUND", () => GetAsync("resnet"));

    private async Task<Model> GetAsync(string name) => await server.Host.Models.GetModelAsync(new GetModelRequest { Name = name });
}

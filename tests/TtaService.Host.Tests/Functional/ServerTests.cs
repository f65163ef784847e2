using System.Net;
using Grpc.Core;
using Grpc.Health.V1;
using Grpc.Net.Client;
using Grpc.Reflection.V1Alpha;
using Microsoft.Extensions.Options;
using TtaService.Engine.Onnx;
using TtaService.Host.Tests.Infrastructure;
using TtaService.V1;

namespace TtaService.Host.Tests.Functional;

/// <summary>What the server says about itself, how it starts and how it stops.</summary>
public sealed class ServerTests
{
    [Fact]
    public async Task Models_AreListedWithLabelsSitesAndMethods()
    {
        await using var host = await TestHost.StartAsync();

        var listed = Assert.Single((await host.Models.ListModelsAsync(new ListModelsRequest())).Models);
        var model = await host.Models.GetModelAsync(new GetModelRequest { Name = listed.Name });

        Assert.Equal((TestHost.Model, 64, 3), (model.Name, model.Digest.Length, model.Sites.Count));
        Assert.Equal([-1L, 3, 16, 16], model.InputShape);
        Assert.Contains(model.Methods, method =>
            method is { Name: "unmix_tns", Available: true, StateBytes: > 0 } && method.Hyperparameters.Any(hyperparameter => hyperparameter.Name == "components"));
        Assert.Equal(12, model.Methods.Count);
        await RpcAssert.RefusedAsync(StatusCode.NotFound, "MODEL_NOT_FOUND", () => host.Models.GetModelAsync(new GetModelRequest { Name = "nobody" }).ResponseAsync);
    }

    [Fact]
    public async Task Health_IsServingOnBothListeners()
    {
        await using var host = await TestHost.StartAsync();
        using var channel = host.Connect();

        Assert.Equal(HealthCheckResponse.Types.ServingStatus.Serving, (await new Health.HealthClient(channel).CheckAsync(new HealthCheckRequest())).Status);
        using var http = new HttpClient { BaseAddress = host.Http };
        Assert.Equal(HttpStatusCode.OK, (await http.GetAsync(new Uri("/health/ready", UriKind.Relative), TestContext.Current.CancellationToken)).StatusCode);
        Assert.Equal(HttpStatusCode.OK, (await http.GetAsync(new Uri("/health/live", UriKind.Relative), TestContext.Current.CancellationToken)).StatusCode);
    }

    [Fact]
    public async Task Reflection_ListsTheServices()
    {
        await using var host = await TestHost.StartAsync();
        using var channel = host.Connect();
        using var call = new ServerReflection.ServerReflectionClient(channel).ServerReflectionInfo(cancellationToken: TestContext.Current.CancellationToken);
        await call.RequestStream.WriteAsync(new ServerReflectionRequest { ListServices = "" }, TestContext.Current.CancellationToken);
        await call.ResponseStream.MoveNext(TestContext.Current.CancellationToken);

        var services = call.ResponseStream.Current.ListServicesResponse.Service.Select(service => service.Name).ToList();

        Assert.Superset(new HashSet<string> { "tta.v1.AdaptationService", "tta.v1.StreamsService", "tta.v1.ModelsService", "grpc.health.v1.Health" }, services.ToHashSet());
    }

    [Fact]
    public async Task WrongSettings_EndTheStartAndNameTheirKeys()
    {
        var refused = await Assert.ThrowsAsync<OptionsValidationException>(() => TestHost.StartAsync("--Batching:MaxFrames=0", "--Batching:MaxDelay=soon", "--Batching:Speed=1"));

        Assert.Contains(refused.Failures, failure => failure.Contains("Batching:MaxDelay is 'soon'", StringComparison.Ordinal));
        Assert.Contains(refused.Failures, failure => failure.Contains("Batching:Speed is not a setting", StringComparison.Ordinal));
        var range = await Assert.ThrowsAsync<OptionsValidationException>(() => TestHost.StartAsync("--Batching:MaxFrames=0"));
        Assert.Contains(range.Failures, failure => failure.Contains("Batching:MaxFrames is '0', it must be 1 to 4096", StringComparison.Ordinal));
    }

    [Theory]
    [InlineData("{\"labels\": [\"a\"], \"colour\": 1}", "colour")]
    [InlineData("{\"preprocessing\": {\"crop\": 0}}", "preprocessing.crop")]
    [InlineData("{\"preprocessing\": {\"interpolation\": \"best\"}}", "nearest, box, bilinear")]
    [InlineData("{\"preprocessing\": {\"mean\": [0.5]}}", "preprocessing.std")]
    [InlineData("{\"preprocessing\": {\"channels\": \"grey\", \"mean\": [0.5], \"std\": [0.5]}}", "3 channels")]
    [InlineData("{\"preprocessing\": {\"resize\": 8, \"crop\": 16}}", "larger than")]
    [InlineData("{\"preprocessing\": {\"resize\": 32, \"crop\": 32}}", "16x16")]
    [InlineData("{\"default_method\": {\"name\": \"nothing\"}}", "default_method")]
    [InlineData("{\"default_method\": {\"name\": \"ema\", \"hyperparameters\": {\"momentum\": 9}}}", "momentum")]
    [InlineData("{\"labels_file\": \"../labels.txt\"}", "labels_file")]
    [InlineData("{\"limits\": {\"max_frames_per_step\": 0}}", "max_frames_per_step")]
    [InlineData("{", "model.json")]
    public async Task WrongModelJson_EndsTheStartAndNamesTheFileAndTheKey(string json, string said)
    {
        var folder = Directory.CreateTempSubdirectory("tta-models-").FullName;
        var model = Directory.CreateDirectory(Path.Combine(folder, "tiny")).FullName;
        File.Copy(Path.Combine(TestHost.ModelsPath, "tiny", "model.onnx"), Path.Combine(model, "model.onnx"));
        await File.WriteAllTextAsync(Path.Combine(model, "model.json"), json, TestContext.Current.CancellationToken);

        var refused = await Assert.ThrowsAsync<ModelLoadException>(() => TestHost.StartAsync($"--Models:Path={folder}"));

        Assert.Contains("model.json", refused.Message, StringComparison.Ordinal);
        Assert.Contains(said, refused.Message, StringComparison.Ordinal);
        Directory.Delete(folder, recursive: true);
    }

    [Fact]
    public async Task ModelJson_LimitsFramesAndNamesLabels()
    {
        var folder = Directory.CreateTempSubdirectory("tta-models-").FullName;
        var model = Directory.CreateDirectory(Path.Combine(folder, "tiny")).FullName;
        File.Copy(Path.Combine(TestHost.ModelsPath, "tiny", "model.onnx"), Path.Combine(model, "model.onnx"));
        await File.WriteAllTextAsync(Path.Combine(model, "names.txt"), "ant\nbee\ncat\ndog\neel\n", TestContext.Current.CancellationToken);
        await File.WriteAllTextAsync(Path.Combine(model, "model.json"),
            "{\"labels_file\": \"names.txt\", \"limits\": {\"max_frames_per_step\": 2}, \"default_method\": {\"name\": \"ema\"}}", TestContext.Current.CancellationToken);
        await using (var host = await TestHost.StartAsync($"--Models:Path={folder}"))
        {
            using var call = await DuplexClient.OpenAsync(host, "camera");
            Assert.Equal(("ema", 2), (call.Opened.Method.Name, call.Opened.MaxFramesPerStep));
            var answer = await call.StepAsync(1, TestFrames.Tensor(1));
            Assert.Contains(answer.Step.Predictions[0].Top[0].Label, new[] { "ant", "bee", "cat", "dog", "eel" });
            Assert.Equal(1, answer.Step.Predictions[0].Top.Sum(score => score.Probability), 1e-4);
            Assert.Contains(
                "limits.max_frames_per_step", (await call.StepAsync(2, TestFrames.Tensor(1), TestFrames.Tensor(2), TestFrames.Tensor(3))).Error.Message, StringComparison.Ordinal);
        }

        Directory.Delete(folder, recursive: true);
    }

    [Fact]
    public async Task NoModels_EndTheStartWithWhatToDo()
    {
        Assert.Contains(
            "Models:Path", (await Assert.ThrowsAsync<ModelLoadException>(() => TestHost.StartAsync("--Models:Path=/nowhere/at/all"))).Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Stop_EndsOpenCallsWithAHintToReconnectAndAnswersWhatWasRead()
    {
        await using var host = await TestHost.StartAsync();
        using var call = await DuplexClient.OpenAsync(host, "camera");
        await call.StepAsync(1, TestFrames.Tensor(1));
        Task stopping;
        Task<(IReadOnlyList<StreamInferReply> Replies, RpcException End)> reading;
        using (await host.OccupyEngineAsync())
        {
            await call.SendAsync(2, TestFrames.Tensor(2));
            await host.UntilAsync("camera", session => session.Waiting.PendingSteps == 1);
            reading = call.ReadToEndAsync();
            stopping = host.Host.StopAsync(TestContext.Current.CancellationToken);
            await Task.Delay(50, TestContext.Current.CancellationToken);
        }

        var (replies, end) = await reading;
        Assert.Equal([2], replies.Select(reply => reply.Step.Step));
        RpcAssert.Refused(StatusCode.Unavailable, "SERVER_STOPPING", end);
        await stopping;
    }
}

using System.Globalization;
using System.Net;
using Grpc.Core;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Time.Testing;
using TtaService.Host.Tests.Commands;
using TtaService.Host.Tests.Infrastructure;
using TtaService.Inference;
using TtaService.Serving.Streams;
using TtaService.Serving.Streams.Loading;
using TtaService.V1;

namespace TtaService.Host.Tests.Models;

/// <summary>Models that come, change and go while the service runs.</summary>
public sealed class ModelChangeTests : IDisposable
{
    private static readonly string Manifest = File.ReadAllText(Path.Combine(TestHost.ModelsPath, TestHost.Model, "model.json"));
    private readonly ModelFolders _folders = new();

    public ModelChangeTests() => _folders.Add(TestHost.Model, Manifest);

    public void Dispose() => _folders.Dispose();

    [Fact]
    public async Task Load_AnotherFile_EveryStepOfEveryOpenCallIsAnswered()
    {
        // 60 and more are a longer run.
        var count = int.Parse(Environment.GetEnvironmentVariable("TTA_CHANGE_CAMERAS") ?? "12", CultureInfo.InvariantCulture);
        await using var host = await StartAsync();
        var before = (await host.Models.GetModelAsync(new GetModelRequest { Name = TestHost.Model })).Digest;
        using var enough = new CancellationTokenSource();
        var (begun, moved) = (0, 0);
        var cameras = Enumerable.Range(0, count).Select(camera => Task.Run(async () =>
        {
            using var call = await DuplexClient.OpenAsync(host, $"camera-{camera}", "tbr");
            var notices = new List<string>();
            var (sent, answered) = (0UL, 0UL);
            while (!enough.IsCancellationRequested || answered < sent)
            {
                // Two on their way at any time.
                while (!enough.IsCancellationRequested && sent < answered + 2)
                {
                    await call.SendAsync(++sent, TestFrames.Tensor((int)sent));
                }

                var reply = await call.ReadAsync();
                Assert.Equal((StreamInferReply.MessageOneofCase.Step, ++answered), (reply.MessageCase, reply.Step?.Sequence));
                _ = answered == 1 ? Interlocked.Increment(ref begun) : 0;
                if (reply.Step!.Notice.Length > 0)
                {
                    Assert.Equal(1, reply.Step.Step);
                    notices.Add(reply.Step.Notice);
                    Interlocked.Increment(ref moved);
                }
            }

            return notices;
        })).ToArray();

        await TestHost.UntilAsync(() => Volatile.Read(ref begun) == count || cameras.Any(camera => camera.IsFaulted), "not every camera began");
        Change();
        var loaded = await host.Models.LoadModelAsync(new LoadModelRequest { Name = TestHost.Model });
        await TestHost.UntilAsync(() => Volatile.Read(ref moved) == count || cameras.Any(camera => camera.IsFaulted), "not every camera moved");
        await enough.CancelAsync();

        Assert.NotEqual(before, loaded.Digest);
        Assert.All(await Task.WhenAll(cameras), notices => Assert.Contains("replaced by another", Assert.Single(notices), StringComparison.Ordinal));
        await EnginesAsync(host, 1);
        Assert.Equal(loaded.Digest, host.Part<ModelCatalog>().Engines.Single().Engine.Model.Digest);
    }

    [Fact]
    public async Task Load_SameFile_StreamsGoOnWithTheirStates()
    {
        await using var host = await StartAsync();
        using var call = await DuplexClient.OpenAsync(host, "camera", "unmix_tns");
        await call.StepAsync(1, TestFrames.Tensor(1));
        await call.StepAsync(2, TestFrames.Tensor(2));

        // Another word for a class, the same graph.
        File.WriteAllText(_folders.In(TestHost.Model, "model.json"), Manifest.Replace("ant", "asp", StringComparison.Ordinal));
        await host.Models.LoadModelAsync(new LoadModelRequest { Name = TestHost.Model });
        await EnginesAsync(host, 1);
        var third = (await call.StepAsync(3, TestFrames.Tensor(3))).Step;
        var again = (await call.StepAsync(2, TestFrames.Tensor(2))).Step;
        using var fresh = await DuplexClient.OpenAsync(host, "other", "unmix_tns");
        await fresh.StepAsync(1, TestFrames.Tensor(1));
        await fresh.StepAsync(2, TestFrames.Tensor(2));
        var twin = (await fresh.StepAsync(3, TestFrames.Tensor(3))).Step;

        Assert.Equal(3, third.Step);
        Assert.Contains("goes on with its state", third.Notice, StringComparison.Ordinal);
        Assert.Contains("asp", third.Predictions[0].Top.Select(top => top.Label));
        Assert.Equal(twin.Outputs[0].Data, third.Outputs[0].Data);
        Assert.True(again.Replayed);
        Assert.Empty(again.Notice);
    }

    [Fact]
    public async Task Load_BrokenFile_TheOneBeforeGoesOnAndTheReasonIsTold()
    {
        await using var host = await StartAsync();
        using var call = await DuplexClient.OpenAsync(host, "camera");
        await call.StepAsync(1, TestFrames.Tensor(1));

        File.WriteAllText(_folders.In(TestHost.Model, "model.onnx"), "no model");
        var refused = await Assert.ThrowsAsync<RpcException>(async () => await host.Models.LoadModelAsync(new LoadModelRequest { Name = TestHost.Model }));
        var listed = (await host.Models.ListModelsAsync(new ListModelsRequest())).Models;

        Assert.Equal(StatusCode.FailedPrecondition, refused.StatusCode);
        Assert.Contains("the one before goes on", refused.Status.Detail, StringComparison.Ordinal);
        Assert.Equal(2, (await call.StepAsync(2, TestFrames.Tensor(2))).Step.Step);
        Assert.Equal([true, false], listed.Select(model => model.UnavailableReason.Length == 0));
        // The empty name is still the only model's.
        using var unnamed = await DuplexClient.OpenAsync(host.Adaptation, new OpenStream { Stream = "unnamed" });

        File.Copy(Path.Combine(TestHost.ModelsPath, TestHost.Model, "model.onnx"), _folders.In(TestHost.Model, "model.onnx"), overwrite: true);
        await host.Models.LoadModelAsync(new LoadModelRequest { Name = TestHost.Model });
        Assert.Single((await host.Models.ListModelsAsync(new ListModelsRequest())).Models);
    }

    [Fact]
    public async Task Unload_OpenCallEnds_AndLoadedAgainItsStreamGoesOn()
    {
        await using var host = await StartAsync();
        using var call = await DuplexClient.OpenAsync(host, "camera");
        await call.StepAsync(1, TestFrames.Tensor(1));

        await host.Models.UnloadModelAsync(new UnloadModelRequest { Name = TestHost.Model });
        var end = await call.EndAsync();
        await EnginesAsync(host, 0);
        var refused = await Assert.ThrowsAsync<RpcException>(() => DuplexClient.OpenAsync(host, "camera"));
        using var http = new HttpClient { BaseAddress = host.Http };
        using var health = await http.GetAsync(new Uri("health/live", UriKind.Relative));
        await host.Models.LoadModelAsync(new LoadModelRequest { Name = TestHost.Model });
        using var back = await DuplexClient.OpenAsync(host, "camera");

        Assert.Equal((StatusCode.FailedPrecondition, true), (end.StatusCode, end.Status.Detail.Contains("was unloaded", StringComparison.Ordinal)));
        Assert.Equal(StatusCode.NotFound, refused.StatusCode);
        Assert.Equal(HttpStatusCode.OK, health.StatusCode);
        Assert.Equal(2, (await back.StepAsync(2, TestFrames.Tensor(2))).Step.Step);
    }

    [Fact]
    public async Task Load_Drain_OpenCallStaysOnTheModelBeforeUntilItEnds()
    {
        await using var host = await StartAsync("--Models:ReplacedStreams=drain");
        using var old = await DuplexClient.OpenAsync(host, "old");
        await old.StepAsync(1, TestFrames.Tensor(1));

        Change();
        await host.Models.LoadModelAsync(new LoadModelRequest { Name = TestHost.Model });
        using var young = await DuplexClient.OpenAsync(host, "young");
        await young.StepAsync(1, TestFrames.Tensor(1));
        var second = (await old.StepAsync(2, TestFrames.Tensor(2))).Step;

        Assert.Equal((2, ""), (second.Step, second.Notice));
        Assert.Equal(2, host.Part<ModelCatalog>().Engines.Count);
        await old.CompleteAsync();
        old.Dispose();
        await EnginesAsync(host, 1);
        Assert.Equal(2, (await young.StepAsync(2, TestFrames.Tensor(2))).Step.Step);
    }

    [Fact]
    public async Task Watch_FoldersThatComeChangeAndGo_AreTakenUpOnceTheyRest()
    {
        var clock = new FakeTimeProvider();
        await using var host = await TestHost.StartAsync(clock, $"--Models:Path={_folders.Root}", "--Models:WatchEvery=1.00:00:00");
        var watcher = host.Part<ModelWatcher>();
        var catalog = host.Part<ModelCatalog>();
        await watcher.LookAsync();

        Change();
        _folders.Add("new", Manifest);
        var first = catalog.Find(TestHost.Model);
        await watcher.LookAsync();
        // Not yet: it may be half-written.
        Assert.Same(first, catalog.Find(TestHost.Model));
        await watcher.LookAsync();
        Assert.NotSame(first, catalog.Find(TestHost.Model));
        Assert.True(catalog.Serves("new"));

        Directory.Delete(_folders.In("new"), recursive: true);
        await watcher.LookAsync();
        await watcher.LookAsync();
        Assert.False(catalog.Serves("new"));
        var second = catalog.Find(TestHost.Model);
        await watcher.LookAsync();
        Assert.Same(second, catalog.Find(TestHost.Model));
    }

    [Fact]
    public async Task VersionFolders_TheHighestServes_AndANewOneTakesOver()
    {
        _folders.AddVersion("versioned", 2, Manifest);
        _folders.AddVersion("versioned", 10, Manifest);
        Directory.CreateDirectory(_folders.In("versioned", "11"));
        await using var host = await StartAsync();

        Assert.Equal(10, (await host.Models.GetModelAsync(new GetModelRequest { Name = "versioned" })).Version);
        _folders.AddVersion("versioned", 12, Manifest);
        Assert.Equal(12, (await host.Models.LoadModelAsync(new LoadModelRequest { Name = "versioned" })).Version);
        using var channel = host.Connect();
        var inference = new GRPCInferenceService.GRPCInferenceServiceClient(channel);
        Assert.Equal(["12"], (await inference.ModelMetadataAsync(new ModelMetadataRequest { Name = "versioned" })).Versions);
        Assert.True((await inference.ModelReadyAsync(new ModelReadyRequest { Name = "versioned", Version = "12" })).Ready);
        Assert.False((await inference.ModelReadyAsync(new ModelReadyRequest { Name = "versioned", Version = "10" })).Ready);
    }

    [Fact]
    public async Task OpenInferenceProtocol_LoadsAndUnloads()
    {
        await using var host = await StartAsync();
        using var channel = host.Connect();
        var inference = new GRPCInferenceService.GRPCInferenceServiceClient(channel);
        using var http = new HttpClient { BaseAddress = host.Http };

        _folders.Add("second", Manifest);
        await inference.RepositoryModelLoadAsync(new RepositoryModelLoadRequest { ModelName = "second" });
        Assert.True((await inference.ModelReadyAsync(new ModelReadyRequest { Name = "second" })).Ready);
        Assert.Equal(HttpStatusCode.OK, (await http.PostAsync(new Uri("v2/repository/models/second/unload", UriKind.Relative), null)).StatusCode);
        Assert.False((await inference.ModelReadyAsync(new ModelReadyRequest { Name = "second" })).Ready);
        Assert.Equal(HttpStatusCode.OK, (await http.PostAsync(new Uri("v2/repository/models/second/load", UriKind.Relative), new StringContent("{}"))).StatusCode);
        Assert.True((await inference.ModelReadyAsync(new ModelReadyRequest { Name = "second" })).Ready);

        var missing = await Assert.ThrowsAsync<RpcException>(async () => await inference.RepositoryModelLoadAsync(new RepositoryModelLoadRequest { ModelName = "missing" }));
        var outside = await Assert.ThrowsAsync<RpcException>(async () => await inference.RepositoryModelLoadAsync(new RepositoryModelLoadRequest { ModelName = "../second" }));
        var withFiles = await Assert.ThrowsAsync<RpcException>(async () => await inference.RepositoryModelLoadAsync(new RepositoryModelLoadRequest
        {
            ModelName = "second",
            Parameters = { ["file:1/model.onnx"] = new ModelRepositoryParameter { StringParam = "x" } },
        }));
        Assert.StartsWith("failed to load 'missing': ", missing.Status.Detail, StringComparison.Ordinal);
        Assert.Equal([StatusCode.NotFound, StatusCode.NotFound, StatusCode.InvalidArgument], new[] { missing, outside, withFiles }.Select(failed => failed.StatusCode));
        using var foreign = new HttpRequestMessage(HttpMethod.Post, "v2/repository/models/second/unload");
        foreign.Headers.Add("Origin", "http://elsewhere.example");
        Assert.Equal(HttpStatusCode.BadRequest, (await http.SendAsync(foreign)).StatusCode);
    }

    [Fact]
    public async Task Command_ListsLoadsAndUnloads()
    {
        await using var host = await StartAsync();
        _folders.Add("second", Manifest);

        var loaded = await TtaRun.Of("models", "load", "second", "--address", $"{host.Grpc}");
        var listed = await TtaRun.Of("models", "list", "--address", $"{host.Grpc}");
        var unloaded = await TtaRun.Of("models", "unload", "second", "--address", $"{host.Grpc}");

        Assert.Equal([0, 0, 0], new[] { loaded, listed, unloaded }.Select(run => run.ExitCode));
        Assert.Contains("loaded second, version 1", loaded.Output, StringComparison.Ordinal);
        Assert.Contains("second", listed.Output, StringComparison.Ordinal);
        (await TtaRun.Of("models", "load", "third", "--address", $"{host.Grpc}")).AssertRefused(1, "has no folder 'third'");
    }

    [Fact]
    public async Task Changes_NotAllowed_AreRefusedWithTheSetting()
    {
        await using var host = await StartAsync("--Models:AllowChanges=false");

        var load = await Assert.ThrowsAsync<RpcException>(async () => await host.Models.LoadModelAsync(new LoadModelRequest { Name = TestHost.Model }));
        var unload = await Assert.ThrowsAsync<RpcException>(async () => await host.Models.UnloadModelAsync(new UnloadModelRequest { Name = TestHost.Model }));

        Assert.All(new[] { load, unload }, refused => Assert.Equal(StatusCode.FailedPrecondition, refused.StatusCode));
        Assert.Contains("Models:AllowChanges", load.Status.Detail, StringComparison.Ordinal);
        Assert.Single((await host.Models.ListModelsAsync(new ListModelsRequest())).Models);
    }

    private static Task EnginesAsync(TestHost host, int count) =>
        TestHost.UntilAsync(() => host.Part<ModelCatalog>().Engines.Count == count, $"there are {host.Part<ModelCatalog>().Engines.Count} engines instead of {count}");

    private Task<TestHost> StartAsync(params string[] settings) => TestHost.StartAsync([$"--Models:Path={_folders.Root}", .. settings]);

    // A producer's name at the end: the same graph in another file.
    private void Change() => File.WriteAllBytes(
        _folders.In(TestHost.Model, "model.onnx"),
        [.. File.ReadAllBytes(Path.Combine(TestHost.ModelsPath, TestHost.Model, "model.onnx")), 0x12, 1, (byte)'x']);
}

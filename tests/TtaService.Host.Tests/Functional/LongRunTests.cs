using Google.Protobuf;
using Grpc.Core;
using Microsoft.Extensions.Time.Testing;
using TtaService.Engine.Streams;
using TtaService.Host.Tests.Infrastructure;
using TtaService.Serving.Store;
using TtaService.Serving.Streams;
using TtaService.Serving.Telemetry;
using TtaService.V1;

namespace TtaService.Host.Tests.Functional;

/// <summary>What only shows after long: watchers that leave, names that come and go, models that share a file, cameras that share a name.</summary>
public sealed class LongRunTests
{
    [Fact]
    public async Task WatchDrift_ClientsGoneAtOnce_AreForgotten()
    {
        await using var host = await TestHost.StartAsync();
        await host.StepAsync("a", TestFrames.Tensor(1));
        await host.Part<DriftPublisher>().SweepAsync();
        var board = host.Part<DriftBoard>();
        var before = board.Watchers;
        using var channel = host.Connect();
        var drift = new DriftService.DriftServiceClient(channel);
        for (var i = 0; i < 500; i++)
        {
            using var gone = new CancellationTokenSource();
            using var call = drift.WatchDrift(new WatchDriftRequest(), cancellationToken: gone.Token);
            Thread.SpinWait(i % 40 * 2000);
            await gone.CancelAsync();
        }

        await TestHost.UntilAsync(() => board.Watchers == before, $"{board.Watchers - before} watchers of calls that have ended are still fed");
    }

    [Fact]
    public void Watch_NeverRead_IsForgottenWithItsDisposal()
    {
        var board = new DriftBoard();
        using (board.Watch())
        {
            Assert.Equal(1, board.Watchers);
        }

        Assert.Equal(0, board.Watchers);
    }

    [Fact]
    public async Task OneFileInTwoFolders_StreamsComeBackUnderTheirOwnModel()
    {
        using var folder = new TestFolder();
        string[] settings = [$"--Models:Path={TwoFolders(folder)}", "--Store:Kind=file", $"--Store:Path={folder.In("states")}"];
        var request = new InferRequest { Open = new OpenStream { Stream = "camera", Model = "b" }, Step = new StepRequest { Frames = { TestFrames.Tensor(1) } } };
        await using (var first = await TestHost.StartAsync(settings))
        {
            await first.Adaptation.InferAsync(request);
        }

        await using var second = await TestHost.StartAsync(settings);
        Assert.Equal("b", (await second.Streams.ListStreamsAsync(new ListStreamsRequest())).Streams.Single().Model);
        Assert.Equal("b", (await second.GetAsync("camera")).Model);
        Assert.Equal(2, (await second.Adaptation.InferAsync(request)).Step.Step);
    }

    [Fact]
    public async Task CheckpointWithoutAModelsName_IsRestoredUnderTheOneThatIsAskedFor()
    {
        using var folder = new TestFolder();
        string[] settings = [$"--Models:Path={TwoFolders(folder)}", "--Store:Kind=file", $"--Store:Path={folder.In("states")}"];
        byte[] snapshot;
        await using (var host = await TestHost.StartAsync(settings))
        {
            await host.Adaptation.InferAsync(
                new InferRequest { Open = new OpenStream { Stream = "other", Model = "a" }, Step = new StepRequest { Frames = { TestFrames.Tensor(1) } } });
            snapshot = await host.ExportAsync("other");
            await host.Streams.DeleteStreamAsync(new DeleteStreamRequest { Name = "other" });
        }

        await using (var store = Store.StoreTestParts.File(folder.In("states")))
        {
            var claim = (await store.OpenAsync("camera", "x", OpenPolicy.Replace, CancellationToken.None)).Claim!.Value;
            await store.CloseAsync(claim, new PendingCheckpoint(snapshot, 5, 1), CancellationToken.None);
        }

        await using var second = await TestHost.StartAsync(settings);
        using var call = await DuplexClient.OpenAsync(second.Adaptation, new OpenStream { Stream = "camera", Model = "b" });
        Assert.Equal((V1.StateOrigin.Restored, "b", 5ul), (call.Opened.Origin, call.Opened.Model, call.Opened.LastSequence));
    }

    [Fact]
    public async Task ModelsFileChanged_TheCheckpointOfTheOtherFileIsRefused()
    {
        using var folder = new TestFolder();
        var models = TwoFolders(folder);
        string[] settings = [$"--Models:Path={models}", "--Store:Kind=file", $"--Store:Path={folder.In("states")}"];
        var request = new InferRequest { Open = new OpenStream { Stream = "camera", Model = "b" }, Step = new StepRequest { Frames = { TestFrames.Tensor(1) } } };
        await using (var first = await TestHost.StartAsync(settings))
        {
            await first.Adaptation.InferAsync(request);
        }

        // The same graph in other bytes: an unknown field at its end.
        await using (var file = new FileStream(Path.Combine(models, "b", "model.onnx"), FileMode.Append))
        {
            var field = new CodedOutputStream(file, leaveOpen: true);
            field.WriteTag(200, WireFormat.WireType.Varint);
            field.WriteInt32(1);
            field.Flush();
        }

        await using var second = await TestHost.StartAsync(settings);
        using var call = await DuplexClient.OpenAsync(second.Adaptation, new OpenStream { Stream = "camera", Model = "b" });
        Assert.Equal((V1.StateOrigin.Reset, "b"), (call.Opened.Origin, call.Opened.Model));
        Assert.Contains(call.Opened.Warnings, warning => warning.Contains("another file of model 'b'", StringComparison.Ordinal));
    }

    [Fact]
    public void TakeoverPace_AfterTheFreeOnes_DoublesUpToItsLimitAndForgets()
    {
        var clock = new Microsoft.Extensions.Time.Testing.FakeTimeProvider();
        var pace = new TakeoverPace(clock);
        for (var i = 0; i < TakeoverPace.Free; i++)
        {
            Assert.Equal(TimeSpan.Zero, pace.Next().Wait);
        }

        double[] waits = [pace.Next().Wait.TotalMilliseconds, pace.Next().Wait.TotalMilliseconds, pace.Next().Wait.TotalMilliseconds];
        Assert.Equal([100, 200, 400], waits);
        for (var i = 0; i < 10; i++)
        {
            pace.Next();
        }

        Assert.Equal(TakeoverPace.LongestWait, pace.Next().Wait);
        clock.Advance(TimeSpan.FromMinutes(1));
        Assert.Equal((1, TimeSpan.Zero), pace.Next());
    }

    [Fact]
    public async Task TwoCamerasUnderOneName_TakeTheStreamFromEachOtherEverMoreSlowly()
    {
        await using var host = await TestHost.StartAsync();
        var calls = new List<DuplexClient>();
        try
        {
            for (var i = 0; i <= TakeoverPace.Free; i++)
            {
                calls.Add(await DuplexClient.OpenAsync(host, "camera"));
            }

            var next = DuplexClient.OpenAsync(host, "camera");
            // The one that has it goes on meanwhile.
            Assert.Equal(1, (await calls[^1].StepAsync(1, TestFrames.Tensor(1))).Step.Step);
            calls.Add(await next);
            RpcAssert.Refused(StatusCode.Aborted, "STREAM_TAKEN_OVER", await calls[^2].EndAsync());
            var scrape = await Scrape.OfAsync(host.Http);
            Assert.Equal(4, scrape.Sum("tta_stream_transition_total", ("tta_transition", "call_taken_over")));
        }
        finally
        {
            calls.ForEach(call => call.Dispose());
        }
    }

    [Fact]
    public async Task WaitingTakeover_ClientLeaves_TheStreamStaysWithItsCall()
    {
        await using var host = await TestHost.StartAsync();
        var session = new Func<StreamSession>(() => host.Part<StreamDirectory>().Get("camera"));
        using var owner = await DuplexClient.OpenAsync(host, "camera");
        for (var i = 0; i < 20; i++)
        {
            session().Use.Contend();
        }

        using var gone = new CancellationTokenSource();
        var waiting = DuplexClient.OpenAsync(host.Adaptation, new OpenStream { Stream = "camera" }, gone.Token);
        await Task.Delay(200, TestContext.Current.CancellationToken);
        await gone.CancelAsync();
        await Assert.ThrowsAsync<RpcException>(() => waiting);

        Assert.Equal(1, (await owner.StepAsync(1, TestFrames.Tensor(1))).Step.Step);
    }

    [Fact]
    public void Takeovers_InARow_WaitTwiceAsLongEachUpToALimit()
    {
        var clock = new FakeTimeProvider();
        var pace = new TakeoverPace(clock);
        var waits = Enumerable.Range(0, 120).Select(_ => pace.Next().Wait).ToList();
        Assert.Equal([0, 0, 0, 100, 200, 400], waits.Take(6).Select(wait => wait.TotalMilliseconds));
        Assert.Equal(TakeoverPace.LongestWait, waits[^1]);
        clock.Advance(TimeSpan.FromMinutes(2));
        Assert.Equal((1, TimeSpan.Zero), pace.Next());
    }

    [Fact]
    public void DriftHistory_NamesThatComeAndGo_StayWithinTheirLimit()
    {
        var history = new DriftHistory(new FakeTimeProvider());
        for (var i = 0; i < DriftHistory.MaxStreams + 10; i++)
        {
            history.Add($"s{i}", 1, []);
            history.Add("stays", 1, [1]);
        }

        Assert.All(history.Scores("s0"), score => Assert.Equal(0, score));
        Assert.NotEqual(0, history.Scores($"s{DriftHistory.MaxStreams}")[^1]);
        Assert.NotEmpty(history.Sites("stays"));
    }

    [Fact]
    public async Task FailedReset_GivesItsBytesBack()
    {
        await using var host = await TestHost.StartAsync();
        host.ExpectsDefects = true;
        await host.StepAsync("camera", TestFrames.Tensor(1));
        var (directory, session) = (host.Part<StreamDirectory>(), host.Part<StreamDirectory>().Get("camera"));
        var before = host.Part<StreamRegister>().BytesOf(session);
        // Fails in a way that nobody expects: the state is gone from under the stream.
        await session.Model.Engine.InvokeAsync(_ =>
        {
            session.End();
            return true;
        });
        await Assert.ThrowsAnyAsync<RpcException>(
            () => DuplexClient.OpenAsync(host.Adaptation, new OpenStream { Stream = "camera", Method = new Method { Name = "unmix_tns" }, ResumePolicy = ResumePolicy.Reset }));
        Assert.Equal(before, host.Part<StreamRegister>().BytesOf(session));
        Assert.True(directory.Contains("camera"));
    }

    [Fact]
    public async Task DomainSwitch_NoticedBefore_IsKnownAfterARestart()
    {
        using var folder = new TestFolder();
        string[] settings = ["--Store:Kind=file", $"--Store:Path={folder.Path}"];
        string? before;
        await using (var host = await TestHost.StartAsync(settings))
        {
            for (var i = 0; i < 40; i++)
            {
                await host.StepAsync("camera", TestFrames.Tensor(i));
            }

            before = Safetensors.Read(await host.ExportAsync("camera")).Metadata["change_detector"];
        }

        await using var again = await TestHost.StartAsync(settings);
        Assert.StartsWith("40 ", before, StringComparison.Ordinal);
        Assert.Equal(before, Safetensors.Read(await again.ExportAsync("camera")).Metadata["change_detector"]);
    }

    private static string TwoFolders(TestFolder folder)
    {
        foreach (var name in new[] { "a", "b" })
        {
            Directory.CreateDirectory(folder.In($"models/{name}"));
            foreach (var file in Directory.GetFiles(Path.Combine(TestHost.ModelsPath, TestHost.Model)))
            {
                File.Copy(file, folder.In($"models/{name}/{Path.GetFileName(file)}"));
            }
        }

        return folder.In("models");
    }
}

using Grpc.Core;
using Grpc.Net.Client;
using Microsoft.Extensions.Time.Testing;
using TtaService.Client;
using TtaService.Host.Tests.Infrastructure;
using TtaService.V1;

namespace TtaService.Host.Tests.Functional;

public sealed class ClientTests
{
    private static readonly AdaptationStreamOptions Impatient = new() { FirstDelay = TimeSpan.FromMilliseconds(1), MaxDelay = TimeSpan.FromMilliseconds(20), MaxAttempts = 4 };

    [Fact]
    public async Task Steps_SentAtOnceFromManyThreads_AreAnsweredInTheOrderOfTheirNumbers()
    {
        await using var host = await TestHost.StartAsync();
        using var channel = host.Connect();
        await using var camera = await OpenAsync(channel);

        var replies = await Task.WhenAll(Enumerable.Range(0, 100).AsParallel().Select(i => camera.StepAsync([TestFrames.Tensor(i)])));

        Assert.Equal(Enumerable.Range(1, 100), replies.Select(reply => (int)reply.Sequence).Order());
        Assert.All(replies, reply => Assert.Equal((long)reply.Sequence, reply.Step));
    }

    [Fact]
    public async Task ServerStops_AnotherTakesItsPlace_ClientGoesOnThere()
    {
        var first = await TestHost.StartAsync();
        await using var second = await TestHost.StartAsync();
        await using var road = new BreakingRoad(first.Grpc);
        using var channel = road.Connect();
        await using var camera = await OpenAsync(channel, Impatient with { MaxAttempts = 200 });
        await camera.StepAsync([TestFrames.Tensor(1)]);
        await camera.StepAsync([TestFrames.Tensor(2)]);

        road.Server = second.Grpc;
        await first.DisposeAsync();
        var reply = await camera.StepAsync([TestFrames.Tensor(3)]);

        Assert.Equal((3ul, 1), (reply.Sequence, reply.Step));
        Assert.Equal((StateOrigin.Fresh, 1), (camera.Opened.Origin, camera.Reconnections));
    }

    [Fact]
    public async Task OpenedWithReset_ConnectionBreaks_DoesNotResetAgain()
    {
        await using var host = await TestHost.StartAsync();
        await host.StepAsync("camera", TestFrames.Tensor(0));
        await using var road = new BreakingRoad(host.Grpc);
        using var channel = road.Connect();
        await using var camera = await AdaptationStream.OpenAsync(
            channel.CreateCallInvoker(), new OpenStream { Stream = "camera", ResumePolicy = ResumePolicy.Reset }, Impatient with { MaxAttempts = 100 });
        Assert.Equal(StateOrigin.Reset, camera.Opened.Origin);
        Assert.Equal(1, (await camera.StepAsync([TestFrames.Tensor(1)])).Step);

        road.Break();
        var reply = await camera.StepAsync([TestFrames.Tensor(2)]);

        Assert.Equal((2ul, 2), (reply.Sequence, reply.Step));
        Assert.Equal(StateOrigin.Continued, camera.Opened.Origin);
    }

    [Fact]
    public async Task StepThatBreaksEveryConnection_EndsTheStreamAfterTheAttempts()
    {
        await using var host = await TestHost.StartAsync();
        await using var road = new BreakingRoad(host.Grpc) { CutAfter = 2000 };
        using var channel = road.Connect();
        // A call that stays open for longer than MaxDelay counts as a success: a slow machine's must not.
        await using var camera = await OpenAsync(channel, Impatient with { MaxDelay = TimeSpan.FromSeconds(20) });

        var ended = await Assert.ThrowsAsync<RpcException>(() => camera.StepAsync([TestFrames.Tensor(1)]).WaitAsync(TimeSpan.FromSeconds(60)));

        Assert.NotEqual(StatusCode.OK, ended.StatusCode);
        Assert.Equal(Impatient.MaxAttempts - 1, camera.Reconnections);
        Assert.Equal(0, (await host.GetAsync("camera")).Age.Steps);
    }

    [Fact]
    public async Task StepTooLargeForTheServer_EndsTheStreamWithItsStatus()
    {
        await using var host = await TestHost.StartAsync("--Server:MaxMessageBytes=10000");
        using var channel = host.Connect();
        await using var camera = await OpenAsync(channel, Impatient);

        var refused = await Assert.ThrowsAsync<RpcException>(() => camera.StepAsync(Enumerable.Repeat(TestFrames.Tensor(1), 10)));

        Assert.Contains("10000 bytes (Server:MaxMessageBytes)", RpcAssert.Refused(StatusCode.ResourceExhausted, "MESSAGE_TOO_LARGE", refused).Message, StringComparison.Ordinal);
        Assert.Equal(0, camera.Reconnections);
    }

    [Fact]
    public async Task BadStep_FailsAloneAndTheNextOneRuns()
    {
        await using var host = await TestHost.StartAsync();
        using var channel = host.Connect();
        await using var camera = await OpenAsync(channel);

        var bad = camera.StepAsync([new Frame()]);
        var good = camera.StepAsync([TestFrames.Tensor(1)]);

        var failed = await Assert.ThrowsAsync<StepFailedException>(() => bad);
        Assert.Equal(("FRAME_EMPTY", 1ul), (failed.Error.Reason, failed.Error.Sequence));
        Assert.Equal((2ul, 1), ((await good).Sequence, (await good).Step));
    }

    [Fact]
    public async Task StreamTakenOver_EndsWithoutTakingItBack()
    {
        await using var host = await TestHost.StartAsync();
        using var channel = host.Connect();
        await using var camera = await OpenAsync(channel, Impatient);
        await camera.StepAsync([TestFrames.Tensor(1)]);

        using var other = await DuplexClient.OpenAsync(host, "camera");

        await Assert.ThrowsAnyAsync<Exception>(async () =>
        {
            while (true)
            {
                await camera.StepAsync([TestFrames.Tensor(2)]);
            }
        });
        RpcAssert.Refused(StatusCode.Aborted, "STREAM_TAKEN_OVER", await Assert.ThrowsAsync<RpcException>(() => camera.StepAsync([TestFrames.Tensor(2)])));
        Assert.Equal(0, camera.Reconnections);
        Assert.NotNull((await other.StepAsync(10, TestFrames.Tensor(3))).Step);
    }

    [Fact]
    public async Task Open_RefusedByTheServer_FailsAtOnce()
    {
        await using var host = await TestHost.StartAsync();
        using var channel = host.Connect();

        await RpcAssert.RefusedAsync(
            StatusCode.NotFound, "MODEL_NOT_FOUND", () => AdaptationStream.OpenAsync(channel.CreateCallInvoker(), new OpenStream { Stream = "camera", Model = "nobody's" }));
    }

    [Fact]
    public async Task Open_NoServer_FailsAfterTheAttempts()
    {
        using var channel = GrpcChannel.ForAddress("http://127.0.0.1:1", new GrpcChannelOptions { InitialReconnectBackoff = TimeSpan.FromMilliseconds(1) });

        var failed = await Assert.ThrowsAsync<RpcException>(() => OpenAsync(channel, Impatient));

        Assert.Equal(StatusCode.Unavailable, failed.StatusCode);
    }

    [Fact]
    public async Task Dispose_StepsUnanswered_FailsThemAndLeavesTheStream()
    {
        await using var host = await TestHost.StartAsync(new FakeTimeProvider());
        using var channel = host.Connect();
        var camera = await OpenAsync(channel);
        await camera.StepAsync([TestFrames.Tensor(1)]);
        Task<StepReply> unanswered;
        using (await host.OccupyBatcherAsync())
        {
            unanswered = camera.StepAsync([TestFrames.Tensor(2)]);
            await host.UntilAsync("camera", session => session.Waiting.PendingSteps == 1);
            await camera.DisposeAsync();
            await host.UntilAsync("camera", session => session.Waiting.PendingSteps == 0);
        }

        await Assert.ThrowsAnyAsync<Exception>(() => unanswered);
        Assert.Throws<ObjectDisposedException>(() => { _ = camera.StepAsync([TestFrames.Tensor(3)]); });
        await camera.DisposeAsync();
        Assert.Equal(1, (await host.GetAsync("camera")).Age.Steps);
    }

    [Fact]
    public async Task Step_TooManyUnanswered_IsRefusedUntilAnswersCome()
    {
        await using var host = await TestHost.StartAsync();
        using var channel = host.Connect();
        await using var camera = await OpenAsync(channel, new AdaptationStreamOptions { MaxUnanswered = 2 });
        Task<StepReply>[] steps;
        using (await host.OccupyBatcherAsync())
        {
            steps = [camera.StepAsync([TestFrames.Tensor(1)]), camera.StepAsync([TestFrames.Tensor(2)])];
            Assert.Contains("MaxUnanswered", Assert.Throws<InvalidOperationException>(() => { _ = camera.StepAsync([TestFrames.Tensor(3)]); }).Message, StringComparison.Ordinal);
        }

        await Task.WhenAll(steps);
        Assert.Equal(3, (await camera.StepAsync([TestFrames.Tensor(3)])).Step);
    }

    [Fact]
    public async Task Step_WaitCancelled_StillRuns()
    {
        await using var host = await TestHost.StartAsync();
        using var channel = host.Connect();
        await using var camera = await OpenAsync(channel);
        using var cancel = new CancellationTokenSource();
        using (await host.OccupyBatcherAsync())
        {
            var waiting = camera.StepAsync([TestFrames.Tensor(1)], cancel: cancel.Token);
            await host.UntilAsync("camera", session => session.Waiting.PendingSteps == 1);
            await cancel.CancelAsync();
            await Assert.ThrowsAnyAsync<OperationCanceledException>(() => waiting);
        }

        Assert.Equal(2, (await camera.StepAsync([TestFrames.Tensor(2)])).Step);
    }

    [Fact]
    public async Task Step_FreezeAndTimeout_ReachTheServer()
    {
        var clock = new FakeTimeProvider();
        await using var host = await TestHost.StartAsync(clock);
        using var channel = host.Connect();
        await using var camera = await OpenAsync(channel);
        Assert.Equal(0, (await camera.StepAsync([TestFrames.Tensor(1)], freeze: true)).Step);
        Task<StepReply> late;
        using (await host.OccupyBatcherAsync())
        {
            late = camera.StepAsync([TestFrames.Tensor(2)], timeout: TimeSpan.FromSeconds(1));
            await host.UntilAsync("camera", session => session.Waiting.PendingSteps == 1 && session.Waiting.Work.All(work => work.Ready));
            clock.Advance(TimeSpan.FromSeconds(2));
        }

        Assert.Equal("STEP_EXPIRED", (await Assert.ThrowsAsync<StepFailedException>(() => late)).Error.Reason);
    }

    private static Task<AdaptationStream> OpenAsync(GrpcChannel channel, AdaptationStreamOptions? options = null) =>
        AdaptationStream.OpenAsync(channel.CreateCallInvoker(), new OpenStream { Stream = "camera", Model = TestHost.Model }, options);
}

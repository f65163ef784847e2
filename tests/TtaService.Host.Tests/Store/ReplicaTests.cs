using Grpc.Core;
using Microsoft.Extensions.DependencyInjection;
using TtaService.Host.Tests.Infrastructure;
using TtaService.Serving.Store;
using TtaService.Serving.Streams;
using TtaService.V1;

namespace TtaService.Host.Tests.Store;

/// <summary>Replicas that share one Redis: a stream has one owner, the last opener, wherever its client lands.</summary>
public sealed class ReplicaTests
{
    [Fact]
    public async Task Reopened_OnAnotherReplica_GoesOnThereAndTheFirstCallEnds()
    {
        await using var redis = await RedisServer.StartAsync();
        await using var a = await StartAsync(redis, "a");
        await using var b = await StartAsync(redis, "b");
        using var first = await DuplexClient.OpenAsync(a, "camera");
        for (var i = 1; i <= 3; i++)
        {
            await first.StepAsync((ulong)i, TestFrames.Tensor(i));
        }

        await SavedAsync(a, "camera");
        using var second = await DuplexClient.OpenAsync(b, "camera");
        var ended = await first.EndAsync();

        Assert.Equal((V1.StateOrigin.Restored, 3, 3ul), (second.Opened.Origin, second.Opened.Age.Steps, second.Opened.LastSequence));
        Assert.Equal(4, (await second.StepAsync(4, TestFrames.Tensor(4))).Step.Step);
        RpcAssert.Refused(StatusCode.Aborted, "STREAM_TAKEN_OVER", ended);
        Assert.Equal("b", ended.Trailers.GetValue("tta-owner"));
        Assert.Equal(0, a.Host.Services.GetRequiredService<StreamDirectory>().Count);
    }

    [Fact]
    public async Task StaleOwner_LateSave_ChangesNothing()
    {
        await using var redis = await RedisServer.StartAsync();
        // Slow to learn that it lost the stream, so that the late write itself is what meets the fence.
        await using var a = await StartAsync(redis, "a", "--Store:RenewInterval=00:00:20", "--Store:CheckpointInterval=01:00:00");
        await using var b = await StartAsync(redis, "b");
        using var first = await DuplexClient.OpenAsync(a, "camera");
        await first.StepAsync(1, TestFrames.Tensor(1));
        // A new stream is stored at once; that write is not the late one.
        await SavedAsync(a, "camera");
        using var second = await DuplexClient.OpenAsync(b, "camera");
        await second.StepAsync(2, TestFrames.Tensor(2));
        await SavedAsync(b, "camera");
        await first.StepAsync(3, TestFrames.Tensor(3));

        var stale = a.Host.Services.GetRequiredService<StreamDirectory>().Get("camera");
        var (status, _) = await a.Host.Services.GetRequiredService<StreamSaving>().SaveAsync(stale);

        Assert.Equal(SaveStatus.Ended, status);
        RpcAssert.Refused(StatusCode.Aborted, "STREAM_TAKEN_OVER", await first.EndAsync());
        using var third = await DuplexClient.OpenAsync(b, "camera");
        Assert.Equal((V1.StateOrigin.Continued, 2ul), (third.Opened.Origin, third.Opened.LastSequence));
    }

    [Fact]
    public async Task UnaryRequest_ToAnotherReplica_IsToldTheOwner()
    {
        await using var redis = await RedisServer.StartAsync();
        await using var a = await StartAsync(redis, "a:8001");
        await using var b = await StartAsync(redis, "b:8001");
        await a.StepAsync("camera", TestFrames.Tensor(1));

        var refused = await Assert.ThrowsAsync<RpcException>(() => b.StepAsync("camera", TestFrames.Tensor(2)));

        RpcAssert.Refused(StatusCode.Unavailable, "STREAM_OWNED_ELSEWHERE", refused);
        Assert.Equal("a:8001", refused.Trailers.GetValue("tta-owner"));
        Assert.Equal(2, (await a.StepAsync("camera", TestFrames.Tensor(2))).Step);
    }

    [Fact]
    public async Task UnaryRequests_TakeOverAllowed_MoveTheStreamWithoutLosingSavedSteps()
    {
        await using var redis = await RedisServer.StartAsync();
        await using var a = await StartAsync(redis, "a", "--Store:UnaryTakesOver=true");
        await using var b = await StartAsync(redis, "b", "--Store:UnaryTakesOver=true");
        await a.StepAsync("camera", TestFrames.Tensor(1));
        await SavedAsync(a, "camera");

        Assert.Equal(2, (await b.StepAsync("camera", TestFrames.Tensor(2))).Step);
    }

    [Fact]
    public async Task DuplicateOpener_PolicyReject_IsRefusedWhileTheOwnerLives()
    {
        await using var redis = await RedisServer.StartAsync();
        await using var a = await StartAsync(redis, "a");
        await using var b = await StartAsync(redis, "b", "--Store:DuplicateStream=reject");
        using var first = await DuplexClient.OpenAsync(a, "camera");

        await RpcAssert.RefusedAsync(StatusCode.Unavailable, "STREAM_OWNED_ELSEWHERE", () => DuplexClient.OpenAsync(b, "camera"));

        Assert.Equal(1, (await first.StepAsync(1, TestFrames.Tensor(1))).Step.Step);
    }

    [Fact]
    public async Task TwoClients_OneName_AreLimited()
    {
        await using var redis = await RedisServer.StartAsync();
        await using var a = await StartAsync(redis, "a", "--Store:MaxTakeoversPerMinute=4");
        await using var b = await StartAsync(redis, "b", "--Store:MaxTakeoversPerMinute=4");
        for (var i = 0; i < 5; i++)
        {
            using var call = await DuplexClient.OpenAsync(i % 2 == 0 ? a : b, "camera");
        }

        await RpcAssert.RefusedAsync(StatusCode.ResourceExhausted, "STREAM_TAKEN_OVER_TOO_OFTEN", () => DuplexClient.OpenAsync(b, "camera"));
    }

    [Fact]
    public async Task GracefulStop_TheOtherReplica_HasEveryStep()
    {
        await using var redis = await RedisServer.StartAsync();
        await using var b = await StartAsync(redis, "b");
        ulong answered = 0;
        await using (var a = await StartAsync(redis, "a", "--Store:CheckpointInterval=01:00:00"))
        {
            using var call = await DuplexClient.OpenAsync(a, "camera");
            while (answered < 5)
            {
                await call.StepAsync(++answered, TestFrames.Tensor((int)answered));
            }

            var ended = call.EndAsync();
            var stopping = a.Host.StopAsync(TestContext.Current.CancellationToken);
            RpcAssert.Refused(StatusCode.Unavailable, "SERVER_STOPPING", await ended);
            // The moment the client hears of it, all is saved.
            using var moved = await DuplexClient.OpenAsync(b, "camera");
            Assert.Equal((V1.StateOrigin.Restored, 5, 5ul), (moved.Opened.Origin, moved.Opened.Age.Steps, moved.Opened.LastSequence));
            Assert.True((await moved.StepAsync(5, TestFrames.Tensor(5))).Step.Replayed);
            await stopping;
        }
    }

    [Fact]
    public async Task OldCall_EndsPolitelyAndMoves()
    {
        await using var redis = await RedisServer.StartAsync();
        await using var a = await StartAsync(redis, "a", "--Streams:MaxCallAge=00:00:00.5", "--Store:CheckpointInterval=01:00:00");
        await using var b = await StartAsync(redis, "b");
        using var call = await DuplexClient.OpenAsync(a, "camera");
        await call.StepAsync(1, TestFrames.Tensor(1));

        RpcAssert.Refused(StatusCode.Unavailable, "CALL_TOO_OLD", await call.EndAsync());
        using var moved = await DuplexClient.OpenAsync(b, "camera");

        Assert.Equal(1, moved.Opened.Age.Steps);
    }

    [Fact]
    public async Task Delete_OnAnotherReplica_EndsTheStreamEverywhere()
    {
        await using var redis = await RedisServer.StartAsync();
        await using var a = await StartAsync(redis, "a");
        await using var b = await StartAsync(redis, "b");
        using var call = await DuplexClient.OpenAsync(a, "camera");
        await call.StepAsync(1, TestFrames.Tensor(1));
        await SavedAsync(a, "camera");

        await b.Streams.DeleteStreamAsync(new DeleteStreamRequest { Name = "camera" });

        RpcAssert.Refused(StatusCode.Aborted, "STREAM_DELETED", await call.EndAsync());
        Assert.Equal(1, (await b.StepAsync("camera", TestFrames.Tensor(1))).Step);
    }

    internal static Task<TestHost> StartAsync(RedisServer redis, string replica, params string[] settings) => TestHost.StartAsync(
        ["--Store:Kind=redis", $"--Store:RedisConfiguration={redis.Configuration}", $"--Store:Replica={replica}", "--Store:CheckpointInterval=00:00:00.3",
            "--Store:RenewInterval=00:00:00.1", "--Store:RetryDelay=00:00:00.1", "--Store:RedisTimeout=00:00:00.5", .. settings]);

    internal static async Task SavedAsync(TestHost host, string stream) => await host.UntilAsync(stream, session => !session.Keeping.Dirty);
}

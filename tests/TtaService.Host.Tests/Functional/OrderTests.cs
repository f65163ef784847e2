using Grpc.Core;
using TtaService.Host.Tests.Infrastructure;
using TtaService.Serving.Streams;
using TtaService.V1;

namespace TtaService.Host.Tests.Functional;

public sealed class OrderTests
{
    private const int Steps = 60;

    [Fact]
    public async Task PipelinedSteps_OneCall_AreAnsweredInOrderAndLikeOneByOne()
    {
        await using var host = await TestHost.StartAsync();
        var alone = await OneByOneAsync(host, "alone", first: 0);
        using var call = await DuplexClient.OpenAsync(host, "pipelined");

        var sending = Task.Run(async () =>
        {
            for (var i = 0; i < Steps; i++)
            {
                await call.SendAsync((ulong)i + 1, TestFrames.Tensor(i));
            }
        });
        for (var i = 0; i < Steps; i++)
        {
            var reply = (await call.ReadAsync()).Step;
            Assert.Equal(((ulong)i + 1, i + 1L), (reply.Sequence, reply.Step));
            Assert.Equal(alone[i], TestFrames.Scores(reply), Close);
        }

        await sending;
    }

    [Fact]
    public async Task ManyStreams_SharingBatches_AnswerLikeAlone()
    {
        await using var host = await TestHost.StartAsync("--Batching:MaxFrames=6");
        string[] methods = ["unmix_tns", "ema", "source", "adaptive", "unmix_tns", "ema", "unmix_tns", "alpha_bn"];
        var alone = new List<float[][]>();
        for (var stream = 0; stream < methods.Length; stream++)
        {
            alone.Add(await OneByOneAsync(host, $"alone-{stream}", first: 1000 * stream, methods[stream]));
        }

        var shared = 0;
        await Task.WhenAll(Enumerable.Range(0, methods.Length).Select(async stream =>
        {
            using var call = await DuplexClient.OpenAsync(host, $"together-{stream}", methods[stream]);
            for (var i = 0; i < Steps; i++)
            {
                var reply = (await call.StepAsync((ulong)i + 1, TestFrames.Tensor((1000 * stream) + i))).Step;
                Assert.Equal(alone[stream][i], TestFrames.Scores(reply), Close);
                if (reply.Timing.BatchFrames > 1)
                {
                    Interlocked.Increment(ref shared);
                }
            }
        }));

        Assert.True(shared > 0, "no step shared its batch");
    }

    [Fact]
    public async Task WaitingStreams_FreeEngine_RunInOneBatchWithOneStepEach()
    {
        await using var host = await TestHost.StartAsync();
        var calls = new List<DuplexClient>();
        for (var stream = 0; stream < 4; stream++)
        {
            calls.Add(await DuplexClient.OpenAsync(host, $"s{stream}"));
        }

        using (await host.OccupyEngineAsync())
        {
            // The first takes the engine; behind it every stream has two steps waiting.
            await calls[0].SendAsync(1, TestFrames.Tensor(0));
            await RunningAsync(host, "s0");
            foreach (var call in calls.Skip(1))
            {
                await call.SendAsync(1, TestFrames.Tensor(1));
                await call.SendAsync(2, TestFrames.Tensor(2));
            }

            for (var stream = 1; stream < 4; stream++)
            {
                await PendingAsync(host, $"s{stream}", 2);
            }
        }

        foreach (var call in calls.Skip(1))
        {
            var first = (await call.ReadAsync()).Step;
            var second = (await call.ReadAsync()).Step;
            Assert.Equal((1, 2), (first.Step, second.Step));
            Assert.Equal((3, 3), (first.Timing.BatchFrames, second.Timing.BatchFrames));
            call.Dispose();
        }
    }

    [Fact]
    public async Task WaitingSteps_StreamAllowsJoining_BecomeOneStepWithAReplyEach()
    {
        await using var host = await TestHost.StartAsync();
        using var other = await DuplexClient.OpenAsync(host, "other");
        using var call = await DuplexClient.OpenAsync(
            host.Adaptation, new OpenStream { Stream = "joins", Model = TestHost.Model, MaxCoalesce = 3, Reply = new ReplyOptions { RawOutputs = true } });
        using (await host.OccupyEngineAsync())
        {
            await other.SendAsync(1, TestFrames.Tensor(0));
            await RunningAsync(host, "other");
            for (var i = 1; i <= 5; i++)
            {
                await call.SendAsync((ulong)i, TestFrames.Tensor(i));
            }

            await PendingAsync(host, "joins", 5);
        }

        var replies = new List<StepReply>();
        for (var i = 0; i < 5; i++)
        {
            replies.Add((await call.ReadAsync()).Step);
        }

        Assert.Equal([1, 2, 3, 4, 5], replies.Select(reply => (int)reply.Sequence));
        Assert.Equal([1, 1, 1, 2, 2], replies.Select(reply => (int)reply.Step));
        Assert.Equal([3, 3, 3, 2, 2], replies.Select(reply => reply.Joined));
        Assert.Equal(5, (await host.GetAsync("joins")).Age.Frames);

        var together = await host.Adaptation.InferAsync(new InferRequest
        {
            Open = new OpenStream { Stream = "one-step", Model = TestHost.Model, Reply = new ReplyOptions { RawOutputs = true } },
            Step = new StepRequest { Frames = { TestFrames.Tensor(1), TestFrames.Tensor(2), TestFrames.Tensor(3) } },
        });
        Assert.Equal(TestFrames.Scores(together.Step), replies.Take(3).SelectMany(TestFrames.Scores), Close);
    }

    [Fact]
    public async Task SecondOpen_SameStream_TakesOverAndContinues()
    {
        await using var host = await TestHost.StartAsync();
        using var first = await DuplexClient.OpenAsync(host, "camera");
        Assert.Equal(V1.StateOrigin.Fresh, first.Opened.Origin);
        await first.StepAsync(1, TestFrames.Tensor(1));

        using var second = await DuplexClient.OpenAsync(host, "camera");

        RpcAssert.Refused(StatusCode.Aborted, "STREAM_TAKEN_OVER", await first.EndAsync());
        Assert.Equal((V1.StateOrigin.Continued, 1ul), (second.Opened.Origin, second.Opened.LastSequence));
        Assert.Equal(2, (await second.StepAsync(2, TestFrames.Tensor(2))).Step.Step);
    }

    private static async Task<float[][]> OneByOneAsync(TestHost host, string stream, int first, string? method = null)
    {
        var scores = new float[Steps][];
        for (var i = 0; i < Steps; i++)
        {
            scores[i] = TestFrames.Scores(await host.StepAsync(stream, TestFrames.Tensor(first + i), method: method));
        }

        return scores;
    }

    private static bool Close(float expected, float actual) => Math.Abs(expected - actual) <= 1e-4;

    // Its step has left the queue, so nobody can join its batch any more.
    private static Task RunningAsync(TestHost host, string stream) => host.UntilAsync(stream, session => session is { Waiting: { Phase: StreamPhase.Running, Work.Count: 0 } });

    private static Task PendingAsync(TestHost host, string stream, int steps) =>
        host.UntilAsync(stream, session => session.Waiting.PendingSteps == steps && session.Waiting.Work.All(work => work.Ready));
}

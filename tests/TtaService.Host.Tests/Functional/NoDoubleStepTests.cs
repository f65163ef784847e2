using Grpc.Core;
using Microsoft.Extensions.Time.Testing;
using TtaService.Client;
using TtaService.Host.Tests.Infrastructure;
using TtaService.V1;

namespace TtaService.Host.Tests.Functional;

public sealed class NoDoubleStepTests
{
    [Fact]
    public async Task ResentStep_AlreadyCommitted_IsAnsweredAgainWithoutAStep()
    {
        await using var host = await TestHost.StartAsync(new FakeTimeProvider());
        using var first = await DuplexClient.OpenAsync(host, "camera");
        await first.StepAsync(1, TestFrames.Tensor(1));
        var committed = (await first.StepAsync(2, TestFrames.Tensor(2))).Step;
        var state = await host.ExportAsync("camera");
        first.Dispose();

        using var second = await DuplexClient.OpenAsync(host, "camera");
        Assert.Equal(2ul, second.Opened.LastSequence);
        var replayed = (await second.StepAsync(2, TestFrames.Tensor(2))).Step;

        Assert.True(replayed.Replayed);
        Assert.Equal(2, replayed.Step);
        Assert.Equal(TestFrames.Scores(committed), TestFrames.Scores(replayed));
        Assert.Equal(state, await host.ExportAsync("camera"));
        Assert.Equal(3, (await second.StepAsync(3, TestFrames.Tensor(3))).Step.Step);
    }

    [Theory]
    [InlineData("memory")]
    [InlineData("file")]
    public async Task UsedSequence_OtherFrames_IsRefusedAlsoAfterARestart(string store)
    {
        using var folder = new TestFolder();
        string[] settings = [$"--Store:Kind={store}", $"--Store:Path={folder.Path}"];
        var host = await TestHost.StartAsync(settings);
        try
        {
            for (var i = 1; i <= 10; i++)
            {
                await host.StepAsync("camera", TestFrames.Tensor(i), (ulong)i);
            }

            if (store == "file")
            {
                await host.DisposeAsync();
                host = await TestHost.StartAsync(settings);
            }

            using var call = await DuplexClient.OpenAsync(host, "camera");
            var reused = (await call.StepAsync(8, TestFrames.Tensor(28))).Error;
            var resent = (await call.StepAsync(8, TestFrames.Tensor(8))).Step;

            Assert.Equal(((int)StatusCode.AlreadyExists, "SEQUENCE_REUSED"), (reused.Code, reused.Reason));
            Assert.Contains("last_sequence + 1", reused.Message, StringComparison.Ordinal);
            Assert.Contains("11", reused.Message, StringComparison.Ordinal);
            Assert.True(resent.Replayed);
            Assert.Equal(10, (await host.GetAsync("camera")).Age.Steps);
        }
        finally
        {
            await host.DisposeAsync();
        }
    }

    [Fact]
    public async Task UsedSequence_OtherFramesInTheQueue_IsRefused()
    {
        await using var host = await TestHost.StartAsync();
        using var call = await DuplexClient.OpenAsync(host, "camera");
        using (await host.OccupyEngineAsync())
        {
            await call.SendAsync(1, TestFrames.Tensor(1));
            await call.SendAsync(1, TestFrames.Tensor(2));
            await host.UntilAsync("camera", session => session.Waiting.PendingSteps == 2);
        }

        Assert.Equal(1, (await call.ReadAsync()).Step.Step);
        Assert.Equal("SEQUENCE_REUSED", (await call.ReadAsync()).Error.Reason);
    }

    [Fact]
    public async Task LargestSequence_WhichHasNoSuccessor_IsRefused()
    {
        await using var host = await TestHost.StartAsync();
        using var call = await DuplexClient.OpenAsync(host, "camera");

        var refused = (await call.StepAsync(ulong.MaxValue, TestFrames.Tensor(1))).Error;

        Assert.Equal(((int)StatusCode.InvalidArgument, "SEQUENCE_OUT_OF_RANGE"), (refused.Code, refused.Reason));
        Assert.Equal(1, (await call.StepAsync(1, TestFrames.Tensor(1))).Step.Step);
    }

    [Fact]
    public async Task Client_Restarted_GoesOnFromWhereTheStreamIs()
    {
        await using var host = await TestHost.StartAsync();
        using var channel = host.Connect();
        for (var run = 0; run < 2; run++)
        {
            await using var camera = await AdaptationStream.OpenAsync(channel.CreateCallInvoker(), new OpenStream { Stream = "camera", Model = TestHost.Model });
            for (var i = 1; i <= 3; i++)
            {
                var reply = await camera.StepAsync([TestFrames.Tensor((10 * run) + i)]);
                Assert.Equal((false, (3 * run) + i), (reply.Replayed, (int)reply.Step));
            }
        }
    }

    [Fact]
    public async Task SameSequence_TwiceInTheQueue_RunsOnce()
    {
        await using var host = await TestHost.StartAsync();
        using var call = await DuplexClient.OpenAsync(host, "camera");
        using (await host.OccupyEngineAsync())
        {
            await call.SendAsync(1, TestFrames.Tensor(1));
            await call.SendAsync(1, TestFrames.Tensor(1));
            await host.UntilAsync("camera", session => session.Waiting.PendingSteps == 2);
        }

        var first = (await call.ReadAsync()).Step;
        var second = (await call.ReadAsync()).Step;

        Assert.Equal((false, true), (first.Replayed, second.Replayed));
        Assert.Equal(1, (await host.GetAsync("camera")).Age.Steps);
    }

    [Fact]
    public async Task ResentStep_AnswerNoLongerKept_IsAlreadyExists()
    {
        await using var host = await TestHost.StartAsync("--Streams:KeptReplies=2");
        using var call = await DuplexClient.OpenAsync(host, "camera");
        for (var i = 1; i <= 4; i++)
        {
            await call.StepAsync((ulong)i, TestFrames.Tensor(i));
        }

        var kept = await call.StepAsync(3, TestFrames.Tensor(3));
        var forgotten = await call.StepAsync(2, TestFrames.Tensor(2));

        Assert.True(kept.Step.Replayed);
        Assert.Equal(((int)StatusCode.AlreadyExists, "STEP_ALREADY_PASSED", 2ul), (forgotten.Error.Code, forgotten.Error.Reason, forgotten.Error.Sequence));
        Assert.Equal(4, (await host.GetAsync("camera")).Age.Steps);
    }

    [Fact]
    public async Task SkippedSequence_SentLate_IsRefused()
    {
        await using var host = await TestHost.StartAsync();
        using var call = await DuplexClient.OpenAsync(host, "camera");
        await call.StepAsync(1, TestFrames.Tensor(1));
        await call.StepAsync(5, TestFrames.Tensor(5));

        var late = await call.StepAsync(3, TestFrames.Tensor(3));

        Assert.Equal(((int)StatusCode.FailedPrecondition, "SEQUENCE_OUT_OF_ORDER"), (late.Error.Code, late.Error.Reason));
        Assert.Equal(2, (await host.GetAsync("camera")).Age.Steps);
    }

    [Fact]
    public async Task Client_ConnectionBreaksAgainAndAgain_EveryStepRunsOnceInOrder()
    {
        const int Steps = 200;
        await using var host = await TestHost.StartAsync(new FakeTimeProvider());
        await using var road = new BreakingRoad(host.Grpc);
        using var channel = road.Connect();
        var options = new AdaptationStreamOptions { FirstDelay = TimeSpan.FromMilliseconds(1), MaxAttempts = 100 };
        var replies = new List<Task<StepReply>>();
        await using (var camera = await AdaptationStream.OpenAsync(channel.CreateCallInvoker(), new OpenStream { Stream = "broken", Model = TestHost.Model }, options))
        {
            for (var i = 0; i < Steps; i++)
            {
                replies.Add(camera.StepAsync([TestFrames.Tensor(i)]));
                if (i % 20 == 10)
                {
                    await replies[i - 5];
                    road.Break();
                }
            }

            var answered = await Task.WhenAll(replies);
            Assert.Equal(Enumerable.Range(1, Steps), answered.Select(reply => (int)reply.Step));
            Assert.True(camera.Reconnections > 0, "the connection never broke");
        }

        for (var i = 0; i < Steps; i++)
        {
            await host.StepAsync("whole", TestFrames.Tensor(i));
        }

        Assert.Equal(await host.ExportAsync("whole"), await host.ExportAsync("broken"));
    }
}

using Google.Protobuf.WellKnownTypes;
using Grpc.Core;
using Microsoft.Extensions.Time.Testing;
using SkiaSharp;
using TtaService.Host.Tests.Infrastructure;
using TtaService.V1;

namespace TtaService.Host.Tests.Functional;

public sealed class AtomicStepTests
{
    [Theory]
    [InlineData("truncated image", "FRAME_UNREADABLE")]
    [InlineData("not a number", "TENSOR_NOT_FINITE")]
    [InlineData("infinity", "TENSOR_NOT_FINITE")]
    [InlineData("overflows in the model", "NOT_FINITE")]
    [InlineData("another size", "FRAME_SHAPE_WRONG")]
    public async Task Step_LastFrameBad_ChangesNothing(string bad, string reason)
    {
        await using var host = await TestHost.StartAsync(new FakeTimeProvider());
        using var camera = await DuplexClient.OpenAsync(host, "camera");
        using var control = await DuplexClient.OpenAsync(host, "control");
        for (var i = 1; i <= 3; i++)
        {
            await camera.StepAsync((ulong)i, TestFrames.Tensor(i));
            await control.StepAsync((ulong)i, TestFrames.Tensor(i));
        }

        var before = await host.ExportAsync("camera");
        var refused = (await camera.StepAsync(4, BadFrames(bad))).Error;

        Assert.Equal(((int)StatusCode.InvalidArgument, reason, 4ul), (refused.Code, refused.Reason, refused.Sequence));
        Assert.NotEmpty(refused.Message);
        Assert.Equal(before, await host.ExportAsync("camera"));
        // The number was not used up, and the call goes on as if nothing had been.
        var next = (await camera.StepAsync(4, TestFrames.Tensor(4))).Step;
        Assert.Equal((4, false), (next.Step, next.Replayed));
        TestFrames.AssertClose(TestFrames.Scores((await control.StepAsync(4, TestFrames.Tensor(4))).Step), TestFrames.Scores(next));
        Assert.Equal(await host.ExportAsync("control"), await host.ExportAsync("camera"));
    }

    [Fact]
    public async Task FailingStep_InABatchWithOthers_LeavesTheOthersAsAlone()
    {
        await using var host = await TestHost.StartAsync(new FakeTimeProvider());
        string[] streams = ["a", "bad", "b"];
        var calls = new List<DuplexClient>();
        foreach (var stream in streams)
        {
            await host.StepAsync($"{stream}-alone", TestFrames.Tensor(1));
            calls.Add(await DuplexClient.OpenAsync(host, stream));
            await calls[^1].StepAsync(1, TestFrames.Tensor(1));
        }

        var alone = await host.StepAsync("a-alone", TestFrames.Tensor(2));
        await host.StepAsync("b-alone", TestFrames.Tensor(2));
        using (await host.OccupyBatcherAsync())
        {
            for (var i = 0; i < streams.Length; i++)
            {
                await calls[i].SendAsync(2, streams[i] == "bad" ? BadFrames("overflows in the model")[^1] : TestFrames.Tensor(2));
                await host.UntilAsync(streams[i], session => session.Waiting.PendingSteps == 1 && session.Waiting.Work.All(work => work.Ready));
            }
        }

        var a = (await calls[0].ReadAsync()).Step;
        var bad = (await calls[1].ReadAsync()).Error;
        var b = (await calls[2].ReadAsync()).Step;

        Assert.Equal("NOT_FINITE", bad.Reason);
        Assert.Equal((3, 3), (a.Timing.BatchFrames, b.Timing.BatchFrames));
        TestFrames.AssertClose(TestFrames.Scores(alone), TestFrames.Scores(a));
        TestFrames.AssertClose(TestFrames.Scores(alone), TestFrames.Scores(b));
        Assert.Equal(await host.ExportAsync("bad-alone"), await host.ExportAsync("bad"));
        Assert.Equal(2, (await host.GetAsync("a")).Age.Steps);
        calls.ForEach(call => call.Dispose());
    }

    [Fact]
    public async Task StepTooSmallForItsMethod_IsRefusedAndChangesNothing()
    {
        await using var host = await TestHost.StartAsync(new FakeTimeProvider());
        using var call = await DuplexClient.OpenAsync(host, "camera", "tbn");
        await call.StepAsync(1, TestFrames.Tensor(1), TestFrames.Tensor(2), TestFrames.Tensor(3), TestFrames.Tensor(4));
        var before = await host.ExportAsync("camera");

        var refused = (await call.StepAsync(2, TestFrames.Tensor(5))).Error;

        Assert.Equal(((int)StatusCode.InvalidArgument, "STEP_REFUSED"), (refused.Code, refused.Reason));
        Assert.Equal(before, await host.ExportAsync("camera"));
    }

    [Fact]
    public async Task WaitingStep_CallerCancels_NeverRuns()
    {
        await using var host = await TestHost.StartAsync(new FakeTimeProvider());
        await host.StepAsync("camera", TestFrames.Tensor(1));
        var before = await host.ExportAsync("camera");
        using var cancel = new CancellationTokenSource();
        Task<InferReply> waiting;
        using (await host.OccupyBatcherAsync())
        {
            waiting = InferAsync(host, "camera", new CallOptions(cancellationToken: cancel.Token));
            await host.UntilAsync("camera", session => session.Waiting.PendingSteps == 1);
            await cancel.CancelAsync();
            await host.UntilAsync("camera", session => session.Waiting.PendingSteps == 0);
        }

        Assert.Equal(StatusCode.Cancelled, (await Assert.ThrowsAsync<RpcException>(() => waiting)).StatusCode);
        Assert.Equal(before, await host.ExportAsync("camera"));
    }

    [Fact]
    public async Task WaitingStep_DeadlinePasses_NeverRuns()
    {
        await using var host = await TestHost.StartAsync(new FakeTimeProvider());
        await host.StepAsync("camera", TestFrames.Tensor(1));
        var before = await host.ExportAsync("camera");
        using (await host.OccupyBatcherAsync())
        {
            var late = await Assert.ThrowsAsync<RpcException>(
                () => InferAsync(host, "camera", new CallOptions(deadline: TimeProvider.System.GetUtcNow().UtcDateTime.AddMilliseconds(300))));
            Assert.Equal(StatusCode.DeadlineExceeded, late.StatusCode);
            await host.UntilAsync("camera", session => session.Waiting.PendingSteps == 0);
        }

        Assert.Equal(before, await host.ExportAsync("camera"));
    }

    [Fact]
    public async Task WaitingStep_ItsTimeoutPasses_IsAnsweredAsExpiredAndNeverRuns()
    {
        var clock = new FakeTimeProvider();
        await using var host = await TestHost.StartAsync(clock);
        using var call = await DuplexClient.OpenAsync(host, "camera");
        await call.StepAsync(1, TestFrames.Tensor(1));
        using (await host.OccupyBatcherAsync())
        {
            await call.WriteAsync(new StreamInferRequest
            {
                Step = new StepRequest
                {
                    Sequence = 2,
                    Timeout = Duration.FromTimeSpan(TimeSpan.FromMilliseconds(40)),
                    Frames = { TestFrames.Tensor(2) }
                }
            });
            await call.WriteAsync(new StreamInferRequest
            {
                Step = new StepRequest
                {
                    Sequence = 3,
                    Timeout = Duration.FromTimeSpan(TimeSpan.FromMilliseconds(60)),
                    Frames = { TestFrames.Tensor(3) }
                }
            });
            await host.UntilAsync("camera", session => session.Waiting.PendingSteps == 2 && session.Waiting.Work.All(work => work.Ready));
            clock.Advance(TimeSpan.FromMilliseconds(50));
        }

        var expired = (await call.ReadAsync()).Error;
        var inTime = (await call.ReadAsync()).Step;

        Assert.Equal(((int)StatusCode.DeadlineExceeded, "STEP_EXPIRED", 2ul), (expired.Code, expired.Reason, expired.Sequence));
        Assert.Equal((3ul, 2), (inTime.Sequence, inTime.Step));
    }

    [Fact]
    public async Task FrozenStep_AnswersFromTheStateAndLeavesIt()
    {
        await using var host = await TestHost.StartAsync(new FakeTimeProvider());
        using var call = await DuplexClient.OpenAsync(host, "camera");
        await call.StepAsync(1, TestFrames.Tensor(1));
        var before = await host.ExportAsync("camera");

        await call.WriteAsync(new StreamInferRequest { Step = new StepRequest { Sequence = 2, Freeze = true, Frames = { TestFrames.Tensor(2) } } });
        var frozen = (await call.ReadAsync()).Step;

        Assert.Equal(1, frozen.Step);
        Assert.Equal(TestFrames.Adapted(before), TestFrames.Adapted(await host.ExportAsync("camera")));
        var adapting = (await call.StepAsync(3, TestFrames.Tensor(2))).Step;
        Assert.Equal(2, adapting.Step);
        // The state is updated after it was used.
        TestFrames.AssertClose(TestFrames.Scores(frozen), TestFrames.Scores(adapting));
    }

    private static Task<InferReply> InferAsync(TestHost host, string stream, CallOptions options) => host.Adaptation.InferAsync(
        new InferRequest { Open = new OpenStream { Stream = stream, Model = TestHost.Model }, Step = new StepRequest { Frames = { TestFrames.Tensor(2) } } }, options)
            .ResponseAsync;

    private static Frame[] BadFrames(string kind)
    {
        var values = TestFrames.Values(7);
        switch (kind)
        {
            case "truncated image":
                var file = TestFrames.File(1, SKEncodedImageFormat.Png);
                return [TestFrames.Encoded(file), TestFrames.Encoded(file[..(file.Length / 2)])];
            case "not a number":
                values[^1] = float.NaN;
                return [TestFrames.Tensor(1), TestFrames.Tensor([3, 16, 16], values)];
            case "infinity":
                values[0] = float.NegativeInfinity;
                return [TestFrames.Tensor(1), TestFrames.Tensor([3, 16, 16], values)];
            case "overflows in the model":
                return [TestFrames.Tensor([3, 16, 16], [.. values.Select(value => value < 0.5f ? -3e38f : 3e38f)])];
            default:
                return [TestFrames.Tensor([3, 8, 8], values[..192])];
        }
    }
}

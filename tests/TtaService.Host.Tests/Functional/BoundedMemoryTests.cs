using Google.Protobuf;
using Google.Rpc;
using Grpc.Core;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Time.Testing;
using TtaService.Host.Tests.Infrastructure;
using TtaService.Serving.Streams;
using TtaService.V1;

namespace TtaService.Host.Tests.Functional;

public sealed class BoundedMemoryTests
{
    [Theory]
    [InlineData("--Batching:MaxQueuedSteps=4", "Batching:MaxQueuedSteps")]
    // A step of one tensor counts 2 x 3,072 bytes; one is in front.
    [InlineData("--Batching:MaxQueuedBytes=25000", "Batching:MaxQueuedBytes")]
    public async Task Queue_Full_RefusesWithADelayUntilItDrains(string setting, string key)
    {
        await using var host = await TestHost.StartAsync(setting);
        var streams = new[] { "a", "b", "c", "late" };
        foreach (var stream in streams)
        {
            await host.StepAsync(stream, TestFrames.Tensor(0));
        }

        Task<StepReply>[] waiting;
        using (await host.OccupyBatcherAsync())
        {
            waiting = [.. streams[..3].Select(stream => host.StepAsync(stream, TestFrames.Tensor(1)))];
            foreach (var stream in streams[..3])
            {
                await host.UntilAsync(stream, session => session.Waiting.PendingSteps == 1);
            }

            var status = await RpcAssert.RefusedAsync(StatusCode.ResourceExhausted, "QUEUE_FULL", () => host.StepAsync("late", TestFrames.Tensor(1)));
            Assert.Contains(key, status.Message, StringComparison.Ordinal);
            Assert.InRange(status.GetDetail<RetryInfo>()!.RetryDelay.ToTimeSpan(), TimeSpan.FromMilliseconds(1), TimeSpan.FromSeconds(5));
        }

        await Task.WhenAll(waiting);
        Assert.Equal(2, (await host.StepAsync("late", TestFrames.Tensor(1))).Step);
    }

    [Fact]
    public async Task Step_LargerThanTheWholeQueue_IsRefusedWithoutADelay()
    {
        await using var host = await TestHost.StartAsync("--Batching:MaxQueuedBytes=6143");

        var status = await RpcAssert.RefusedAsync(StatusCode.ResourceExhausted, "STEP_TOO_LARGE", () => host.StepAsync("camera", TestFrames.Tensor(1)));

        Assert.Null(status.GetDetail<RetryInfo>());
    }

    [Fact]
    public async Task UnarySteps_MoreThanAStreamMayHaveWaiting_AreRefused()
    {
        await using var host = await TestHost.StartAsync("--Streams:MaxPendingSteps=2");
        await host.StepAsync("camera", TestFrames.Tensor(0));
        Task<StepReply>[] waiting;
        using (await host.OccupyBatcherAsync())
        {
            waiting = [host.StepAsync("camera", TestFrames.Tensor(1)), host.StepAsync("camera", TestFrames.Tensor(2))];
            await host.UntilAsync("camera", session => session.Waiting.PendingSteps == 2);
            await RpcAssert.RefusedAsync(StatusCode.ResourceExhausted, "STREAM_QUEUE_FULL", () => host.StepAsync("camera", TestFrames.Tensor(3)));
        }

        await Task.WhenAll(waiting);
        Assert.Equal(3, (await host.GetAsync("camera")).Age.Steps);
    }

    [Fact]
    public async Task PipelinedSteps_MoreThanMayWait_AreReadWhenEarlierOnesAreAnswered()
    {
        await using var host = await TestHost.StartAsync("--Streams:MaxPendingSteps=2");
        using var call = await DuplexClient.OpenAsync(host, "camera");
        Assert.Equal(2, call.Opened.MaxPendingSteps);
        var session = host.Host.Services.GetRequiredService<StreamDirectory>().Get("camera");
        using (await host.OccupyBatcherAsync())
        {
            for (var i = 1; i <= 10; i++)
            {
                await call.SendAsync((ulong)i, TestFrames.Tensor(i));
            }

            await host.UntilAsync("camera", stream => stream.Waiting.PendingSteps == 2);
        }

        for (var i = 1; i <= 10; i++)
        {
            Assert.Equal(i, (await call.ReadAsync()).Step.Step);
            Assert.InRange(session.Waiting.PendingSteps, 0, 2);
        }
    }

    [Fact]
    public async Task Client_DoesNotReadItsReplies_LosesTheCallNotTheStream()
    {
        var clock = new FakeTimeProvider();
        await using var host = await TestHost.StartAsync(clock);
        using var call = await DuplexClient.OpenAsync(
            host.Adaptation, new OpenStream { Stream = "camera", Model = TestHost.Model, Reply = new ReplyOptions { RawOutputs = true } });
        var sending = Task.Run(async () =>
        {
            for (var i = 1; i <= 1_000_000; i++)
            {
                await call.SendAsync((ulong)i, TestFrames.Tensor(i));
            }
        });

        while (!sending.IsCompleted)
        {
            clock.Advance(TimeSpan.FromSeconds(5));
            await Task.Delay(20);
        }

        await Assert.ThrowsAnyAsync<Exception>(() => sending);
        // What was queued when the call ended still runs.
        var (steps, before) = ((await host.GetAsync("camera")).Age.Steps, -1L);
        while (steps != before)
        {
            await Task.Delay(200);
            (steps, before) = ((await host.GetAsync("camera")).Age.Steps, steps);
        }

        Assert.InRange(steps, 1, 999_999);
        Assert.Equal(steps + 1, (await host.StepAsync("camera", TestFrames.Tensor(1))).Step);
    }

    [Fact]
    public async Task Streams_MoreThanTheLimit_AreRefusedUntilOneIsDeleted()
    {
        await using var host = await TestHost.StartAsync("--Streams:MaxStreams=2");
        await host.StepAsync("a", TestFrames.Tensor(1));
        await host.StepAsync("b", TestFrames.Tensor(1));

        var status = await RpcAssert.RefusedAsync(StatusCode.ResourceExhausted, "TOO_MANY_STREAMS", () => host.StepAsync("c", TestFrames.Tensor(1)));
        Assert.NotNull(status.GetDetail<RetryInfo>());
        Assert.Contains("Streams:MaxStreams", status.Message, StringComparison.Ordinal);
        var snapshot = ByteString.CopyFrom(await host.ExportAsync("a"));
        await RpcAssert.RefusedAsync(
            StatusCode.ResourceExhausted, "TOO_MANY_STREAMS", async () => await host.Streams.ImportStreamAsync(new ImportStreamRequest { Name = "c", Snapshot = snapshot }));
        await RpcAssert.RefusedAsync(StatusCode.ResourceExhausted, "TOO_MANY_STREAMS", async () => await UnlistedAsync(host));

        await host.Streams.DeleteStreamAsync(new DeleteStreamRequest { Name = "a" });
        await UnlistedAsync(host);
        Assert.Equal(1, (await host.StepAsync("c", TestFrames.Tensor(1))).Step);
    }

    [Fact]
    public async Task StreamsOfOneCall_CountWhileTheyRun()
    {
        await using var host = await TestHost.StartAsync("--Streams:MaxStreams=2");
        Task<InferReply>[] calls;
        Task<InferReply> refused;
        using (await host.OccupyBatcherAsync())
        {
            // There is room for one beside the stream in front.
            calls = [UnlistedAsync(host), UnlistedAsync(host)];
            refused = await Task.WhenAny(calls);
            await RpcAssert.RefusedAsync(StatusCode.ResourceExhausted, "TOO_MANY_STREAMS", () => refused);
        }

        await Assert.Single(calls, call => call != refused);
        await UnlistedAsync(host);
    }

    [Fact]
    public async Task StateBytes_MoreThanTheLimit_AreRefused()
    {
        await using var host = await TestHost.StartAsync("--Streams:MaxStateBytes=10000");
        var bytes = (await host.Streams.CreateStreamAsync(new CreateStreamRequest { Stream = new V1.Stream { Name = "first" } })).StateBytes;
        var fit = 10_000 / bytes;
        for (var i = 1; i < fit; i++)
        {
            await host.StepAsync($"next-{i}", TestFrames.Tensor(1));
        }

        await RpcAssert.RefusedAsync(StatusCode.ResourceExhausted, "STATE_MEMORY_FULL", () => host.StepAsync("last", TestFrames.Tensor(1)));

        // A stream without a state needs no room.
        Assert.Equal(1, (await host.StepAsync("source", TestFrames.Tensor(1), method: "source")).Step);
        await RpcAssert.RefusedAsync(StatusCode.ResourceExhausted, "STATE_MEMORY_FULL", async () => await host.Adaptation.InferAsync(new InferRequest
        {
            Open = new OpenStream { Stream = "source", Method = new Method { Name = "unmix_tns" }, ResumePolicy = ResumePolicy.Reset },
            Step = new StepRequest { Frames = { TestFrames.Tensor(1) } },
        }));
        Assert.Equal("source", (await host.GetAsync("source")).Method.Name);
        await host.Streams.DeleteStreamAsync(new DeleteStreamRequest { Name = "first" });
        Assert.Equal(1, (await host.StepAsync("last", TestFrames.Tensor(1))).Step);
    }

    [Fact]
    public async Task Arena_SmallerThanTheStreams_TheyLeaveAndComeBackAsTheyWere()
    {
        const int Streams = 8;
        var clock = new FakeTimeProvider();
        await using var wide = await TestHost.StartAsync(clock);
        var bytes = (await wide.Streams.CreateStreamAsync(new CreateStreamRequest { Stream = new V1.Stream { Name = "size" } })).StateBytes;
        await using var narrow = await TestHost.StartAsync(clock, $"--Models:ArenaBytes={3 * bytes}");
        for (var step = 0; step < 4; step++)
        {
            for (var stream = 0; stream < Streams; stream++)
            {
                var frame = TestFrames.Tensor((100 * stream) + step);
                TestFrames.AssertClose(TestFrames.Scores(await wide.StepAsync($"s{stream}", frame)), TestFrames.Scores(await narrow.StepAsync($"s{stream}", frame)));
            }
        }

        var listed = (await narrow.Streams.ListStreamsAsync(new ListStreamsRequest())).Streams;
        Assert.Equal(3, listed.Count(stream => stream.Resident));
        for (var stream = 0; stream < Streams; stream++)
        {
            TestFrames.AssertClose(TestFrames.State(await wide.ExportAsync($"s{stream}")), TestFrames.State(await narrow.ExportAsync($"s{stream}")));
        }
    }

    [Fact]
    public async Task Message_TooLarge_EndsItsCallAndLeavesTheStream()
    {
        await using var host = await TestHost.StartAsync("--Server:MaxMessageBytes=20000");
        using var call = await DuplexClient.OpenAsync(host, "camera");
        await call.StepAsync(1, TestFrames.Tensor(1));
        var frames = Enumerable.Range(0, 10).Select(TestFrames.Tensor).ToArray();

        var unary = await Assert.ThrowsAsync<RpcException>(
            async () => await host.Adaptation.InferAsync(new InferRequest { Open = new OpenStream { Stream = "camera" }, Step = new StepRequest { Frames = { frames } } }));
        await call.SendAsync(2, TestFrames.Tensor(2));
        // The call may be over before all of the message is written.
        _ = await Record.ExceptionAsync(() => call.SendAsync(3, frames));

        Assert.Equal(StatusCode.ResourceExhausted, unary.StatusCode);
        Assert.Equal(2, (await call.ReadAsync()).Step.Step);
        RpcAssert.Refused(StatusCode.ResourceExhausted, "MESSAGE_TOO_LARGE", await call.EndAsync());
        Assert.Equal(2, (await host.GetAsync("camera")).Age.Steps);
    }

    [Fact]
    public async Task Answer_LargerThanMayBeKept_IsNotKept()
    {
        await using var host = await TestHost.StartAsync("--Streams:KeptReplyBytes=100");
        await host.StepAsync("camera", TestFrames.Tensor(1), sequence: 1);

        await RpcAssert.RefusedAsync(StatusCode.AlreadyExists, "STEP_ALREADY_PASSED", () => host.StepAsync("camera", TestFrames.Tensor(1), sequence: 1));
    }

    [Fact]
    public async Task Call_SaysNothing_Ends()
    {
        var clock = new FakeTimeProvider();
        await using var host = await TestHost.StartAsync(clock);
        using var silent = new DuplexClient(host.Adaptation.StreamInfer());
        using var idle = await DuplexClient.OpenAsync(host, "camera");
        await idle.StepAsync(1, TestFrames.Tensor(1));

        var ends = Task.WhenAll(silent.EndAsync(), idle.EndAsync());
        while (!ends.IsCompleted)
        {
            clock.Advance(TimeSpan.FromMinutes(1));
            await Task.Delay(10);
        }

        var ended = await ends;
        RpcAssert.Refused(StatusCode.DeadlineExceeded, "OPEN_TIMEOUT", ended[0]);
        RpcAssert.Refused(StatusCode.DeadlineExceeded, "CALL_IDLE", ended[1]);
        Assert.Equal(1, (await host.GetAsync("camera")).Age.Steps);
    }

    [Fact]
    public async Task Stream_IdleForLong_IsForgottenUnlessACallHasItOpen()
    {
        var clock = new FakeTimeProvider();
        await using var host = await TestHost.StartAsync(clock, "--Streams:IdleTimeout=01:00:00", "--Streams:CallIdleTimeout=1.00:00:00");
        await host.StepAsync("left", TestFrames.Tensor(1));
        using var call = await DuplexClient.OpenAsync(host, "open");
        var directory = host.Host.Services.GetRequiredService<StreamDirectory>();

        for (var minutes = 0; directory.Count > 1; minutes += 5)
        {
            Assert.True(minutes < 60 * 20, "the idle stream stays");
            clock.Advance(TimeSpan.FromMinutes(5));
            await Task.Delay(5);
        }

        await RpcAssert.RefusedAsync(StatusCode.NotFound, "STREAM_NOT_FOUND", () => host.GetAsync("left"));
        Assert.Equal(1, (await call.StepAsync(1, TestFrames.Tensor(1))).Step.Step);
    }

    private static Task<InferReply> UnlistedAsync(TestHost host) =>
        host.Adaptation.InferAsync(new InferRequest { Step = new StepRequest { Frames = { TestFrames.Tensor(1) } } }).ResponseAsync;
}

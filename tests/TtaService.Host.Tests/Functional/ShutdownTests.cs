using Google.Protobuf;
using Google.Rpc;
using Grpc.Core;
using Microsoft.Extensions.Time.Testing;
using TtaService.Host.Tests.Infrastructure;
using TtaService.V1;

namespace TtaService.Host.Tests.Functional;

public sealed class ShutdownTests
{
    // Far longer than a test may take: who has to wait for it fails.
    private const string LongShutdown = "--Server:ShutdownTimeout=00:30:00";

    private static readonly TimeSpan Enough = TimeSpan.FromSeconds(60);

    [Fact]
    public async Task Stop_StepsWait_AnswersThemAndEndsTheCallWithUnavailable()
    {
        await using var host = await TestHost.StartAsync(LongShutdown);
        using var call = await DuplexClient.OpenAsync(host, "camera");
        Task stopping;
        Task<(IReadOnlyList<StreamInferReply> Replies, RpcException End)> reading;
        using (await host.OccupyBatcherAsync())
        {
            await call.SendAsync(1, TestFrames.Tensor(1));
            await call.SendAsync(2, TestFrames.Tensor(2));
            await host.UntilAsync("camera", session => session.Waiting.PendingSteps == 2);
            reading = call.ReadToEndAsync();
            stopping = host.Host.StopAsync();
            await Until(host.Host.Lifetime.ApplicationStopping);
        }

        var (replies, end) = await reading;
        Assert.Equal([1, 2], replies.Select(reply => reply.Step.Step));
        var status = RpcAssert.Refused(StatusCode.Unavailable, "SERVER_STOPPING", end);
        Assert.True(status.GetDetail<RetryInfo>()!.RetryDelay.ToTimeSpan() > TimeSpan.Zero);
        await stopping.WaitAsync(Enough);
    }

    [Fact]
    public async Task Stop_CallIdle_EndsItAtOnce()
    {
        await using var host = await TestHost.StartAsync(LongShutdown);
        using var idle = await DuplexClient.OpenAsync(host, "idle");
        // A client that does not read keeps its half of the call open, and Kestrel waits for it.
        var end = idle.EndAsync();

        await host.Host.StopAsync().WaitAsync(Enough);

        RpcAssert.Refused(StatusCode.Unavailable, "SERVER_STOPPING", await end);
    }

    [Fact]
    public async Task Stop_CallNotOpenedYet_EndsItAtOnce()
    {
        await using var host = await TestHost.StartAsync(LongShutdown);
        using var silent = new DuplexClient(host.Adaptation.StreamInfer());
        var end = silent.EndAsync();
        await host.StepAsync("behind-it", TestFrames.Tensor(1));

        await host.Host.StopAsync().WaitAsync(Enough);

        Assert.Equal(StatusCode.Unavailable, (await end).StatusCode);
    }

    [Fact]
    public async Task Stop_UnaryStepWaits_IsAnswered()
    {
        await using var host = await TestHost.StartAsync(LongShutdown);
        await host.StepAsync("camera", TestFrames.Tensor(1));
        Task stopping;
        Task<StepReply> step;
        using (await host.OccupyBatcherAsync())
        {
            step = host.StepAsync("camera", TestFrames.Tensor(2));
            await host.UntilAsync("camera", session => session.Waiting.PendingSteps == 1);
            stopping = host.Host.StopAsync();
            await Until(host.Host.Lifetime.ApplicationStopping);
        }

        Assert.Equal(2, (await step).Step);
        await stopping.WaitAsync(Enough);
    }

    [Fact]
    public async Task AfterStop_NewCall_IsUnavailable()
    {
        await using var host = await TestHost.StartAsync();
        await host.Host.StopAsync();

        Assert.Equal(StatusCode.Unavailable, (await Assert.ThrowsAsync<RpcException>(() => host.GetAsync("camera"))).StatusCode);
    }

    [Fact]
    public async Task Snapshot_ImportedIntoAnotherServer_ContinuesAsIfNothingHadBeen()
    {
        var clock = new FakeTimeProvider();
        await using var second = await TestHost.StartAsync(clock);
        byte[] snapshot;
        await using (var first = await TestHost.StartAsync(clock))
        {
            for (var i = 0; i < 5; i++)
            {
                await first.StepAsync("camera", TestFrames.Tensor(i));
                await second.StepAsync("whole", TestFrames.Tensor(i));
            }

            snapshot = await first.ExportAsync("camera");
        }

        var imported = await second.Streams.ImportStreamAsync(new ImportStreamRequest { Name = "camera", Snapshot = ByteString.CopyFrom(snapshot) });

        Assert.Equal((StateOrigin.Restored, 5, 5), (imported.Origin, imported.Age.Steps, imported.Age.Frames));
        for (var i = 5; i < 10; i++)
        {
            TestFrames.AssertClose(
                TestFrames.Scores(await second.StepAsync("whole", TestFrames.Tensor(i))), TestFrames.Scores(await second.StepAsync("camera", TestFrames.Tensor(i))));
        }

        TestFrames.AssertClose(TestFrames.State(await second.ExportAsync("whole")), TestFrames.State(await second.ExportAsync("camera")));
    }

    private static async Task Until(CancellationToken token)
    {
        var reached = new TaskCompletionSource();
        await using var registration = token.Register(reached.SetResult);
        await reached.Task.WaitAsync(Enough, CancellationToken.None);
    }
}

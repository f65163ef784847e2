using Google.Protobuf.WellKnownTypes;
using Google.Rpc;
using Grpc.Core;
using Microsoft.Extensions.DependencyInjection;
using TtaService.Host.Streams;
using TtaService.Host.Tests.Infrastructure;
using TtaService.V1;

namespace TtaService.Host.Tests.Functional;

public sealed class BoundedMemoryTests
{
    [Fact]
    public async Task QueueFull_IsRefusedWithADelayAndRunsLater()
    {
        await using var host = await TestHost.StartAsync("--Batching:MaxQueuedSteps=2");
        using var first = await DuplexClient.OpenAsync(host, "a");
        using var second = await DuplexClient.OpenAsync(host, "b");
        using var third = await DuplexClient.OpenAsync(host, "c");
        StreamInferReply refused;
        using (await host.OccupyEngineAsync())
        {
            await first.SendAsync(1, TestFrames.Tensor(1));
            await second.SendAsync(1, TestFrames.Tensor(1));
            await host.UntilAsync("a", session => session.PendingSteps == 1);
            await host.UntilAsync("b", session => session.PendingSteps == 1);
            refused = await third.StepAsync(1, TestFrames.Tensor(1));
        }

        Assert.Equal(((int)StatusCode.ResourceExhausted, "QUEUE_FULL"), (refused.Error.Code, refused.Error.Reason));
        Assert.True(refused.Error.RetryDelay.ToTimeSpan() > TimeSpan.Zero);
        Assert.Equal(1, (await first.ReadAsync()).Step.Step);
        Assert.Equal(1, (await second.ReadAsync()).Step.Step);
        Assert.Equal(1, (await third.StepAsync(1, TestFrames.Tensor(1))).Step.Step);
    }

    [Fact]
    public async Task TooManyStreams_TheNextIsRefused_AndTakenWhenOneGoes()
    {
        await using var host = await TestHost.StartAsync("--Streams:MaxStreams=2");
        await host.StepAsync("a", TestFrames.Tensor(1));
        await host.StepAsync("b", TestFrames.Tensor(1));

        var status = await RpcAssert.RefusedAsync(StatusCode.ResourceExhausted, "TOO_MANY_STREAMS", () => host.StepAsync("c", TestFrames.Tensor(1)));

        Assert.Contains("Streams:MaxStreams", status.Message, StringComparison.Ordinal);
        Assert.NotNull(status.GetDetail<RetryInfo>());
        await host.Streams.DeleteStreamAsync(new DeleteStreamRequest { Name = "a" });
        Assert.Equal(1, (await host.StepAsync("c", TestFrames.Tensor(1))).Step);
    }

    [Fact]
    public async Task MessageTooLarge_EndsTheCallAndKeepsTheStream()
    {
        await using var host = await TestHost.StartAsync("--Server:MaxMessageBytes=8192");
        using var call = await DuplexClient.OpenAsync(host, "camera");
        await call.StepAsync(1, TestFrames.Tensor(1));
        await call.SendAsync(2, TestFrames.Encoded(new byte[10_000]));

        Assert.Equal(StatusCode.ResourceExhausted, (await call.EndAsync()).StatusCode);
        Assert.Equal(1, (await host.GetAsync("camera")).Age.Steps);
    }

    [Fact]
    public async Task ExpiredStep_NeverRuns()
    {
        await using var host = await TestHost.StartAsync();
        using var call = await DuplexClient.OpenAsync(host, "camera");
        using (await host.OccupyEngineAsync())
        {
            await call.SendAsync(1, TestFrames.Tensor(1));
            await call.WriteAsync(new StreamInferRequest { Step = new StepRequest { Sequence = 2, Frames = { TestFrames.Tensor(2) }, Timeout = Duration.FromTimeSpan(TimeSpan.FromMilliseconds(20)) } });
            await host.UntilAsync("camera", session => session.PendingSteps == 2);
            await Task.Delay(60, TestContext.Current.CancellationToken);
        }

        await call.ReadAsync();
        var expired = await call.ReadAsync();

        Assert.Equal((int)StatusCode.DeadlineExceeded, expired.Error.Code);
        Assert.Equal(1, (await host.GetAsync("camera")).Age.Steps);
    }

    [Fact]
    public async Task ManyStreams_OnAFewSlots_AnswerAsOnMany()
    {
        await using var roomy = await TestHost.StartAsync();
        await roomy.StepAsync("probe", TestFrames.Tensor(0), method: "unmix_tns");
        var bytes = (await roomy.GetAsync("probe")).StateBytes;
        await using var tight = await TestHost.StartAsync($"--Models:ArenaBytes={4 * bytes}");
        for (var step = 0; step < 4; step++)
        {
            for (var stream = 0; stream < 12; stream++)
            {
                var frame = TestFrames.Tensor((100 * stream) + step);
                Assert.Equal(
                    TestFrames.Scores(await roomy.StepAsync($"s{stream}", frame, method: "unmix_tns")),
                    TestFrames.Scores(await tight.StepAsync($"s{stream}", frame, method: "unmix_tns")),
                    (a, b) => Math.Abs(a - b) <= 1e-5);
            }
        }

        var model = tight.Host.Services.GetRequiredService<ModelCatalog>().Find(TestHost.Model).Engine.Model;
        Assert.True(model.ResidentBytes <= 4 * bytes);
        Assert.Contains(await ResidentAsync(tight), resident => !resident);
    }

    private static async Task<bool[]> ResidentAsync(TestHost host) =>
        [.. (await host.Streams.ListStreamsAsync(new ListStreamsRequest())).Streams.Select(stream => stream.Resident)];
}

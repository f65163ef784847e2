using System.Collections.Concurrent;
using Grpc.Core;
using SkiaSharp;
using TtaService.Host.Tests.Infrastructure;
using TtaService.Serving.Streams;
using TtaService.V1;

namespace TtaService.Host.Tests.Functional;

/// <summary>What a stream gets when others ask for much.</summary>
public sealed class FairnessTests
{
    private static readonly Frame[] Many = [.. Enumerable.Range(0, 64).Select(TestFrames.Tensor)];

    [Fact]
    public async Task SmallStep_BesideStreamsOfLargeSteps_RunsInTheNextPass()
    {
        await using var host = await TestHost.StartAsync();
        var order = new ConcurrentQueue<string>();
        var steps = new List<Task>();
        string[] large = ["large-1", "large-2", "large-3", "large-4"];
        foreach (var stream in large.Append("camera"))
        {
            await host.StepAsync(stream, TestFrames.Tensor(0));
        }

        using (await host.OccupyBatcherAsync())
        {
            foreach (var stream in large)
            {
                steps.Add(StepAsync(host, stream, Many, order));
                await host.UntilAsync(stream, session => session.Waiting.Phase == StreamPhase.Ready);
            }

            steps.Add(StepAsync(host, "camera", [TestFrames.Tensor(1)], order));
            await host.UntilAsync("camera", session => session.Waiting.Phase == StreamPhase.Ready);
        }

        await Task.WhenAll(steps);
        Assert.Equal("camera", order.First());
    }

    [Fact]
    public async Task SmallStep_WhileALargePassRuns_IsAnsweredWithinIt()
    {
        await using var host = await TestHost.StartAsync();
        await host.StepAsync("large", TestFrames.Tensor(0));
        await host.StepAsync("camera", TestFrames.Tensor(0));
        var (begun, sent, answered, within) = (
            new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously), new ManualResetEventSlim(), new ManualResetEventSlim(), false);
        host.Part<ModelCatalog>().Find(TestHost.Model).Batcher.Runner.Gap = () =>
        {
            begun.TrySetResult();
            within |= sent.Wait(TimeSpan.FromSeconds(60)) && (within || answered.Wait(TimeSpan.FromSeconds(5)));
        };

        var large = StepAsync(host, "large", Many, []);
        await begun.Task.WaitAsync(TimeSpan.FromSeconds(60));
        var small = host.StepAsync("camera", TestFrames.Tensor(1));
        sent.Set();
        var reply = await small;
        answered.Set();

        await large;
        Assert.Equal(2, reply.Step);
        Assert.Equal(2, (await host.GetAsync("large")).Age.Steps);
        Assert.True(within);
    }

    [Fact]
    public async Task QueueFullOfFloodingStreams_TakesTheStepOfOneThatHasNoneWaiting()
    {
        await using var host = await TestHost.StartAsync("--Batching:MaxQueuedSteps=16", "--Streams:MaxPendingSteps=16");
        await host.StepAsync("flood", TestFrames.Tensor(0));
        await host.StepAsync("camera", TestFrames.Tensor(0));
        var waiting = new List<Task<StepReply>>();
        using (await host.OccupyBatcherAsync())
        {
            // One is in front; the last two places of sixteen are kept.
            for (var i = 0; i < 13; i++)
            {
                waiting.Add(host.StepAsync("flood", TestFrames.Tensor(i)));
            }

            await host.UntilAsync("flood", session => session.Waiting.PendingSteps == 13);
            await RpcAssert.RefusedAsync(StatusCode.ResourceExhausted, "QUEUE_FULL", () => host.StepAsync("flood", TestFrames.Tensor(1)));
            waiting.Add(host.StepAsync("camera", TestFrames.Tensor(1)));
            await host.UntilAsync("camera", session => session.Waiting.PendingSteps == 1);
        }

        await Task.WhenAll(waiting);
    }

    [Fact]
    public async Task CallThatEnds_GivesUpWhatItHasToDecode()
    {
        await using var host = await TestHost.StartAsync("--Batching:DecodeConcurrency=1");
        var dear = TestFrames.Encoded(TestFrames.File(1, SKEncodedImageFormat.Jpeg, 1600, 1400));
        using var gone = new CancellationTokenSource();
        var call = await DuplexClient.OpenAsync(host.Adaptation, new OpenStream { Stream = "dear", Model = TestHost.Model }, gone.Token);
        for (var i = 1; i <= 8; i++)
        {
            await call.SendAsync((ulong)i, [.. Enumerable.Repeat(dear, 4)]);
        }

        // Not all eight: the first may be done before the last has come.
        await host.UntilAsync("dear", session => session.Waiting.PendingSteps >= 3);
        await gone.CancelAsync();

        await host.UntilAsync("dear", session => session.Waiting.PendingSteps == 0 && session.Decoding.Jobs.Count <= 1);
        Assert.NotNull(await host.StepAsync("camera", TestFrames.Encoded(TestFrames.File(2, SKEncodedImageFormat.Jpeg))));
        call.Dispose();
    }

    private static async Task StepAsync(TestHost host, string stream, Frame[] frames, ConcurrentQueue<string> order)
    {
        await host.Adaptation.InferAsync(new InferRequest { Open = new OpenStream { Stream = stream }, Step = new StepRequest { Frames = { frames } } });
        order.Enqueue(stream);
    }
}

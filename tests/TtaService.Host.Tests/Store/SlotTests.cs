using Grpc.Core;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Time.Testing;
using TtaService.Host.Tests.Infrastructure;
using TtaService.Serving.Streams;
using TtaService.V1;

namespace TtaService.Host.Tests.Store;

/// <summary>Cancelled steps, idle expiry and reopening meet on few rows of memory: no row is given back twice, no stream gets another's state.</summary>
public sealed class SlotTests
{
    private const int Streams = 8;
    private const int Steps = 60;

    [Theory]
    [InlineData("file")]
    [InlineData("memory")]
    public async Task CancelExpireReopen_InAnyOrder_EveryStreamKeepsItsOwnState(string kind)
    {
        using var folder = new TestFolder();
        await using var alone = await TestHost.StartAsync();
        var bytes = (await alone.Streams.CreateStreamAsync(new CreateStreamRequest { Stream = new V1.Stream { Name = "sizing" } })).StateBytes;
        var clock = new FakeTimeProvider(TimeProvider.System.GetUtcNow());
        // Idleness deletes what no store keeps, so with the memory store streams only leave the arena.
        var idle = kind == "file" ? "00:00:01" : "365.00:00:00";
        await using var host = await TestHost.StartAsync(
            clock, $"--Store:Kind={kind}", $"--Store:Path={folder.Path}", $"--Models:ArenaBytes={bytes * 3}", $"--Streams:IdleTimeout={idle}", "--Batching:MaxDelay=00:00:00");
        var departures = host.Host.Services.GetRequiredService<StreamDepartures>();
        using var done = new CancellationTokenSource();
        var sweeping = Task.Run(async () =>
        {
            while (!done.IsCancellationRequested)
            {
                clock.Advance(TimeSpan.FromSeconds(1.1));
                await departures.UnloadIdleAsync();
                await Task.Delay(1);
            }
        });

        var counts = await Task.WhenAll(Enumerable.Range(0, Streams).Select(stream => Task.Run(() => RunAsync(host, stream))));
        await done.CancelAsync();
        await sweeping;

        Assert.True(counts.Sum(count => count.Cancelled) > Streams, "hardly a step was cancelled");
        Assert.True(kind == "memory" || counts.Sum(count => count.Restored) > Streams, "hardly a stream left and came back");
        for (var stream = 0; stream < Streams; stream++)
        {
            for (var step = 1; step <= Steps; step++)
            {
                await alone.StepAsync($"s{stream}", Frame(stream, step));
            }

            TestFrames.AssertClose(TestFrames.State(await alone.ExportAsync($"s{stream}")), TestFrames.State(await host.ExportAsync($"s{stream}")));
        }
    }

    // Every step is sent until it is answered; some are cancelled first, before, while or after they run.
    private static async Task<(int Cancelled, int Restored)> RunAsync(TestHost host, int stream)
    {
        var random = new Random(stream);
        var (cancelled, restored) = (0, 0);
        for (var step = 1; step <= Steps; step++)
        {
            if (random.Next(3) == 0)
            {
                using var leaves = new CancellationTokenSource(TimeSpan.FromMilliseconds(random.Next(4)));
                try
                {
                    await host.Adaptation.InferAsync(Request(stream, step), cancellationToken: leaves.Token);
                }
                catch (RpcException left) when (left.StatusCode is StatusCode.Cancelled or StatusCode.Unavailable)
                {
                    cancelled++;
                }
            }

            var reply = await UntilAnsweredAsync(host, stream, step);
            Assert.Equal(step, reply.Step.Step);
            restored += reply.Opened.Origin == V1.StateOrigin.Restored ? 1 : 0;
        }

        return (cancelled, restored);
    }

    private static async Task<InferReply> UntilAnsweredAsync(TestHost host, int stream, int step)
    {
        while (true)
        {
            try
            {
                return await host.Adaptation.InferAsync(Request(stream, step));
            }
            catch (RpcException again) when (again.StatusCode == StatusCode.Unavailable)
            {
                // It has just been unloaded: it comes back when it is asked for again.
            }
        }
    }

    private static InferRequest Request(int stream, int step) => new()
    {
        Open = new OpenStream { Stream = $"s{stream}" },
        Step = new StepRequest { Sequence = (ulong)step, Frames = { Frame(stream, step) } },
    };

    private static Frame Frame(int stream, int step) => TestFrames.Tensor((stream * 1000) + step);
}

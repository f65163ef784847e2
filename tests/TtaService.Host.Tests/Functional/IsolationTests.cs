using Grpc.Core;
using Microsoft.Extensions.Time.Testing;
using SkiaSharp;
using TtaService.Host.Tests.Infrastructure;
using TtaService.V1;

namespace TtaService.Host.Tests.Functional;

public sealed class IsolationTests
{
    private const int Streams = 12;
    private const int Steps = 18;

    private static readonly string[] Methods = ["unmix_tns", "ema", "source", "adaptive", "tbr", "alpha_bn", "prior", "tbn"];

    // With room for four of the larger states the streams go in and out of the arena all the time.
    [Theory]
    [InlineData(1, "--Batching:MaxFrames=64")]
    [InlineData(2, "--Batching:MaxFrames=7")]
    [InlineData(3, "--Models:ArenaBytes=20000")]
    public async Task ManyStreams_RandomArrival_OutputsAndStatesAgreeWithAlone(int seed, string setting)
    {
        await using var host = await TestHost.StartAsync(new FakeTimeProvider(), setting, "--Streams:MaxPendingSteps=8");
        var alone = new StepReply[Streams][];
        for (var stream = 0; stream < Streams; stream++)
        {
            alone[stream] = new StepReply[Steps];
            for (var step = 0; step < Steps; step++)
            {
                alone[stream][step] = (await host.Adaptation.InferAsync(new InferRequest { Open = Open("alone", stream), Step = Step(stream, step) })).Step;
            }
        }

        var shared = await Task.WhenAll(Enumerable.Range(0, Streams).Select(stream => Task.Run(() => RunAsync(host, stream, new Random((seed * 1000) + stream), alone[stream]))));

        Assert.True(shared.Sum() > 0, "no step shared its batch");
        for (var stream = 0; stream < Streams; stream++)
        {
            TestFrames.AssertClose(TestFrames.State(await host.ExportAsync($"alone-{stream}")), TestFrames.State(await host.ExportAsync($"together-{stream}")));
        }
    }

    // Steps in bursts and pauses, some on a call of their own, and other streams that come and go; returns how many shared a batch.
    private static async Task<int> RunAsync(TestHost host, int stream, Random random, StepReply[] alone)
    {
        var shared = 0;
        using var call = await DuplexClient.OpenAsync(host.Adaptation, Open("together", stream));
        for (var step = 0; step < Steps;)
        {
            var burst = Math.Min(random.Next(1, 6), Steps - step);
            for (var i = 0; i < burst; i++)
            {
                await call.WriteAsync(new StreamInferRequest { Step = Step(stream, step + i) });
            }

            for (var i = 0; i < burst; i++, step++)
            {
                var reply = (await call.ReadAsync()).Step;
                Assert.Equal(step + 1, reply.Step);
                TestFrames.AssertClose(TestFrames.Scores(alone[step]), TestFrames.Scores(reply));
                shared += reply.Timing.BatchFrames > reply.Predictions.Count ? 1 : 0;
            }

            if (random.Next(4) == 0)
            {
                // A passer-by whose frames are like nobody's, and who sometimes leaves at once.
                using var leaves = new CancellationTokenSource();
                var passing = host.Adaptation.InferAsync(new InferRequest
                {
                    Step = new StepRequest
                    {
                        Frames = { TestFrames.Tensor(
                    [3, 16, 16], [.. TestFrames.Values(step).Select(value => value * 50)]) }
                    }
                }, cancellationToken: leaves.Token);
                if (random.Next(2) == 0)
                {
                    await leaves.CancelAsync();
                    await Assert.ThrowsAsync<RpcException>(async () => await passing);
                }
                else
                {
                    await passing;
                }
            }
        }

        return shared;
    }

    private static OpenStream Open(string prefix, int stream) => new()
    {
        Stream = $"{prefix}-{stream}",
        Model = TestHost.Model,
        Method = new Method { Name = Methods[stream % Methods.Length] },
        Seed = (ulong)stream,
        Reply = new ReplyOptions { RawOutputs = true },
    };

    // tbn asks for larger steps; every third step holds images.
    private static StepRequest Step(int stream, int step)
    {
        var request = new StepRequest { Sequence = (ulong)step + 1 };
        var frames = Methods[stream % Methods.Length] == "tbn" ? 4 : 1 + ((stream + step) % 3);
        for (var frame = 0; frame < frames; frame++)
        {
            var number = (stream * 10_000) + (step * 10) + frame;
            request.Frames.Add(step % 3 == 2 ? TestFrames.Encoded(TestFrames.File(number, SKEncodedImageFormat.Png)) : TestFrames.Tensor(number));
        }

        return request;
    }
}

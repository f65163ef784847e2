using System.Collections.Concurrent;
using System.Diagnostics;
using Grpc.Core;
using Microsoft.Extensions.DependencyInjection;
using TtaService.Host.Tests.Infrastructure;
using TtaService.Serving.Store;
using TtaService.Serving.Streams;
using TtaService.Serving.Telemetry;
using TtaService.V1;

namespace TtaService.Host.Tests.Telemetry;

/// <summary>A listener hears all servers of the process whose source has the name, so these run while no other test does.</summary>
[Collection(nameof(TraceTests))]
[CollectionDefinition(nameof(TraceTests), DisableParallelization = true)]
public sealed class TraceTests
{
    private const string TraceId = "0af7651916cd43dd8448eb211c80319c";
    private const string SpanId = "b7ad6b7169203331";

    [Fact]
    public async Task Step_OfACallerWithATrace_BelongsToIt()
    {
        await using var host = await TestHost.StartAsync();
        using var spans = new Spans(host);

        await host.Adaptation.InferAsync(Request(TestFrames.Tensor(1)), new Metadata { { "traceparent", $"00-{TraceId}-{SpanId}-01" } });

        var step = Assert.Single(spans.Of(TtaActivities.Step));
        Assert.Equal((TraceId, SpanId), (step.TraceId.ToHexString(), step.ParentSpanId.ToHexString()));
        Assert.Equal("gate-1", step.GetTagItem("tta.stream.id"));
        Assert.Equal("tiny", step.GetTagItem("tta.model.name"));
        Assert.Equal(1L, step.GetTagItem("tta.step.number"));
        Assert.Equal(ActivityStatusCode.Unset, step.Status);
    }

    [Fact]
    public async Task Steps_OfADuplexCallWithoutATrace_AreTracesOfTheirOwn()
    {
        await using var host = await TestHost.StartAsync();
        using var spans = new Spans(host);
        using var camera = await DuplexClient.OpenAsync(host, "gate-1");

        await camera.StepAsync(1, TestFrames.Tensor(1));
        await camera.StepAsync(2, TestFrames.Tensor(2));

        var steps = spans.Of(TtaActivities.Step);
        Assert.Equal(2, steps.Select(step => step.TraceId).Distinct().Count());
        Assert.All(steps, step => Assert.Equal(default, step.ParentSpanId));
    }

    [Fact]
    public async Task Batch_OfThreeStreams_LinksToTheirSteps()
    {
        await using var host = await TestHost.StartAsync();
        DuplexClient[] cameras = [await DuplexClient.OpenAsync(host, "a"), await DuplexClient.OpenAsync(host, "b"), await DuplexClient.OpenAsync(host, "c")];
        Spans spans;
        using (await host.OccupyBatcherAsync())
        {
            spans = new Spans(host);
            foreach (var (camera, name) in cameras.Zip(["a", "b", "c"]))
            {
                await camera.SendAsync(1, TestFrames.Tensor(1));
                await host.UntilAsync(name, session => session.Waiting.Phase == StreamPhase.Ready);
            }
        }

        using (spans)
        {
            await Task.WhenAll(cameras.Select(camera => camera.ReadAsync()));

            var batch = Assert.Single(spans.Of(TtaActivities.Batch));
            var steps = spans.Of(TtaActivities.Step);
            Assert.Equal(3, steps.Count);
            Assert.Equal(steps.Select(step => step.SpanId).ToHashSet(), batch.Links.Select(link => link.Context.SpanId).ToHashSet());
            Assert.Contains(steps, step => step.TraceId == batch.TraceId);
            Assert.Equal(3, batch.GetTagItem("tta.batch.steps"));
            Assert.All(steps, step => Assert.InRange(batch.StartTimeUtc, step.StartTimeUtc, step.StartTimeUtc + step.Duration));
        }

        Array.ForEach(cameras, camera => camera.Dispose());
    }

    [Fact]
    public async Task Step_Refused_IsAnErrorWithItsReason()
    {
        await using var host = await TestHost.StartAsync();
        using var spans = new Spans(host);

        await Assert.ThrowsAsync<RpcException>(async () => await host.Adaptation.InferAsync(Request(TestFrames.Encoded([1, 2, 3]))));

        var step = Assert.Single(spans.Of(TtaActivities.Step));
        Assert.Equal((ActivityStatusCode.Error, "FRAME_FORMAT_UNKNOWN"), (step.Status, step.StatusDescription));
        Assert.Equal("invalid_argument", step.GetTagItem("error.type"));
    }

    [Fact]
    public async Task Checkpoint_Written_HasASpan()
    {
        await using var host = await TestHost.StartAsync("--Store:CheckpointInterval=01:00:00");
        await host.StepAsync("gate-1", TestFrames.Tensor(1));
        using var spans = new Spans(host);

        await host.Host.Services.GetRequiredService<StreamSaving>().SaveAsync(host.Host.Services.GetRequiredService<StreamDirectory>().Get("gate-1"));

        var checkpoint = Assert.Single(spans.Of(TtaActivities.Checkpoint));
        Assert.Equal("gate-1", checkpoint.GetTagItem("tta.stream.id"));
        Assert.True((long)checkpoint.GetTagItem("tta.checkpoint.size")! > 0);
    }

    [Theory]
    [InlineData("0", null, 0)]
    [InlineData("1", null, 3)]
    [InlineData("0", "01", 3)]
    [InlineData("1", "00", 0)]
    public async Task Steps_SentByOtlp_AreThoseThatTheCallerOrTheRatioChose(string ratio, string? callerSampled, int expected)
    {
        await using var receiver = await OtlpReceiver.StartAsync();
        await using (var host = await TestHost.StartAsync([.. receiver.Settings, $"--Telemetry:TraceSampleRatio={ratio}"]))
        {
            for (var i = 0; i < 3; i++)
            {
                await host.Adaptation.InferAsync(
                    Request(TestFrames.Tensor(i)), callerSampled is null ? null : new Metadata { { "traceparent", $"00-{TraceId}-{SpanId}-{callerSampled}" } });
            }
        }

        // Each has the tag once.
        Assert.Equal(expected, receiver.Count("traces", "tta.step.frames"));
        Assert.Equal(expected, receiver.Count("traces", "tta.batch.forward"));
    }

    [Fact]
    public async Task Otlp_Endpoint_GetsMetricsAndLogsOfTheService()
    {
        await using var receiver = await OtlpReceiver.StartAsync();
        await using (var host = await TestHost.StartAsync([.. receiver.Settings, "--Logging:OpenTelemetry:LogLevel:Default=Information"]))
        {
            await host.StepAsync("gate-1", TestFrames.Tensor(1));
            await host.Streams.ResetStreamAsync(new ResetStreamRequest { Name = "gate-1" });
        }

        Assert.True(receiver.Count("metrics", "tta.step.duration") > 0);
        Assert.True(receiver.Count("logs", "StreamReset") > 0);
        Assert.True(receiver.Count("metrics", "service.instance.id") > 0);
    }

    [Fact]
    public async Task Spans_WithoutAnEndpoint_AreNotMade()
    {
        await using var host = await TestHost.StartAsync();

        Assert.False(host.Host.Services.GetRequiredService<TtaActivities>().Source.HasListeners());
    }

    private static InferRequest Request(Frame frame) => new() { Open = new OpenStream { Stream = "gate-1" }, Step = new StepRequest { Frames = { frame } } };

    /// <summary>The spans of one server that have ended.</summary>
    private sealed class Spans : IDisposable
    {
        private readonly ConcurrentQueue<Activity> _ended = new();
        private readonly ActivityListener _listener;

        public Spans(TestHost host)
        {
            var source = host.Host.Services.GetRequiredService<TtaActivities>().Source;
            _listener = new ActivityListener
            {
                ShouldListenTo = other => other == source,
                Sample = (ref ActivityCreationOptions<ActivityContext> _) => ActivitySamplingResult.AllDataAndRecorded,
                ActivityStopped = _ended.Enqueue,
            };
            ActivitySource.AddActivityListener(_listener);
        }

        public IReadOnlyList<Activity> Of(string name) => [.. _ended.Where(span => span.OperationName == name)];

        public void Dispose() => _listener.Dispose();
    }
}

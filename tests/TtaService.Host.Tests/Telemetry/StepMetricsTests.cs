using System.Diagnostics.Metrics;
using Grpc.Core;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Diagnostics.Metrics.Testing;
using SkiaSharp;
using TtaService.Host.Tests.Infrastructure;
using TtaService.Serving.Streams;
using TtaService.Serving.Telemetry;
using TtaService.V1;

namespace TtaService.Host.Tests.Telemetry;

public sealed class StepMetricsTests
{
    [Fact]
    public async Task Step_Answered_IsTimedUnderItsModelAndMethodAndNamesItsStream()
    {
        await using var host = await TestHost.StartAsync();
        using var duration = Collect<double>(host, "tta.step.duration");

        await host.StepAsync("gate-1", TestFrames.Tensor(1), method: "ema");

        var step = Assert.Single(duration.GetMeasurementSnapshot());
        Assert.Equal(Tags(("tta.model.name", "tiny"), ("tta.method", "ema"), ("tta.stream.id", "gate-1")), step.Tags);
        Assert.InRange(step.Value, 1e-6, 60);
    }

    [Fact]
    public async Task Step_Failed_IsTimedUnderItsKindOfError()
    {
        await using var host = await TestHost.StartAsync();
        using var duration = Collect<double>(host, "tta.step.duration");
        using var rejected = Collect<long>(host, "tta.frame.rejected");

        await Assert.ThrowsAsync<RpcException>(() => host.StepAsync("gate-1", TestFrames.Encoded([1, 2, 3])));

        Assert.Equal("invalid_argument", Assert.Single(duration.GetMeasurementSnapshot()).Tags["error.type"]);
        Assert.Equal(Tags(("tta.reject.reason", "frame_format_unknown")), Assert.Single(rejected.GetMeasurementSnapshot()).Tags);
    }

    [Fact]
    public async Task Phases_OfABatch_AddUpToItsStep()
    {
        await using var host = await TestHost.StartAsync();
        await host.StepAsync("gate-1", TestFrames.Tensor(1));
        using var duration = Collect<double>(host, "tta.step.duration");
        using var phases = Collect<double>(host, "tta.step.phase.duration");

        await host.StepAsync("gate-1", TestFrames.Encoded(TestFrames.File(1, SKEncodedImageFormat.Jpeg, 1024, 768)));

        var parts = phases.GetMeasurementSnapshot();
        Assert.Equal(["commit", "decode", "forward", "postprocess", "queue", "transfer"], parts.Select(part => (string)part.Tags["tta.phase"]!).Order(StringComparer.Ordinal));
        Assert.All(parts.Where(part => part.Tags["tta.phase"] is "decode" or "forward" or "transfer" or "commit"), part =>
            Assert.True(part.Value > 0, $"{part.Tags["tta.phase"]} is {part.Value}"));
        var step = Assert.Single(duration.GetMeasurementSnapshot()).Value;
        // Postprocessing ends a moment after the step's own time is taken.
        Assert.InRange(parts.Sum(part => part.Value), 0.95 * step, (1.05 * step) + 0.005);
    }

    [Fact]
    public async Task Batch_OfThreeStreams_CountsItsStepsAndFrames()
    {
        await using var host = await TestHost.StartAsync();
        using var calls = new Calls([await DuplexClient.OpenAsync(host, "a"), await DuplexClient.OpenAsync(host, "b"), await DuplexClient.OpenAsync(host, "c")]);
        using var steps = Collect<long>(host, "tta.batch.steps");
        using var frames = Collect<long>(host, "tta.batch.size");
        using (await host.OccupyBatcherAsync())
        {
            foreach (var call in calls.All)
            {
                await call.SendAsync(1, TestFrames.Tensor(1), TestFrames.Tensor(2));
            }

            foreach (var name in new[] { "a", "b", "c" })
            {
                await host.UntilAsync(name, session => session.Waiting.Phase == StreamPhase.Ready);
            }
        }

        foreach (var call in calls.All)
        {
            await call.ReadAsync();
        }

        Assert.Equal(3, steps.LastMeasurement!.Value);
        Assert.Equal(6, frames.LastMeasurement!.Value);
    }

    [Fact]
    public async Task Step_Resent_CountsAsReplayedAndNotAsAStep()
    {
        await using var host = await TestHost.StartAsync();
        using var camera = await DuplexClient.OpenAsync(host, "gate-1");
        using var duration = Collect<double>(host, "tta.step.duration");
        using var replayed = Collect<long>(host, "tta.step.replayed");

        await camera.StepAsync(1, TestFrames.Tensor(1));
        await camera.StepAsync(1, TestFrames.Tensor(1));

        Assert.Single(duration.GetMeasurementSnapshot());
        Assert.Equal(1, Assert.Single(replayed.GetMeasurementSnapshot()).Value);
    }

    [Fact]
    public async Task FrameSize_EncodedFrame_IsItsBytes()
    {
        await using var host = await TestHost.StartAsync();
        using var sizes = Collect<long>(host, "tta.frame.size");
        var file = TestFrames.File(1, SKEncodedImageFormat.Png);

        await host.StepAsync("gate-1", TestFrames.Encoded(file));
        await host.StepAsync("gate-1", TestFrames.Tensor(1));

        Assert.Equal(file.Length, Assert.Single(sizes.GetMeasurementSnapshot()).Value);
    }

    [Fact]
    public async Task Step_Frozen_CountsAsNotAdapted()
    {
        await using var host = await TestHost.StartAsync();
        using var skipped = Collect<long>(host, "tta.adaptation.skipped");
        await host.StepAsync("gate-1", TestFrames.Tensor(1));

        await host.Adaptation.InferAsync(
            new InferRequest { Open = new OpenStream { Stream = "gate-1" }, Step = new StepRequest { Freeze = true, Frames = { TestFrames.Tensor(1) } } });

        Assert.Equal(Tags(("tta.model.name", "tiny"), ("tta.skip.reason", "frozen")), Assert.Single(skipped.GetMeasurementSnapshot()).Tags);
    }

    [Fact]
    public async Task Stream_FromOpeningToDeletion_CountsItsTransitionsAndResets()
    {
        await using var host = await TestHost.StartAsync();
        using var transitions = Collect<long>(host, "tta.stream.transition");
        using var resets = Collect<long>(host, "tta.stream.reset");

        await host.StepAsync("gate-1", TestFrames.Tensor(1));
        await host.Streams.ResetStreamAsync(new ResetStreamRequest { Name = "gate-1" });
        await host.Streams.DeleteStreamAsync(new DeleteStreamRequest { Name = "gate-1" });

        Assert.Equal(["opened", "closed"], transitions.GetMeasurementSnapshot().Select(moved => moved.Tags["tta.transition"]));
        Assert.Equal(Tags(("tta.model.name", "tiny"), ("tta.reset.reason", "request"), ("tta.stream.id", "gate-1")), Assert.Single(resets.GetMeasurementSnapshot()).Tags);
    }

    [Fact]
    public async Task Streams_BeyondTheArena_AreCountedAsEvictedRestoredAndCold()
    {
        await using var host = await TestHost.StartAsync();
        var bytes = (await host.Streams.CreateStreamAsync(new CreateStreamRequest { Stream = new V1.Stream { Name = "probe", Model = TestHost.Model } })).StateBytes;
        // A step writes to a row of its own; the limit is on rows that streams hold.
        await using var small = await TestHost.StartAsync($"--Models:ArenaBytes={bytes}");
        using var transitions = Collect<long>(small, "tta.stream.transition");

        await small.StepAsync("a", TestFrames.Tensor(1));
        await small.StepAsync("b", TestFrames.Tensor(1));
        await small.StepAsync("a", TestFrames.Tensor(2));

        Assert.Equal(["opened", "evicted", "opened", "evicted", "restored"], transitions.GetMeasurementSnapshot().Select(moved => moved.Tags["tta.transition"]));
        var scrape = await Scrape.OfAsync(small.Http);
        Assert.Equal(1, scrape.Sum("tta_stream_resident"));
        Assert.Equal(1, scrape.Sum("tta_stream_cold"));
        Assert.Equal(bytes, scrape.Sum("tta_arena_usage_bytes"));
        Assert.Equal(bytes, scrape.Sum("tta_arena_limit_bytes"));
        Assert.Equal(1, scrape.Sum("tta_stream_utilization"));
    }

    [Fact]
    public async Task Checkpoint_Written_IsTimedAndSizedAndEndsTheLag()
    {
        await using var host = await TestHost.StartAsync("--Store:CheckpointInterval=01:00:00");
        using var durations = Collect<double>(host, "tta.checkpoint.duration");
        using var sizes = Collect<long>(host, "tta.checkpoint.size");
        await host.StepAsync("gate-1", TestFrames.Tensor(1));
        var before = await Scrape.OfAsync(host.Http);
        var session = host.Host.Services.GetRequiredService<StreamDirectory>().Get("gate-1");

        await host.Host.Services.GetRequiredService<Serving.Streams.Keeping.StreamSaving>().SaveAsync(session);

        Assert.Equal(1, before.Sum("tta_checkpoint_dirty"));
        Assert.InRange(before.Sum("tta_checkpoint_lag_seconds"), 0.3, 60);
        var after = await Scrape.OfAsync(host.Http);
        Assert.Equal(0, after.Sum("tta_checkpoint_dirty"));
        Assert.Equal(0, after.Sum("tta_checkpoint_lag_seconds"));
        Assert.False(Assert.Single(durations.GetMeasurementSnapshot()).Tags.ContainsKey("error.type"));
        Assert.InRange(Assert.Single(sizes.GetMeasurementSnapshot()).Value, session.StateBytes / 2, 16 * session.StateBytes);
    }

    [Fact]
    public async Task Checkpoint_StoreFails_IsCountedWithTheErrorAndLagGrows()
    {
        using var folder = new TestFolder();
        await using var server = await ServerProcess.StartAsync(
            "Store:Kind=file", $"Store:Path={folder.In("streams")}", "Store:MaxBytes=1", "Store:CheckpointInterval=00:00:00.200", "Store:StopTimeout=00:00:00.100");
        using var channel = server.Connect();
        var http = new Uri($"http://127.0.0.1:{server.HttpPort}");
        await new AdaptationService.AdaptationServiceClient(channel)
            .InferAsync(new InferRequest { Open = new OpenStream { Stream = "gate-1" }, Step = new StepRequest { Frames = { TestFrames.Tensor(1) } } });

        await server.Process.UntilAsync(async () => (await Scrape.OfAsync(http)).Sum("tta_checkpoint_duration_seconds_count", ("error_type", "unavailable")) > 0);

        var first = await Scrape.OfAsync(http);
        Assert.True(first.Sum("tta_store_failure_total") > 0);
        Assert.Equal(1, first.Sum("tta_checkpoint_dirty"));
        Assert.True((await Scrape.OfAsync(http)).Sum("tta_checkpoint_lag_seconds") > first.Sum("tta_checkpoint_lag_seconds"));
    }

    [Fact]
    public async Task Queue_StepsWait_ShowsThemAndTheLimit()
    {
        await using var host = await TestHost.StartAsync("--Batching:MaxQueuedSteps=7");
        using (await host.OccupyBatcherAsync())
        {
            Assert.Equal(1, (await Scrape.OfAsync(host.Http)).Sum("tta_queue_usage", ("tta_model_name", "tiny")));
        }

        Assert.Equal(7, (await Scrape.OfAsync(host.Http)).Sum("tta_queue_limit", ("tta_model_name", "tiny")));
    }

    private static Dictionary<string, object?> Tags(params (string Name, string Value)[] tags) =>
        tags.ToDictionary(tag => tag.Name, object? (tag) => tag.Value, StringComparer.Ordinal);

    private static MetricCollector<T> Collect<T>(TestHost host, string instrument)
        where T : struct => new(host.Host.Services.GetRequiredService<IMeterFactory>(), TtaMetrics.MeterName, instrument);

    private sealed class Calls(IReadOnlyList<DuplexClient> all) : IDisposable
    {
        public IReadOnlyList<DuplexClient> All { get; } = all;

        public void Dispose() => All.ToList().ForEach(call => call.Dispose());
    }
}

using System.Collections.Concurrent;
using System.Diagnostics.Metrics;
using Grpc.Core;
using Microsoft.Extensions.DependencyInjection;
using TtaService.Engine.Execution;
using TtaService.Engine.Normalization;
using TtaService.Host.Tests.Infrastructure;
using TtaService.Serving.Loops;
using TtaService.Serving.Streams;
using TtaService.Serving.Telemetry;
using TtaService.V1;

namespace TtaService.Host.Tests.Telemetry;

/// <summary>The number of time series does not follow the number of streams.</summary>
public sealed class CardinalityTests
{
    private const int Streams = 5000;
    private const int Sites = 53;
    private const int Budget = 1000;

    // What may ever be a label. Streams, clients, frames, traces, classes and texts are not on it.
    private static readonly HashSet<string> Allowed =
    [
        "tta.model.name", "tta.method", "error.type", "tta.phase", "tta.reject.reason", "tta.not_learned.reason",
            "tta.transition", "tta.reset.reason", "tta.drift.level", "tta.rank", "tta.site",
        "tta.quantile", "tta.shadow.agreement", "tta.shadow.side", "tta.skip.reason", "tta.loop", "rpc.method", "rpc.status_code",
    ];

    [Fact]
    public async Task Series_FiveThousandStreams_StayWithinTheBudgetOfAModelAndMethod()
    {
        await using var host = await TestHost.StartAsync();
        RecordEverything(host.Host.Services.GetRequiredService<TtaMetrics>(), Streams);

        var scrape = await Scrape.OfAsync(host.Http);

        var own = scrape.Own.ToList();
        TestContext.Current.SendDiagnosticMessage($"{own.Count} series after {Streams} streams, {scrape.Text.Length} characters");
        Assert.InRange(own.Count, 300, Budget);
        Assert.DoesNotContain(scrape.All, series => series.Labels.ContainsKey("otel_metric_overflow"));
        Assert.DoesNotContain("camera-", scrape.Text, StringComparison.Ordinal);
        // All of them were recorded: what has no label is not lost.
        Assert.Equal(Streams, scrape.Sum("tta_step_duration_seconds_count", ("error_type", string.Empty)));
        Assert.Equal(Streams, scrape.Sum("tta_drift_score_count"));
    }

    [Fact]
    public async Task Series_EveryMetricOfTheCatalogue_IsScraped()
    {
        await using var host = await TestHost.StartAsync("--Telemetry:WatchedStreams=camera-1");
        RecordEverything(host.Host.Services.GetRequiredService<TtaMetrics>(), 2);

        var scraped = (await Scrape.OfAsync(host.Http)).All.Select(series => series.Name).ToHashSet();

        Assert.All(MetricCatalogue.All, metric => Assert.Contains(PrometheusName(metric), scraped));
    }

    [Fact]
    public async Task Labels_OfEveryRecord_AreOnTheList()
    {
        await using var host = await TestHost.StartAsync("--Telemetry:WatchedStreams=camera-1");
        var factory = host.Host.Services.GetRequiredService<IMeterFactory>();
        var seen = new ConcurrentDictionary<(string Instrument, string Label), bool>();
        using var listener = new MeterListener { InstrumentPublished = (instrument, self) => Enable(instrument, self, factory) };
        listener.SetMeasurementEventCallback<long>((instrument, _, tags, _) => Note(instrument, tags, seen));
        listener.SetMeasurementEventCallback<double>((instrument, _, tags, _) => Note(instrument, tags, seen));
        listener.Start();

        await host.StepAsync("camera-1", TestFrames.Tensor(1));
        await Assert.ThrowsAsync<RpcException>(() => host.StepAsync("camera-1", TestFrames.Encoded([1])));
        RecordEverything(host.Host.Services.GetRequiredService<TtaMetrics>(), 2);
        listener.RecordObservableInstruments();

        Assert.True(seen.Count > 50, $"{seen.Count} labels were seen");
        Assert.All(seen.Keys, label =>
        {
            var metric = Assert.Single(MetricCatalogue.All, metric => metric.Name == label.Instrument);
            // The stream's name is for exemplars.
            Assert.True(metric.Labels.Contains(label.Label) || label.Label == "tta.stream.id", $"{label} is not in the catalogue");
        });
        Assert.All(MetricCatalogue.All, metric =>
            Assert.All(metric.Labels, label => Assert.True(Allowed.Contains(label) || metric == MetricCatalogue.WatchedDriftScore, $"{metric.Name} has label {label}")));
    }

    [Fact]
    public async Task LabelValues_WhateverClientsSend_AreOfClosedSets()
    {
        const string Evil = "zz-evil";
        await using var host = await TestHost.StartAsync();
        await host.StepAsync(Evil, TestFrames.Tensor(1));
        var client = host.Adaptation;
        await RefusedAsync(
            () => client.InferAsync(new InferRequest { Open = new OpenStream { Stream = "a", Model = Evil }, Step = new StepRequest { Frames = { TestFrames.Tensor(1) } } }));
        await RefusedAsync(() => client.InferAsync(
            new InferRequest { Open = new OpenStream { Stream = "a", Method = new Method { Name = Evil } }, Step = new StepRequest { Frames = { TestFrames.Tensor(1) } } }));
        await RefusedAsync(() => client.InferAsync(
            new InferRequest { Open = new OpenStream { Stream = Evil + "?" }, Step = new StepRequest { Frames = { TestFrames.Encoded("zz-evil"u8.ToArray()) } } }));
        await RefusedAsync(() =>
            client.InferAsync(new InferRequest { Open = new OpenStream { Stream = Evil }, Step = new StepRequest { Frames = { TestFrames.Encoded("zz-evil"u8.ToArray()) } } }));
        await RefusedAsync(() => host.Streams.GetStreamAsync(new GetStreamRequest { Name = Evil + Evil }, new Metadata { { "user-agent", Evil }, { Evil, Evil } }));
        using var http = new HttpClient { BaseAddress = host.Http };
        await http.GetAsync($"/{Evil}?{Evil}");
        await http.SendAsync(new HttpRequestMessage(new HttpMethod("ZZ-EVIL"), "/health/live"));

        var scrape = await Scrape.OfAsync(host.Http);

        Assert.True(scrape.Sum("tta_step_duration_seconds_count") >= 2);
        Assert.DoesNotContain(Evil, scrape.Text, StringComparison.OrdinalIgnoreCase);
        var closed = ClosedValues();
        Assert.All(scrape.Own.SelectMany(series => series.Labels).Where(label => label.Key != "le"), label =>
            Assert.True(closed.TryGetValue(label.Key, out var values) && values.Contains(label.Value), $"{label.Key}={label.Value}"));
    }

    [Fact]
    public async Task RpcMethod_InOtherCase_IsTheMethodAsItIsMapped()
    {
        await using var host = await TestHost.StartAsync();
        using var channel = host.Connect();
        foreach (var (service, name) in new[] { ("tta.v1.StreamsService", "ListStreams"), ("TTA.V1.STREAMSSERVICE", "LISTSTREAMS"), ("tta.v1.streamsservice", "liststreams") })
        {
            await channel.CreateCallInvoker().AsyncUnaryCall(RawCalls.Method(MethodType.Unary, service, name), null, new CallOptions(), []);
        }

        var calls = (await Scrape.OfAsync(host.Http)).All.Where(series => series.Name == "rpc_server_call_duration_seconds_count").ToList();

        Assert.Equal("tta.v1.StreamsService/ListStreams", Assert.Single(calls)["rpc_method"]);
        Assert.Equal(3, calls[0].Value);
    }

    [Fact]
    public async Task Watched_OnlyNamedStreams_HaveASeriesOfTheirOwn()
    {
        await using var host = await TestHost.StartAsync("--Telemetry:WatchedStreams=camera-3, camera-7");
        RecordEverything(host.Host.Services.GetRequiredService<TtaMetrics>(), 100);

        var watched = (await Scrape.OfAsync(host.Http)).All.Where(series => series.Name == "tta_watched_drift_score").ToList();

        Assert.Equal(["camera-3", "camera-7"], watched.Select(series => series["tta_stream_id"]).Order(StringComparer.Ordinal));
    }

    [Fact]
    public async Task Overflow_MoreLabelSetsThanTheLimit_IsSummedUpAndTold()
    {
        await using var host = await TestHost.StartAsync();
        var metrics = host.Host.Services.GetRequiredService<TtaMetrics>();
        for (var i = 0; i < MetricCatalogue.StepReplayed.Series + 5; i++)
        {
            metrics.StepReplayed($"model-{i}");
        }

        var scrape = await Scrape.OfAsync(host.Http);

        Assert.Equal(5, scrape.Sum("tta_step_replayed_total", ("otel_metric_overflow", "true")));
        Assert.Equal(MetricCatalogue.StepReplayed.Series + 5, scrape.Sum("tta_step_replayed_total"));
    }

    [Fact]
    public async Task Exemplars_OfDriftStepsAndEntropy_NameTheStream()
    {
        await using var host = await TestHost.StartAsync();
        var metrics = host.Host.Services.GetRequiredService<TtaMetrics>();
        metrics.DriftSwept("tiny", "ema", "camera-42", 7);
        metrics.Predicted("tiny", "ema", "camera-43", 0.55);
        await host.StepAsync("camera-44", TestFrames.Tensor(1));

        var text = await Scrape.OpenMetricsAsync(host.Http);

        Assert.Matches("""tta_drift_score_bucket\{[^}]*le="10(\.0)?"\} 1 # \{tta_stream_id="camera-42"\} 7""", text);
        Assert.Matches("""tta_prediction_entropy_bucket\{[^}]*le="0\.6"\} 1 # \{tta_stream_id="camera-43"\} 0\.55""", text);
        Assert.Matches("""tta_step_duration_seconds_bucket\{[^}]*\} 1 # \{tta_stream_id="camera-44"\}""", text);
    }

    [Fact]
    public async Task StepRecords_AfterTheFirst_DoNotAllocate()
    {
        await using var host = await TestHost.StartAsync();
        var metrics = host.Host.Services.GetRequiredService<TtaMetrics>();
        string[] streams = [.. Enumerable.Range(0, 100).Select(i => $"camera-{i}")];
        Record(1000);

        var before = GC.GetAllocatedBytesForCurrentThread();
        Record(10_000);

        Assert.Equal(0, GC.GetAllocatedBytesForCurrentThread() - before);

        void Record(int steps)
        {
            for (var i = 0; i < steps; i++)
            {
                metrics.StepCompleted("tiny", "ema", streams[i % streams.Length], TimeSpan.FromMilliseconds(i % 50), null);
                metrics.Predicted("tiny", "ema", streams[i % streams.Length], 0.4);
                metrics.FrameReceived(50_000);
                metrics.BatchCompleted("tiny", 1, 1, TimeSpan.Zero, TimeSpan.Zero, default, TimeSpan.Zero);
            }
        }
    }

    /// <summary>Every event, for this many streams of one model and method.</summary>
    internal static void RecordEverything(TtaMetrics metrics, int streams)
    {
        var random = new Random(1);
        for (var i = 0; i < streams; i++)
        {
            var stream = $"camera-{i}";
            var took = TimeSpan.FromMilliseconds(random.Next(1, 400));
            metrics.StepCompleted("tiny", "ema", stream, took, null);
            metrics.Predicted("tiny", "ema", stream, random.NextDouble());
            metrics.DriftSwept("tiny", "ema", stream, random.NextDouble() * 20);
            metrics.StateAged("tiny", "ema", random.Next(100_000));
            metrics.FrameReceived(random.Next(1_000_000));
            metrics.BatchCompleted("tiny", random.Next(1, 64), random.Next(1, 64), took, took, new PassTimes(took, took, took), took);
            metrics.StreamReset("tiny", stream, (ResetCause)(i % Enum.GetValues<ResetCause>().Length));
            metrics.StreamMoved("tiny", (StreamTransition)(i % Enum.GetValues<StreamTransition>().Length));
            metrics.CheckpointWritten("tiny", took, random.Next(10_000_000));
            metrics.OccupancySwept("tiny", random.NextDouble());
            metrics.AlphaUsed("tiny", "ema", random.NextDouble());
            metrics.FeatureSpreadSwept("tiny", "ema", random.NextDouble());
            metrics.PredictionsSwept("tiny", "ema", random.NextDouble(), random.NextDouble());
            metrics.ShadowCompared("tiny", "ema", i % 2 == 0, random.NextDouble(), random.NextDouble());
        }

        foreach (var kind in Enum.GetValues<FailureKind>())
        {
            metrics.StepCompleted("tiny", "ema", "camera-0", TimeSpan.Zero, kind);
        }

        foreach (var cause in Enum.GetValues<SkipCause>())
        {
            metrics.AdaptationSkipped("tiny", cause);
        }

        foreach (var reason in Enum.GetValues<NotLearnedReason>())
        {
            metrics.FrameNotLearned("tiny", reason);
        }

        for (var site = 0; site < Sites; site++)
        {
            metrics.SiteSwept("tiny", "ema", $"/layer{site}/BatchNormalization", (0.1, 0.2, 0.3), (0.1, 0.2, 0.3));
        }

        metrics.StepReplayed("tiny");
        metrics.FrameRefused("FRAME_TOO_LARGE");
        metrics.FrameRefused("whatever a client may cause");
        metrics.CheckpointFailed("tiny", TimeSpan.Zero, FailureKind.Unavailable);
        metrics.StoreFailed();
        metrics.StoreDroppedStream();
        foreach (var loop in Enum.GetValues<LoopKind>())
        {
            metrics.LoopFailed(loop);
        }

        metrics.DriftRanked("tiny", [9, 8, 7]);
        metrics.DriftLevelsSwept("tiny", "ema", 1, 2, 3, 4);
        metrics.SweepCompleted("tiny", TimeSpan.FromMilliseconds(20));
        metrics.CallCompleted("tta.v1.StreamsService/GetStream", TimeSpan.FromMilliseconds(2), StatusCode.OK, failed: false);
    }

    /// <summary>The name of a series that the metric has in Prometheus.</summary>
    internal static string PrometheusName(MetricDefinition metric)
    {
        var name = metric.Name.Replace('.', '_') + metric.Unit switch { "s" => "_seconds", "By" => "_bytes", _ => string.Empty };
        return metric.Boundaries is not null ? name + "_count" : Counters.Contains(metric) ? name + "_total" : name;
    }

    private static readonly HashSet<MetricDefinition> Counters =
    [
        MetricCatalogue.StepReplayed, MetricCatalogue.FrameRejected, MetricCatalogue.FrameNotLearned,
            MetricCatalogue.StreamTransition, MetricCatalogue.StreamReset, MetricCatalogue.StoreFailure,
        MetricCatalogue.ShadowFrame, MetricCatalogue.AdaptationSkipped, MetricCatalogue.StoreDropped, MetricCatalogue.LoopFailure,
    ];

    private static Dictionary<string, IReadOnlyCollection<string>> ClosedValues() => new(StringComparer.Ordinal)
    {
        ["tta_model_name"] = ["tiny"],
        ["tta_method"] = [.. MethodRegistry.BuiltIn.All.Select(method => method.Name)],
        ["error_type"] = [.. Label<FailureKind>.All, .. Label<StatusCode>.All],
        ["tta_phase"] = Label<StepPhase>.All,
        ["tta_reject_reason"] = ["frame_format_unknown"],
        ["tta_not_learned_reason"] = Label<NotLearnedReason>.All,
        ["tta_transition"] = Label<StreamTransition>.All,
        ["tta_loop"] = Label<LoopKind>.All,
        ["rpc_method"] = ["tta.v1.AdaptationService/Infer", "tta.v1.StreamsService/GetStream"],
        ["rpc_status_code"] = Label<StatusCode>.All,
    };

    private static void Enable(Instrument instrument, MeterListener listener, IMeterFactory factory)
    {
        if (instrument.Meter.Scope == factory && instrument.Meter.Name == TtaMetrics.MeterName)
        {
            listener.EnableMeasurementEvents(instrument);
        }
    }

    private static void Note(Instrument instrument, ReadOnlySpan<KeyValuePair<string, object?>> tags, ConcurrentDictionary<(string Instrument, string Label), bool> seen)
    {
        foreach (var tag in tags)
        {
            seen[(instrument.Name, tag.Key)] = true;
        }
    }

    private static Task<RpcException> RefusedAsync<T>(Func<AsyncUnaryCall<T>> call) => Assert.ThrowsAsync<RpcException>(async () => await call());
}

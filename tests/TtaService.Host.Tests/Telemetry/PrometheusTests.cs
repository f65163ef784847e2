using System.Text.RegularExpressions;
using Google.Protobuf.WellKnownTypes;
using Grpc.Core;
using Microsoft.Extensions.DependencyInjection;
using TtaService.Host.Tests.Commands;
using TtaService.Host.Tests.Infrastructure;
using TtaService.Serving.Telemetry;
using TtaService.V1;

namespace TtaService.Host.Tests.Telemetry;

/// <summary>A real Prometheus with the shipped rules, their windows shortened from minutes to seconds.</summary>
public sealed class PrometheusTests
{
    [Fact]
    public async Task Alerts_StepsFailThenTheServerDies_FireOneAfterTheOther()
    {
        await using var server = await ServerProcess.StartAsync("Store:Kind=memory");
        await using var prometheus = await PrometheusServer.StartAsync(server.HttpPort, Shortened);
        using var channel = server.Connect();
        var client = new AdaptationService.AdaptationServiceClient(channel);
        await prometheus.UntilAsync(async () =>
        {
            await client.InferAsync(Request(null));
            return (await prometheus.QueryAsync("tta_model_name:tta_step:rate5m > 0")).Count == 1;
        });
        Assert.DoesNotContain("TtaStepErrors", await prometheus.FiringAsync());
        Assert.DoesNotContain("TtaTargetDown", await prometheus.FiringAsync());

        await prometheus.UntilAsync(async () =>
        {
            // A nanosecond is over before the step begins.
            await Assert.ThrowsAsync<RpcException>(async () => await client.InferAsync(Request(new Duration { Nanos = 1 })));
            return (await prometheus.FiringAsync()).Contains("TtaStepErrors");
        });
        Assert.DoesNotContain("TtaTargetDown", await prometheus.FiringAsync());

        await server.Process.KillAsync();
        await prometheus.UntilAsync(async () => (await prometheus.FiringAsync()).Contains("TtaTargetDown"));
    }

    [Fact]
    public async Task Demo_WhileItRunsAndAfterIt_IsScrapedAndMissed()
    {
        var port = OtherProgram.FreePort();
        await using var prometheus = await PrometheusServer.StartAsync(port, Shortened);

        var demo = TtaRun.Of("demo", "--seconds", "12", "--cameras", "2", "--http-port", $"{port}");
        var frames = 0.0;
        while (!demo.IsCompleted)
        {
            frames = Math.Max(frames, (await prometheus.QueryAsync("sum(tta_batch_size_sum)")).Select(series => series.Value).FirstOrDefault());
            await Task.Delay(200);
        }

        Assert.Equal(0, (await demo).ExitCode);
        Assert.True(frames > 10, $"{frames} frames were scraped");
        // Each camera of the demo is two streams, source and adapted.
        Assert.Contains(await prometheus.ExemplarStreamsAsync("tta_step_duration_seconds_bucket"), stream => stream.StartsWith("camera-", StringComparison.Ordinal));
        await prometheus.UntilAsync(async () => (await prometheus.FiringAsync()).Contains("TtaTargetDown"));
    }

    [Fact]
    public async Task Dashboard_EveryQuery_GivesDataOfALiveServer()
    {
        await using var host = await TestHost.StartAsync("--Telemetry:WatchedStreams=camera-1");
        var metrics = host.Host.Services.GetRequiredService<TtaMetrics>();
        CardinalityTests.RecordEverything(metrics, 20);
        await using var prometheus = await PrometheusServer.StartAsync(host.Http.Port, Shortened);
        await prometheus.UntilAsync(async () =>
        {
            // Rates need two scrapes between which something happened.
            CardinalityTests.RecordEverything(metrics, 20);
            return (await prometheus.QueryAsync("tta_model_name:tta_step:rate5m > 0")).Count == 1;
        });

        var empty = new List<string>();
        foreach (var query in GrafanaTests.Queries())
        {
            // A restart is what the annotation of restarts is without.
            if (!query.StartsWith("resets(", StringComparison.Ordinal) && (await prometheus.QueryAsync(GrafanaTests.Filled(query, "30s"))).Count == 0)
            {
                empty.Add(query);
            }
        }

        Assert.Empty(empty);
        Assert.Contains(await prometheus.ExemplarStreamsAsync("tta_drift_score_bucket"), stream => stream.StartsWith("camera-", StringComparison.Ordinal));
    }

    private static InferRequest Request(Duration? timeout) => new()
    {
        Open = new OpenStream { Stream = "gate-1", Model = TestHost.Model },
        Step = new StepRequest { Timeout = timeout, Frames = { TestFrames.Tensor(1) } },
    };

    private static string Shortened(string rules)
    {
        var shortened = Regex.Replace(Regex.Replace(rules, @"\[[0-9]+m\]", "[5s]"), "for: [0-9]+m", "for: 1s");
        Assert.NotEqual(rules, shortened);
        Assert.DoesNotMatch("for: [0-9]+m", shortened);
        return shortened;
    }
}

using System.Net;
using Grpc.Core;
using TtaService.Host.Tests.Infrastructure;
using TtaService.V1;

namespace TtaService.Host.Tests.Telemetry;

public sealed class MetricsEndpointTests
{
    [Fact]
    public async Task Metrics_OnTheHttpListener_AnswersAndOnTheGrpcListenerDoesNot()
    {
        await using var host = await TestHost.StartAsync();
        using var http = new HttpClient { DefaultRequestVersion = HttpVersion.Version20, DefaultVersionPolicy = HttpVersionPolicy.RequestVersionExact };

        Assert.Equal(HttpStatusCode.NotFound, (await http.GetAsync(new Uri(host.Grpc, "/metrics"))).StatusCode);
        Assert.NotEmpty((await Scrape.OfAsync(host.Http)).Own);
    }

    [Fact]
    public async Task HttpRequestDuration_OfADuplexCall_IsNotRecorded()
    {
        await using var host = await TestHost.StartAsync();
        using (var camera = await DuplexClient.OpenAsync(host, "gate-1"))
        {
            await camera.StepAsync(1, TestFrames.Tensor(1));
            await camera.CompleteAsync();
            await Assert.ThrowsAsync<RpcException>(camera.ReadAsync);
        }

        await host.GetAsync("gate-1");

        var routes = (await Scrape.OfAsync(host.Http)).All.Where(series => series.Name == "http_server_request_duration_seconds_count")
            .Select(series => series["http_route"]).ToList();
        Assert.Contains("/tta.v1.StreamsService/GetStream", routes);
        Assert.DoesNotContain("/tta.v1.AdaptationService/StreamInfer", routes);
    }

    [Fact]
    public async Task RpcDuration_OfUnaryCalls_HasTheirStatus()
    {
        await using var host = await TestHost.StartAsync();
        await host.StepAsync("gate-1", TestFrames.Tensor(1));
        await Assert.ThrowsAsync<RpcException>(async () => await host.Streams.GetStreamAsync(new GetStreamRequest { Name = "nobody" }));

        var scrape = await Scrape.OfAsync(host.Http);

        Assert.Equal(
            1, scrape.Sum("rpc_server_call_duration_seconds_count", ("rpc_method", "tta.v1.AdaptationService/Infer"), ("rpc_status_code", "ok"), ("error_type", string.Empty)));
        Assert.Equal(1,
            scrape.Sum("rpc_server_call_duration_seconds_count", ("rpc_method", "tta.v1.StreamsService/GetStream"), ("rpc_status_code", "not_found"), ("error_type", "not_found")));
    }

    [Fact]
    public async Task Hosts_OfOneProcess_ExportTheirOwnOnly()
    {
        await using var one = await TestHost.StartAsync();
        await using var other = await TestHost.StartAsync();

        await one.StepAsync("gate-1", TestFrames.Tensor(1));

        Assert.Equal(1, (await Scrape.OfAsync(one.Http)).Sum("tta_step_duration_seconds_count"));
        Assert.Equal(0, (await Scrape.OfAsync(other.Http)).Sum("tta_step_duration_seconds_count"));
    }

    [Fact]
    public async Task Metrics_WhileTheServerStops_DoNotFail()
    {
        await using var host = await TestHost.StartAsync();
        await host.StepAsync("gate-1", TestFrames.Tensor(1));
        using var http = new HttpClient { BaseAddress = host.Http };
        var scraping = true;
        var scrapes = Task.Run(async () =>
        {
            while (Volatile.Read(ref scraping))
            {
                try
                {
                    Assert.Equal(HttpStatusCode.OK, (await http.GetAsync("/metrics")).StatusCode);
                }
                catch (HttpRequestException)
                {
                    // It has stopped listening.
                    return;
                }
            }
        });

        await host.Host.StopAsync();

        Volatile.Write(ref scraping, false);
        await scrapes.WaitAsync(TimeSpan.FromSeconds(60));
    }
}

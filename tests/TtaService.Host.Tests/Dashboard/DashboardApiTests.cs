using System.Net;
using System.Net.Http.Json;
using System.Text.Json;
using Microsoft.Extensions.DependencyInjection;
using TtaService.Engine.Streams;
using TtaService.Host.Tests.Infrastructure;
using TtaService.Serving.Telemetry;

namespace TtaService.Host.Tests.Dashboard;

/// <summary>What the page asks the server, and what it may do there.</summary>
public sealed class DashboardApiTests
{
    [Fact]
    public async Task Fleet_StreamsOfTwoKinds_AreCountedSortedAndFiltered()
    {
        await using var host = await StartAsync();
        for (var step = 0; step < 20; step++)
        {
            await FashionCamera.SendAsync(host, "clean", step);
            await FashionCamera.SendAsync(host, "foggy", step, "fog");
            await host.Host.Services.GetRequiredService<DriftPublisher>().SweepAsync();
        }

        await UntilAsync(host, "foggy", strip => strip.Any(cell => cell > 0));

        var fleet = await GetAsync(host, "fleet");
        Assert.StartsWith("calibrated", fleet.GetProperty("models")[0].GetProperty("calibration").GetString(), StringComparison.Ordinal);
        Assert.Equal(5000, fleet.GetProperty("models")[0].GetProperty("reference").GetProperty("frames").GetInt32());
        Assert.Equal((1, 1), (fleet.GetProperty("levels").GetProperty("normal").GetInt32(), fleet.GetProperty("levels").GetProperty("critical").GetInt32()));
        Assert.Equal(2, fleet.GetProperty("streams").GetProperty("known").GetInt32());
        Assert.True(fleet.GetProperty("rates").GetProperty("framesPerSecond").GetDouble() > 0);
        Assert.True(fleet.GetProperty("canAct").GetBoolean());

        Assert.Equal(["foggy", "clean"], Names(await GetAsync(host, "streams")));
        Assert.Equal(["clean", "foggy"], Names(await GetAsync(host, "streams?sort=name")));
        Assert.Equal(["foggy"], Names(await GetAsync(host, "streams?filter=crit")));
        Assert.Equal(["clean"], Names(await GetAsync(host, "streams?filter=CLE")));
        var second = await GetAsync(host, "streams?offset=1&limit=1");
        Assert.Equal((2, "clean"), (second.GetProperty("total").GetInt32(), Assert.Single(Names(second))));

        var strip = await GetAsync(host, "strip?rows=1");
        Assert.Equal((2, 1, "foggy"), (strip.GetProperty("total").GetInt32(), strip.GetProperty("rows").GetInt32(), strip.GetProperty("names")[0].GetString()));
        var cells = strip.GetProperty("data").GetBytesFromBase64();
        Assert.Equal(DriftHistory.Columns, cells.Length);
        Assert.InRange(cells.Max(), DriftHistory.Encode(3), byte.MaxValue);
    }

    [Fact]
    public async Task Stream_ThatDrifted_ShowsSitesClassesAndEvents()
    {
        await using var host = await StartAsync();
        for (var step = 0; step < 30; step++)
        {
            await FashionCamera.SendAsync(host, "camera", step, step < 16 ? null : "contrast", "adaptive");
            if (step % 4 == 3)
            {
                await host.Host.Services.GetRequiredService<DriftPublisher>().SweepAsync();
            }
        }

        var stream = await GetAsync(host, "streams/camera");
        Assert.Equal("critical", stream.GetProperty("level").GetString());
        Assert.Equal(13, stream.GetProperty("sites").GetArrayLength());
        Assert.True(stream.GetProperty("sites")[0].GetProperty("kl").GetDouble() > stream.GetProperty("sites")[0].GetProperty("limit").GetDouble());
        Assert.Equal(10, stream.GetProperty("classes").GetArrayLength());
        Assert.Contains(stream.GetProperty("classes").EnumerateArray(), entry => entry.GetProperty("label").GetString() == "Sneaker");
        Assert.InRange(stream.GetProperty("changedAtStep").GetInt32(), 16, 18);
        Assert.Contains(stream.GetProperty("events").EnumerateArray(), change => change.GetProperty("level").GetString() == "critical");

        var drift = await GetAsync(host, "streams/camera/drift");
        Assert.Equal(13 * DriftHistory.Columns, drift.GetProperty("data").GetBytesFromBase64().Length);
        Assert.Equal(13, drift.GetProperty("sites").GetArrayLength());

        var service = await GetAsync(host, "service");
        Assert.True(service.GetProperty("window").GetProperty("p50Milliseconds").GetDouble() > 0);
        Assert.Contains(service.GetProperty("window").GetProperty("phases").EnumerateArray(), phase => phase.GetProperty("milliseconds").GetDouble() > 0);
        Assert.Equal(1, service.GetProperty("models")[0].GetProperty("residentStreams").GetInt32());
    }

    [Fact]
    public async Task Actions_OfAnOperator_ChangeTheStream()
    {
        await using var host = await TestHost.StartAsync();
        await host.StepAsync("hall:1", TestFrames.Tensor(1));
        await host.StepAsync("hall:1", TestFrames.Tensor(2));
        const string Stream = "streams/hall:1";

        var snapshot = await (await Http(host).GetAsync(new Uri($"api/v1/{Stream}/export", UriKind.Relative), TestContext.Current.CancellationToken))
            .Content.ReadAsByteArrayAsync(TestContext.Current.CancellationToken);
        Assert.Equal("2", Safetensors.Read(snapshot).Metadata["step"]);
        Assert.Equal(HttpStatusCode.OK, await ActAsync(host, $"{Stream}/fork", new { name = "twin" }));
        Assert.Equal(2, (await host.GetAsync("twin")).Age.Steps);
        Assert.Equal(HttpStatusCode.Conflict, await ActAsync(host, $"{Stream}/fork", new { name = "twin" }));
        Assert.Equal(HttpStatusCode.BadRequest, await ActAsync(host, $"{Stream}/fork", new { name = "" }));
        Assert.Equal(HttpStatusCode.OK, await ActAsync(host, $"{Stream}/freeze", new { frozen = true }));
        Assert.True((await GetAsync(host, Stream)).GetProperty("frozen").GetBoolean());
        var before = TestFrames.Adapted(await host.ExportAsync("hall:1"));
        await host.StepAsync("hall:1", TestFrames.Tensor(3));
        Assert.Equal(before, TestFrames.Adapted(await host.ExportAsync("hall:1")));
        Assert.Equal(HttpStatusCode.OK, await ActAsync(host, $"{Stream}/reset", new { }));
        Assert.Equal(0, (await host.GetAsync("hall:1")).Age.Steps);
    }

    [Theory]
    [InlineData("loopback", "localhost", true, true)]
    [InlineData("loopback", "localhost", false, false)]
    [InlineData("loopback", "evil.example", true, false)]
    [InlineData("always", "tta.example", true, true)]
    [InlineData("always", "tta.example", false, false)]
    [InlineData("always", "evil.example", true, false)]
    [InlineData("never", "localhost", true, false)]
    public async Task Actions_OfOthers_AreRefused(string allow, string name, bool header, bool allowed)
    {
        await using var host = await TestHost.StartAsync($"--Dashboard:AllowActions={allow}", "--Server:AllowedHosts=tta.example");
        await host.StepAsync("camera", TestFrames.Tensor(1));

        Assert.Equal(allowed ? HttpStatusCode.OK : HttpStatusCode.Forbidden, await ActAsync(host, "streams/camera/reset", new { }, name, header));

        Assert.Equal(allowed ? 0 : 1, (await host.GetAsync("camera")).Age.Steps);
    }

    [Theory]
    [InlineData("Forwarded", "for=8.8.8.8")]
    [InlineData("X-Forwarded-For", "8.8.8.8")]
    [InlineData("X-Real-IP", "8.8.8.8")]
    [InlineData("Via", "1.1 proxy")]
    public async Task Actions_ThroughAProxyOnTheServersMachine_AreRefused(string header, string value)
    {
        await using var host = await TestHost.StartAsync();
        await host.StepAsync("camera", TestFrames.Tensor(1));
        using var http = Http(host);
        using var request = new HttpRequestMessage(HttpMethod.Post, "api/v1/streams/camera/reset") { Headers = { { "x-tta-action", "1" }, { header, value } } };

        using var answer = await http.SendAsync(request, TestContext.Current.CancellationToken);

        Assert.Equal(HttpStatusCode.Forbidden, answer.StatusCode);
        Assert.Equal(1, (await host.GetAsync("camera")).Age.Steps);
    }

    [Fact]
    public async Task Page_AndItsFiles_AreSelfContained()
    {
        await using var host = await TestHost.StartAsync();
        foreach (var file in new[] { "", "app.js", "style.css", "icon.svg" })
        {
            using var answer = await Http(host).GetAsync(new Uri(file, UriKind.Relative), TestContext.Current.CancellationToken);
            var text = await answer.Content.ReadAsStringAsync(TestContext.Current.CancellationToken);

            Assert.Equal(HttpStatusCode.OK, answer.StatusCode);
            Assert.Contains("default-src 'none'", answer.Headers.GetValues("Content-Security-Policy").Single(), StringComparison.Ordinal);
            Assert.DoesNotContain("https://", text, StringComparison.Ordinal);
            using var again = new HttpRequestMessage(HttpMethod.Get, file);
            again.Headers.IfNoneMatch.Add(answer.Headers.ETag!);
            Assert.Equal(HttpStatusCode.NotModified, (await Http(host).SendAsync(again, TestContext.Current.CancellationToken)).StatusCode);
        }
    }

    [Fact]
    public async Task Api_WithoutStreamsOrForAnUnknownOne_Answers()
    {
        await using var host = await TestHost.StartAsync();

        Assert.Equal(0, (await GetAsync(host, "streams")).GetProperty("total").GetInt32());
        Assert.Equal(0, (await GetAsync(host, "strip")).GetProperty("rows").GetInt32());
        using var unknown = await Http(host).GetAsync(new Uri("api/v1/streams/nobody", UriKind.Relative), TestContext.Current.CancellationToken);
        Assert.Equal(HttpStatusCode.NotFound, unknown.StatusCode);
        Assert.Contains("nobody", await unknown.Content.ReadAsStringAsync(TestContext.Current.CancellationToken), StringComparison.Ordinal);
    }

    [Fact]
    public async Task Events_OfAStreamThatChangesLevel_ArriveAsTheyHappen()
    {
        await using var host = await StartAsync();
        await using var events = await Http(host).GetStreamAsync(new Uri("api/v1/events", UriKind.Relative), TestContext.Current.CancellationToken);
        using var reader = new StreamReader(events);
        for (var step = 0; step < 20; step++)
        {
            await FashionCamera.SendAsync(host, "camera", step, "fog");
            await host.Host.Services.GetRequiredService<DriftPublisher>().SweepAsync();
        }

        var lines = new List<string>();
        while (!lines.Any(line => line.Contains("critical", StringComparison.Ordinal)))
        {
            lines.Add((await reader.ReadLineAsync(TestContext.Current.CancellationToken).AsTask().WaitAsync(TimeSpan.FromSeconds(30), TestContext.Current.CancellationToken))!);
        }

        Assert.Equal("""data: {"stream":"camera","level":"critical"}""", lines[^1]);
    }

    [Fact]
    public async Task Disabled_NothingIsThere_AndTheGrpcPortNeverHasIt()
    {
        await using var without = await TestHost.StartAsync("--Dashboard:Enabled=false");
        await using var with = await TestHost.StartAsync();
        using var http2 = new HttpClient { BaseAddress = with.Grpc, DefaultRequestVersion = HttpVersion.Version20, DefaultVersionPolicy = HttpVersionPolicy.RequestVersionExact };

        foreach (var path in new[] { "", "app.js", "api/v1/fleet" })
        {
            Assert.Equal(HttpStatusCode.NotFound, (await Http(without).GetAsync(new Uri(path, UriKind.Relative), TestContext.Current.CancellationToken)).StatusCode);
            Assert.Equal(HttpStatusCode.NotFound, (await http2.GetAsync(new Uri(path, UriKind.Relative), TestContext.Current.CancellationToken)).StatusCode);
        }
    }

    // Sweeps when the test says so.
    private static Task<TestHost> StartAsync() => TestHost.StartAsync($"--Models:Path={FashionCamera.Models}", "--Drift:Interval=01:00:00");

    private static HttpClient Http(TestHost host) => new() { BaseAddress = host.Http };

    private static async Task<JsonElement> GetAsync(TestHost host, string path) =>
        await Http(host).GetFromJsonAsync<JsonElement>(new Uri($"api/v1/{path}", UriKind.Relative), TestContext.Current.CancellationToken);

    private static List<string?> Names(JsonElement page) => [.. page.GetProperty("streams").EnumerateArray().Select(stream => stream.GetProperty("name").GetString())];

    private static async Task<HttpStatusCode> ActAsync(TestHost host, string path, object body, string name = "localhost", bool header = true)
    {
        using var request = new HttpRequestMessage(HttpMethod.Post, new Uri(host.Http, $"api/v1/{path}")) { Content = JsonContent.Create(body), Headers = { Host = name } };
        if (header)
        {
            request.Headers.Add("x-tta-action", "1");
        }

        using var answer = await Http(host).SendAsync(request, TestContext.Current.CancellationToken);
        return answer.StatusCode;
    }

    // A recorder of its own writes the history, shortly after the sweep.
    private static async Task UntilAsync(TestHost host, string stream, Func<byte[], bool> wanted)
    {
        using var giveUp = new CancellationTokenSource(TimeSpan.FromSeconds(30));
        while (!wanted(host.Host.Services.GetRequiredService<DriftHistory>().Scores(stream)))
        {
            await Task.Delay(10, giveUp.Token);
        }
    }
}

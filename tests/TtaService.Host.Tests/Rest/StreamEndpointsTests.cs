using System.Net;
using System.Text;
using System.Text.Json;
using TtaService.Engine.Streams;
using TtaService.Host.Tests.Infrastructure;
using TtaService.V1;

namespace TtaService.Host.Tests.Rest;

/// <summary>Streams and models as resources over HTTP.</summary>
public sealed class StreamEndpointsTests
{
    [Fact]
    public async Task Stream_CreatedSteppedAndOperated_IsTheOneThatGrpcKnows()
    {
        await using var host = await TestHost.StartAsync(TestHost.TwoModels, "--Store:CheckpointInterval=00:00:00.100");
        const string Body = """{"name":"hall:1","model":"tiny","method":{"name":"ema","hyperparameters":{"momentum":0.2}}}""";
        var created = await SendAsync(host, HttpMethod.Post, "v1/streams", Body);
        Assert.Equal((HttpStatusCode.Created, "/v1/streams/hall:1"), (created.Status, created.Location));
        await host.StepAsync("hall:1", TestFrames.Tensor(1), sequence: 5);
        await host.StepAsync("hall:1", TestFrames.Tensor(2), sequence: 6);

        var shown = (await SendAsync(host, HttpMethod.Get, "v1/streams/hall:1")).Json;
        Assert.Equal(("ema", "2", "6"), (
            shown.GetProperty("method").GetProperty("name").GetString(),
            shown.GetProperty("age").GetProperty("steps").GetString(),
            shown.GetProperty("last_sequence").GetString()));
        var known = JsonDocument.Parse(Protocols.ProtoJson.Format(await host.GetAsync("hall:1"))).RootElement;
        // Its age goes on.
        Assert.Equal(known.EnumerateObject().Select(field => field.Name), shown.EnumerateObject().Select(field => field.Name));
        Assert.All(known.EnumerateObject().Where(field => field.Name != "age"), field => Assert.Equal(field.Value.GetRawText(), shown.GetProperty(field.Name).GetRawText()));

        Assert.True((await SendAsync(host, HttpMethod.Post, "v1/streams/hall:1/freeze")).Json.GetProperty("frozen").GetBoolean());
        Assert.False((await SendAsync(host, HttpMethod.Post, "v1/streams/hall:1/freeze", """{"frozen":false}""")).Json.GetProperty("frozen").GetBoolean());
        var settings = (await SendAsync(host, HttpMethod.Patch, "v1/streams/hall:1", """{"frozen":true,"maxCoalesce":4,"labels":{"site":"gate"}}""")).Json;
        Assert.Equal((true, 4, "gate", false), (
            settings.GetProperty("frozen").GetBoolean(),
            settings.GetProperty("max_coalesce").GetInt32(),
            settings.GetProperty("labels").GetProperty("site").GetString(),
            settings.GetProperty("pinned").GetBoolean()));
        Assert.False((await SendAsync(host, HttpMethod.Post, "v1/streams/hall:1/unfreeze")).Json.GetProperty("frozen").GetBoolean());

        var twin = (await SendAsync(host, HttpMethod.Post, "v1/streams/hall:1/fork", """{"name":"twin"}""")).Json;
        Assert.Equal(("twin", "2"), (twin.GetProperty("name").GetString(), twin.GetProperty("age").GetProperty("steps").GetString()));
        using var http = Http(host);
        var snapshot = await http.GetByteArrayAsync(new Uri("v1/streams/twin/export", UriKind.Relative), TestContext.Current.CancellationToken);
        Assert.Equal("2", Safetensors.Read(snapshot).Metadata["step"]);
        using var content = new ByteArrayContent(snapshot);
        using var imported = await http.PostAsync(new Uri($"v1/streams/third/import?model={TestHost.Model}", UriKind.Relative), content, TestContext.Current.CancellationToken);
        Assert.Equal(HttpStatusCode.OK, imported.StatusCode);
        Assert.Equal(TestFrames.Adapted(await host.ExportAsync("hall:1")), TestFrames.Adapted(await host.ExportAsync("third")));

        await host.StepAsync("hall:1", TestFrames.Tensor(3));
        await TestHost.UntilAsync(() => NewestStep(host, "hall:1") == 3, "the third step was not stored");
        Assert.Equal("0", (await SendAsync(host, HttpMethod.Post, "v1/streams/hall:1/reset")).Json.GetProperty("age").GetProperty("steps").GetString());
        var kept = (await SendAsync(host, HttpMethod.Get, "v1/streams/hall:1/checkpoints")).Json.GetProperty("checkpoints").EnumerateArray()
            .First(checkpoint => checkpoint.GetProperty("step").GetString() == "3");
        var back = (await SendAsync(host, HttpMethod.Post, "v1/streams/hall:1/rollback", $$"""{"checkpoint":{{kept.GetProperty("number").GetString()}}}""")).Json;
        Assert.Equal("3", back.GetProperty("age").GetProperty("steps").GetString());

        Assert.Equal(HttpStatusCode.NoContent, (await SendAsync(host, HttpMethod.Delete, "v1/streams/twin")).Status);
        Assert.Equal(HttpStatusCode.NotFound, (await SendAsync(host, HttpMethod.Get, "v1/streams/twin")).Status);
    }

    [Fact]
    public async Task List_ByPages_HasEveryStreamOnce()
    {
        await using var host = await TestHost.StartAsync();
        for (var camera = 0; camera < 5; camera++)
        {
            await host.StepAsync($"camera-{camera}", TestFrames.Tensor(camera));
        }

        var names = new List<string?>();
        var token = "";
        do
        {
            var page = (await SendAsync(host, HttpMethod.Get, $"v1/streams?page_size=2&page_token={token}&model={TestHost.Model}")).Json;
            names.AddRange(page.GetProperty("streams").EnumerateArray().Select(stream => stream.GetProperty("name").GetString()));
            token = page.GetProperty("next_page_token").GetString();
        }
        while (token!.Length > 0);

        Assert.Equal(["camera-0", "camera-1", "camera-2", "camera-3", "camera-4"], names);
    }

    [Fact]
    public async Task Models_AreShownAsGrpcShowsThem()
    {
        await using var host = await TestHost.StartAsync(TestHost.TwoModels);

        var all = (await SendAsync(host, HttpMethod.Get, "v1/models")).Json.GetProperty("models").EnumerateArray().Select(model => model.GetProperty("name").GetString());
        var one = (await SendAsync(host, HttpMethod.Get, $"v1/models/{TestHost.Model}")).Json;

        Assert.Contains(TestHost.Model, all);
        var known = await host.Models.GetModelAsync(new GetModelRequest { Name = TestHost.Model });
        Assert.Equal((known.Digest, known.Sites.Count), (one.GetProperty("digest").GetString(), one.GetProperty("sites").GetArrayLength()));
        Assert.Equal(HttpStatusCode.NotFound, (await SendAsync(host, HttpMethod.Get, "v1/models/nope")).Status);
    }

    [Theory]
    [InlineData("GET", "v1/streams/nobody", null, 404, "STREAM_NOT_FOUND")]
    [InlineData("GET", "v1/streams?page_size=1001", null, 400, "PAGE_SIZE_OUT_OF_RANGE")]
    [InlineData("GET", "v1/streams?page_token=!", null, 400, "PAGE_TOKEN_INVALID")]
    [InlineData("GET", "v1/streams?page_size=x", null, 400, null)]
    [InlineData("GET", "v1/streams/camera/drift", null, 409, "NOTHING_OBSERVED")]
    [InlineData("POST", "v1/streams", "", 400, "REQUEST_UNREADABLE")]
    [InlineData("POST", "v1/streams", "[1]", 400, "REQUEST_UNREADABLE")]
    [InlineData("POST", "v1/streams", "{\"name\":\"x\",\"speed\":1}", 400, "REQUEST_UNREADABLE")]
    [InlineData("POST", "v1/streams", "{\"name\":\"a b\"}", 400, "STREAM_NAME_INVALID")]
    [InlineData("POST", "v1/streams", "{\"name\":\"camera\"}", 409, "STREAM_EXISTS")]
    [InlineData("POST", "v1/streams", "{\"name\":\"x\",\"model\":\"nope\"}", 404, "MODEL_NOT_FOUND")]
    [InlineData("PATCH", "v1/streams/camera", "{}", 400, "UPDATE_MASK_EMPTY")]
    [InlineData("PATCH", "v1/streams/camera", "{\"seed\":1}", 400, "UPDATE_MASK_INVALID")]
    [InlineData("PATCH", "v1/streams/nobody", "{\"pinned\":true}", 404, "STREAM_NOT_FOUND")]
    [InlineData("POST", "v1/streams/camera/fork", "{\"name\":\"camera\"}", 409, "STREAM_EXISTS")]
    [InlineData("POST", "v1/streams/camera/fork", "", 400, "STREAM_NAME_INVALID")]
    [InlineData("POST", "v1/streams/camera/fork", "{\"names\":\"x\"}", 400, "REQUEST_UNREADABLE")]
    [InlineData("POST", "v1/streams/camera/rollback", "{\"checkpoint\":77}", 404, "CHECKPOINT_NOT_FOUND")]
    [InlineData("POST", "v1/streams/new/import", "no snapshot", 400, "SNAPSHOT_REFUSED")]
    [InlineData("DELETE", "v1/streams/nobody", null, 404, "STREAM_NOT_FOUND")]
    public async Task Refusal_HasGrpcsReasonAndItsStatus(string method, string path, string? body, int status, string? reason)
    {
        await using var host = await TestHost.StartAsync();
        await host.Streams.CreateStreamAsync(new CreateStreamRequest { Stream = new V1.Stream { Name = "camera" } });

        var answer = await SendAsync(host, new HttpMethod(method), path, body);

        Assert.Equal(status, (int)answer.Status);
        Assert.NotEmpty(answer.Json.GetProperty("error").GetString()!);
        Assert.Equal(reason, answer.Json.TryGetProperty("reason", out var told) ? told.GetString() : null);
    }

    public static TheoryData<string, string> Actions => new()
    {
        { "POST", "v1/streams" },
        { "PATCH", "v1/streams/camera" },
        { "DELETE", "v1/streams/camera" },
        { "POST", "v1/streams/camera/reset" },
        { "POST", "v1/streams/camera/freeze" },
        { "POST", "v1/streams/camera/unfreeze" },
        { "POST", "v1/streams/camera/fork" },
        { "POST", "v1/streams/camera/rollback" },
        { "POST", "v1/streams/camera/import" },
        { "GET", "v1/streams/camera/export" },
    };

    [Theory]
    [MemberData(nameof(Actions))]
    public async Task Action_OfOthers_IsRefusedAndChangesNothing(string method, string path)
    {
        await using var host = await TestHost.StartAsync();
        await host.StepAsync("camera", TestFrames.Tensor(1));
        var before = await host.GetAsync("camera");

        var proxied = await SendAsync(host, new HttpMethod(method), path, "{}", request => request.Headers.Add("X-Forwarded-For", "8.8.8.8"));
        var named = await SendAsync(host, new HttpMethod(method), path, "{}", request => request.Headers.Host = "evil.example");
        var bare = await SendAsync(host, new HttpMethod(method), path, "{}", request => request.Headers.Remove("x-tta-action"));

        Assert.Equal((HttpStatusCode.Forbidden, "OPERATORS_ONLY"), (proxied.Status, proxied.Json.GetProperty("reason").GetString()));
        Assert.Equal(HttpStatusCode.Forbidden, named.Status);
        // A link may lead to an export; who follows it is an operator on this machine.
        Assert.Equal(method == "GET" ? HttpStatusCode.OK : HttpStatusCode.Forbidden, bare.Status);
        var after = await host.GetAsync("camera");
        Assert.Equal((before.UpdateTime, before.Age.Steps, before.Frozen), (after.UpdateTime, after.Age.Steps, after.Frozen));
        Assert.Single((await host.Streams.ListStreamsAsync(new ListStreamsRequest())).Streams);
    }

    [Fact]
    public async Task Resources_WithoutTheDashboard_AreThere_AndNeverOnTheGrpcPort()
    {
        await using var host = await TestHost.StartAsync("--Dashboard:Enabled=false", "--Dashboard:AllowActions=never");
        await host.StepAsync("camera", TestFrames.Tensor(1));
        using var http2 = new HttpClient { BaseAddress = host.Grpc, DefaultRequestVersion = HttpVersion.Version20, DefaultVersionPolicy = HttpVersionPolicy.RequestVersionExact };

        Assert.Equal(HttpStatusCode.OK, (await SendAsync(host, HttpMethod.Get, "v1/streams/camera")).Status);
        Assert.Equal(HttpStatusCode.Forbidden, (await SendAsync(host, HttpMethod.Post, "v1/streams/camera/reset")).Status);
        foreach (var path in new[] { "v1/streams", "v1/models", "openapi/v1.json" })
        {
            Assert.Equal(HttpStatusCode.NotFound, (await http2.GetAsync(new Uri(path, UriKind.Relative), TestContext.Current.CancellationToken)).StatusCode);
        }
    }

    private static long NewestStep(TestHost host, string stream) =>
        host.Streams.ListCheckpoints(new ListCheckpointsRequest { Name = stream }).Checkpoints.Select(checkpoint => checkpoint.Step).FirstOrDefault();

    private static HttpClient Http(TestHost host) => new() { BaseAddress = host.Http, DefaultRequestHeaders = { { "x-tta-action", "test" } } };

    private static async Task<(HttpStatusCode Status, JsonElement Json, string? Location)> SendAsync(
        TestHost host,
        HttpMethod method,
        string path,
        string? body = null,
        Action<HttpRequestMessage>? change = null)
    {
        using var http = new HttpClient { BaseAddress = host.Http };
        using var request = new HttpRequestMessage(method, path) { Headers = { { "x-tta-action", "test" } } };
        // As curl -d sends it.
        request.Content = body is null || method == HttpMethod.Get ? null : new StringContent(body, Encoding.UTF8, "application/x-www-form-urlencoded");
        change?.Invoke(request);
        using var answer = await http.SendAsync(request, TestContext.Current.CancellationToken);
        var text = await answer.Content.ReadAsStringAsync(TestContext.Current.CancellationToken);
        var isJson = answer.Content.Headers.ContentType?.MediaType == "application/json";
        return (answer.StatusCode, isJson ? JsonDocument.Parse(text).RootElement : default, answer.Headers.Location?.ToString());
    }
}

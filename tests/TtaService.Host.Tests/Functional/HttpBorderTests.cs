using System.Net;
using System.Net.Sockets;
using System.Text;
using System.Text.Json;
using TtaService.Host.Tests.Infrastructure;

namespace TtaService.Host.Tests.Functional;

/// <summary>Under which names the HTTP port answers, and how it says no.</summary>
public sealed class HttpBorderTests
{
    public static TheoryData<string> EveryPath =>
        [
            "/", "/metrics", "/health/ready", "/health/live", "/api/v1/fleet", "/api/v1/streams", "/api/v1/events", "/api/v1/streams/camera/export",
            "/v1/streams", "/v1/streams/camera/export", "/v1/models", "/openapi/v1.json", "/nothing",
        ];

    [Theory]
    [MemberData(nameof(EveryPath))]
    public async Task EveryPath_UnderAForeignName_IsRefused(string path)
    {
        // Who may act is another matter.
        await using var host = await TestHost.StartAsync("--Dashboard:AllowActions=always");
        await host.StepAsync("camera.secret-site", TestFrames.Tensor(1));

        var (status, body) = await GetAsync(host, path, "evil.example");

        Assert.Equal(HttpStatusCode.Forbidden, status);
        Assert.DoesNotContain("secret", body, StringComparison.Ordinal);
        Assert.Contains("Server:AllowedHosts", body, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("localhost", true)]
    [InlineData("LOCALHOST:8000", true)]
    [InlineData("127.0.0.1", true)]
    [InlineData("10.1.2.3:8000", true)]
    [InlineData("[::1]:8000", true)]
    [InlineData("tta:8000", true)]
    [InlineData("a.cameras.example", true)]
    [InlineData("cameras.example", false)]
    [InlineData("evilcameras.example", false)]
    [InlineData("a.cameras.example.evil", false)]
    [InlineData("tta.evil", false)]
    [InlineData("127.0.0.1.evil", false)]
    public async Task Name_AllowedOrNot_IsAnsweredOrNot(string name, bool answers)
    {
        await using var host = await TestHost.StartAsync("--Server:AllowedHosts=tta, *.cameras.example");

        Assert.Equal(answers ? HttpStatusCode.OK : HttpStatusCode.Forbidden, (await GetAsync(host, "/health/live", name)).Status);
    }

    [Fact]
    public async Task NoName_AsHttp10MayAsk_IsAnswered()
    {
        await using var host = await TestHost.StartAsync();
        using var socket = new Socket(SocketType.Stream, ProtocolType.Tcp);
        await socket.ConnectAsync(host.Http.Host, host.Http.Port);
        await socket.SendAsync(Encoding.ASCII.GetBytes("GET /health/live HTTP/1.0\r\n\r\n"));
        var answer = new byte[100];

        Assert.StartsWith("HTTP/1.1 200", Encoding.ASCII.GetString(answer, 0, await socket.ReceiveAsync(answer)), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("/api/v1/streams?limit=x", null)]
    [InlineData("/api/v1/streams/nobody", null)]
    [InlineData("/api/v1/streams/nobody/freeze", "{\"frozen\":[[[[")]
    [InlineData("/api/v1/streams/camera/fork", "{\"name\":\"\\u001b[2J\\r\\n%\"}")]
    [InlineData("/api/v1/streams/camera/fork", "{\"name\":null}")]
    [InlineData("/api/v1/streams/camera/fork", "deep")]
    [InlineData("/api/v1/streams/camera/fork", "long")]
    public async Task BadRequest_IsToldAsShortJson(string path, string? json)
    {
        await using var host = await TestHost.StartAsync();
        await host.StepAsync("camera", TestFrames.Tensor(1));
        using var http = new HttpClient { BaseAddress = host.Http, DefaultRequestHeaders = { { "x-tta-action", "1" } } };
        json = json switch
        {
            "deep" => $"{{\"name\":{new string('[', 10_000)}",
            "long" => $"{{\"name\":\"{new string('x', 60_000)}\"}}",
            _ => json,
        };

        using var answer = json is null ? await http.GetAsync(path) : await http.PostAsync(path, new StringContent(json, Encoding.UTF8, "application/json"));

        Assert.InRange((int)answer.StatusCode, 400, 499);
        var text = await answer.Content.ReadAsStringAsync();
        Assert.InRange(text.Length, 10, 1100);
        var error = JsonDocument.Parse(text).RootElement.GetProperty("error").GetString()!;
        Assert.NotEmpty(error);
        Assert.DoesNotContain(error, char.IsControl);
    }

    [Fact]
    public async Task Body_OfManyBytes_IsRefused()
    {
        await using var host = await TestHost.StartAsync();
        using var http = new HttpClient { BaseAddress = host.Http, DefaultRequestHeaders = { { "x-tta-action", "1" } } };

        using var answer = await http.PostAsync(
            "/api/v1/streams/camera/fork", new StringContent($"{{\"name\":\"{new string('x', 1 << 20)}\"}}", Encoding.UTF8, "application/json"));

        Assert.Equal(HttpStatusCode.RequestEntityTooLarge, answer.StatusCode);
    }

    private static async Task<(HttpStatusCode Status, string Body)> GetAsync(TestHost host, string path, string name)
    {
        using var http = new HttpClient { BaseAddress = host.Http };
        using var request = new HttpRequestMessage(HttpMethod.Get, path) { Headers = { Host = name } };
        using var answer = await http.SendAsync(request);
        return (answer.StatusCode, await answer.Content.ReadAsStringAsync());
    }
}

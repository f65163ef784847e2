using System.IO.Compression;
using System.Net;
using System.Net.Http.Json;
using System.Runtime.InteropServices;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using TtaService.Host.Tests.Infrastructure;

namespace TtaService.Host.Tests.Inference;

/// <summary>The Open Inference Protocol over REST, on the tiny network.</summary>
public sealed class InferenceRestTests : IAsyncLifetime
{
    private const string HeaderLength = "Inference-Header-Content-Length";
    private const string Infer = $"/v2/models/{TestHost.Model}/infer";

    private TestHost _host = null!;
    private HttpClient _client = null!;
    private string _input = string.Empty;

    public async ValueTask InitializeAsync()
    {
        _host = await TestHost.StartAsync();
        _client = new HttpClient { BaseAddress = _host.Http };
        _input = (await GetAsync($"/v2/models/{TestHost.Model}"))["inputs"]![0]!["name"]!.GetValue<string>();
    }

    public async ValueTask DisposeAsync()
    {
        _client.Dispose();
        await _host.DisposeAsync();
    }

    [Fact]
    public async Task Server_Asked_SaysWhatItIs()
    {
        Assert.Equal(HttpStatusCode.OK, (await _client.GetAsync("/v2/health/live")).StatusCode);
        Assert.Equal(HttpStatusCode.OK, (await _client.GetAsync("/v2/health/ready")).StatusCode);
        Assert.Equal(HttpStatusCode.OK, (await _client.GetAsync($"/v2/models/{TestHost.Model}/ready")).StatusCode);
        Assert.Equal(HttpStatusCode.BadRequest, (await _client.GetAsync("/v2/models/other/ready")).StatusCode);
        Assert.Equal("tta", (await GetAsync("/v2"))["name"]!.GetValue<string>());
        Assert.Equal("FP32", (await GetAsync($"/v2/models/{TestHost.Model}/versions/1"))["inputs"]![0]!["datatype"]!.GetValue<string>());
        Assert.Equal("TYPE_FP32", (await GetAsync($"/v2/models/{TestHost.Model}/config"))["input"]![0]!["data_type"]!.GetValue<string>());
        Assert.Equal("READY", JsonNode.Parse(await (await _client.PostAsync("/v2/repository/index", null)).Content.ReadAsStringAsync())![0]!["state"]!.GetValue<string>());
    }

    [Fact]
    public async Task Infer_Json_AnswersAsGrpcDoes()
    {
        var expected = MemoryMarshal.Cast<byte, float>((await _host.StepAsync("source", TestFrames.Tensor(1), method: "source")).Outputs[0].Data.Span).ToArray();

        var reply = await PostAsync(new JsonObject { ["id"] = "7", ["inputs"] = new JsonArray(Input(new JsonObject(), JsonSerializer.SerializeToNode(TestFrames.Values(1)))) });

        Assert.Equal("7", reply["id"]!.GetValue<string>());
        Assert.Equal(expected, reply["outputs"]![0]!["data"]!.AsArray().Select(value => value!.GetValue<float>()));
        var statistics = await GetAsync($"/v2/models/{TestHost.Model}/stats");
        Assert.Equal("1", statistics["model_stats"]![0]!["inference_count"]!.GetValue<string>());
    }

    [Theory]
    [InlineData("")]
    [InlineData("gzip")]
    [InlineData("deflate")]
    public async Task Infer_Binary_AnswersAsJsonDoes(string encoding)
    {
        var json = await PostAsync(new JsonObject { ["inputs"] = new JsonArray(Input(new JsonObject(), JsonSerializer.SerializeToNode(TestFrames.Values(1)))) });
        var tail = MemoryMarshal.AsBytes(TestFrames.Values(1).AsSpan()).ToArray();
        var head = Encoding.UTF8.GetBytes(new JsonObject
        {
            ["inputs"] = new JsonArray(Input(new JsonObject { ["binary_data_size"] = tail.Length }, null)),
            ["parameters"] = new JsonObject { ["binary_data_output"] = true },
        }.ToJsonString());
        using var content = new ByteArrayContent(Packed([.. head, .. tail], encoding));
        content.Headers.Add(HeaderLength, $"{head.Length}");
        if (encoding.Length > 0)
        {
            content.Headers.ContentEncoding.Add(encoding);
        }

        using var response = await _client.PostAsync(Infer, content);

        Assert.Equal(HttpStatusCode.OK, response.StatusCode);
        var body = await response.Content.ReadAsByteArrayAsync();
        var length = int.Parse(response.Headers.TryGetValues(HeaderLength, out var values) ? values.Single() : response.Content.Headers.GetValues(HeaderLength).Single(),
            System.Globalization.CultureInfo.InvariantCulture);
        var output = JsonNode.Parse(body.AsSpan(0, length))!["outputs"]![0]!;
        Assert.Equal(body.Length - length, output["parameters"]!["binary_data_size"]!.GetValue<int>());
        Assert.Equal(json["outputs"]![0]!["data"]!.AsArray().Select(value => value!.GetValue<float>()), MemoryMarshal.Cast<byte, float>(body.AsSpan(length)).ToArray());
    }

    [Fact]
    public async Task Infer_Sequence_IsAStream()
    {
        for (var step = 1; step <= 3; step++)
        {
            var reply = await PostAsync(new JsonObject
            {
                ["inputs"] = new JsonArray(Input(new JsonObject(), JsonSerializer.SerializeToNode(TestFrames.Values(step)))),
                ["parameters"] = new JsonObject { ["sequence_id"] = "camera", ["sequence_start"] = step == 1, ["sequence_end"] = false },
            });
            Assert.Equal(step, reply["parameters"]!["tta_step"]!.GetValue<int>());
        }

        Assert.Equal(3, (await _host.GetAsync("camera")).Age.Steps);
    }

    [Theory]
    [InlineData("/v2/models/other/infer", "{}", 404, "Request for unknown model: 'other' is not found")]
    [InlineData(Infer, "{", 400, "failed to parse the request JSON buffer")]
    [InlineData(Infer, "[]", 400, "failed to parse the request JSON buffer")]
    [InlineData(Infer, "{}", 400, "expected 1 inputs but got 0 inputs")]
    [InlineData(Infer, "{\"inputs\":[{\"name\":\"x\"}]}", 400, "'datatype' is missing")]
    [InlineData(Infer, "{\"inputs\":[{\"name\":\"x\",\"datatype\":\"FP32\",\"shape\":[2],\"data\":[1]}]}", 400, "has 1 elements, not the 2")]
    [InlineData(Infer, "{\"inputs\":[{\"name\":\"x\",\"datatype\":\"UINT8\",\"shape\":[1],\"data\":[300]}]}", 400, "failed to parse")]
    [InlineData(Infer, "{\"inputs\":[{\"name\":\"x\",\"datatype\":\"FP32\",\"shape\":[1],\"parameters\":{\"binary_data_size\":4}}]}", 400, "binary_data_size of input")]
    public async Task Infer_Wrong_SaysSo(string path, string body, int status, string says)
    {
        using var response = await _client.PostAsync(path, new StringContent(body));

        Assert.Equal(status, (int)response.StatusCode);
        Assert.Contains(says, JsonNode.Parse(await response.Content.ReadAsStringAsync())!["error"]!.GetValue<string>(), StringComparison.Ordinal);
    }

    [Fact]
    public async Task Infer_TooLargeOrBomb_IsRefused()
    {
        await using var small = await TestHost.StartAsync("--Server:MaxMessageBytes=65536");
        using var client = new HttpClient { BaseAddress = small.Http };
        using var packed = new ByteArrayContent(Packed(new byte[10_000_000], "gzip"));
        packed.Headers.ContentEncoding.Add("gzip");

        using var bomb = await client.PostAsync(Infer, packed);
        using var large = await client.PostAsync(Infer, new ByteArrayContent(new byte[100_000]));

        foreach (var response in new[] { bomb, large })
        {
            Assert.Equal(HttpStatusCode.BadRequest, response.StatusCode);
            Assert.Contains("Server:MaxMessageBytes", await response.Content.ReadAsStringAsync(), StringComparison.Ordinal);
        }
    }

    [Fact]
    public async Task Infer_FromAPageOfAnotherSite_IsRefused()
    {
        using var request = new HttpRequestMessage(HttpMethod.Post, Infer) { Content = new StringContent("{}") };
        request.Headers.Add("Origin", "https://elsewhere.example");

        using var response = await _client.SendAsync(request);

        Assert.Contains("other sites", await response.Content.ReadAsStringAsync(), StringComparison.Ordinal);
    }

    private static byte[] Packed(byte[] bytes, string encoding)
    {
        if (encoding.Length == 0)
        {
            return bytes;
        }

        using var packed = new MemoryStream();
        using (Stream packer = encoding == "gzip" ? new GZipStream(packed, CompressionLevel.Fastest) : new ZLibStream(packed, CompressionLevel.Fastest))
        {
            packer.Write(bytes);
        }

        return packed.ToArray();
    }

    private JsonObject Input(JsonObject parameters, JsonNode? data)
    {
        var input = new JsonObject { ["name"] = _input, ["datatype"] = "FP32", ["shape"] = new JsonArray(1, 3, 16, 16), ["parameters"] = parameters };
        if (data is not null)
        {
            input["data"] = data;
        }

        return input;
    }

    private async Task<JsonNode> GetAsync(string path) => JsonNode.Parse(await _client.GetStringAsync(path))!;

    private async Task<JsonNode> PostAsync(JsonObject request)
    {
        using var response = await _client.PostAsJsonAsync(Infer, request);
        var text = await response.Content.ReadAsStringAsync();
        Assert.True(response.IsSuccessStatusCode, text);
        return JsonNode.Parse(text)!;
    }
}

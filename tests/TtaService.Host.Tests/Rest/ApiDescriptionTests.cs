using System.Text.Json;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.OpenApi;
using TtaService.Host.Tests.Infrastructure;

namespace TtaService.Host.Tests.Rest;

/// <summary>The OpenAPI document at /openapi/v1.json.</summary>
public sealed class ApiDescriptionTests
{
    // The document itself, and the page's own files.
    private static readonly string[] Undescribed =
    [
        "/openapi/{documentName}.json", "/", "/app.js", "/api.js", "/fleet.js", "/service.js", "/stream.js", "/streams.js", "/strips.js", "/style.css", "/icon.svg",
    ];

    [Fact]
    public async Task Document_OfAReader_IsValidAndHasEveryRoute()
    {
        await using var host = await TestHost.StartAsync();

        var (document, text) = await ReadAsync(host);

        var described = document.Paths.SelectMany(path => path.Value.Operations!.Keys.Select(method => $"{method} {path.Key}")).ToHashSet(StringComparer.Ordinal);
        var routes = host.Host.Services.GetServices<EndpointDataSource>().Concat(((IEndpointRouteBuilder)host.Host).DataSources)
            .SelectMany(source => source.Endpoints).OfType<RouteEndpoint>().Where(IsHttp).SelectMany(Routes).Distinct().Order(StringComparer.Ordinal).ToList();
        Assert.True(routes.Count > 30, $"only {routes.Count} routes");
        Assert.Equal([], routes.Where(route => !described.Contains(route)));
        Assert.All(document.Paths.SelectMany(path => path.Value.Operations!), operation => Assert.Contains(operation.Value.Responses!.Keys, status => status[0] == '2'));
        Assert.DoesNotContain("Anonymous", text, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Actions_SayTheHeaderThatTheyNeed_AndReadersNeedNone()
    {
        await using var host = await TestHost.StartAsync();

        var (document, _) = await ReadAsync(host);

        bool Needs(string path, HttpMethod method) =>
            document.Paths[path].Operations![method].Parameters?.Any(parameter => parameter is { Name: "x-tta-action", Required: true }) ?? false;
        Assert.True(Needs("/v1/streams/{name}/reset", HttpMethod.Post));
        Assert.True(Needs("/v1/streams/{name}", HttpMethod.Delete));
        Assert.False(Needs("/v1/streams/{name}", HttpMethod.Get));
        Assert.False(Needs("/v2/models/{model}/infer", HttpMethod.Post));
    }

    [Fact]
    public async Task Schemas_OfMessages_DescribeWhatIsAnswered()
    {
        await using var host = await TestHost.StartAsync();
        await host.StepAsync("camera", TestFrames.Tensor(1));
        var (document, _) = await ReadAsync(host);
        using var http = new HttpClient { BaseAddress = host.Http };
        foreach (var (path, of) in new[]
        {
            ("v1/streams/camera", "/v1/streams/{name}"),
            ("v1/streams", "/v1/streams"),
            ($"v1/models/{TestHost.Model}", "/v1/models/{name}"),
            ($"v2/models/{TestHost.Model}", "/v2/models/{model}"),
            ($"v2/models/{TestHost.Model}/config", "/v2/models/{model}/config"),
            ("v2/models/stats", "/v2/models/stats"),
            ("v2", "/v2"),
            ("api/v1/streams/camera", "/api/v1/streams/{name}"),
        })
        {
            using var json = JsonDocument.Parse(await http.GetStringAsync(new Uri(path, UriKind.Relative), TestContext.Current.CancellationToken));
            Check(path, json.RootElement, document.Paths[of].Operations![HttpMethod.Get].Responses!["200"].Content!["application/json"].Schema!);
        }
    }

    private static void Check(string where, JsonElement value, IOpenApiSchema schema)
    {
        var type = schema.Type;
        if (type is null)
        {
            return;
        }

        var fits = value.ValueKind switch
        {
            JsonValueKind.Object => JsonSchemaType.Object,
            JsonValueKind.Array => JsonSchemaType.Array,
            JsonValueKind.String => JsonSchemaType.String,
            JsonValueKind.Number => JsonSchemaType.Number | JsonSchemaType.Integer,
            JsonValueKind.Null => JsonSchemaType.Null,
            _ => JsonSchemaType.Boolean,
        };
        Assert.True((type & fits) != 0, $"{where} is {value.ValueKind}, described as {type}");
        if (value.ValueKind == JsonValueKind.Object && schema.Properties is { Count: > 0 } properties)
        {
            foreach (var member in value.EnumerateObject())
            {
                Assert.True(properties.TryGetValue(member.Name, out var part), $"{where}.{member.Name} is not described");
                Check($"{where}.{member.Name}", member.Value, part);
            }
        }
        else if (value.ValueKind == JsonValueKind.Array && schema.Items is { } items)
        {
            Assert.All(value.EnumerateArray(), item => Check($"{where}[]", item, items));
        }
    }

    private static async Task<(OpenApiDocument Document, string Text)> ReadAsync(TestHost host)
    {
        using var http = new HttpClient { BaseAddress = host.Http };
        var text = await http.GetStringAsync(new Uri("openapi/v1.json", UriKind.Relative), TestContext.Current.CancellationToken);
        var read = OpenApiDocument.Parse(text, OpenApiConstants.Json);
        Assert.Empty(read.Diagnostic!.Errors);
        Assert.Empty(read.Diagnostic.Warnings);
        var document = read.Document!;
        var problems = document.Validate(ValidationRuleSet.GetDefaultRuleSet());
        Assert.Empty(problems);
        return (document, text);
    }

    private static bool IsHttp(RouteEndpoint endpoint) =>
        !endpoint.Metadata.OfType<global::Grpc.AspNetCore.Server.GrpcMethodMetadata>().Any()
        && !Undescribed.Contains(Path(endpoint))
        && !(endpoint.DisplayName ?? string.Empty).StartsWith("gRPC", StringComparison.Ordinal);

    private static string Path(RouteEndpoint endpoint) => $"/{endpoint.RoutePattern.RawText!.Trim('/')}";

    private static IEnumerable<string> Routes(RouteEndpoint endpoint) =>
        (endpoint.Metadata.GetMetadata<IHttpMethodMetadata>()?.HttpMethods ?? ["GET"]).Select(method => $"{method} {Path(endpoint)}");
}

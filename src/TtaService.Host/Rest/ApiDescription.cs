using System.Globalization;
using System.Runtime.CompilerServices;
using Microsoft.AspNetCore.OpenApi;
using Microsoft.OpenApi;
using TtaService.Host.Hosting;
using TtaService.Host.Inference;

namespace TtaService.Host.Rest;

/// <summary>The OpenAPI document of the HTTP port, at <c>/openapi/v1.json</c>.</summary>
internal static class ApiDescription
{
    private const string Text = "text/plain";

    public static void Configure(OpenApiOptions options)
    {
        // Types without a name are written where they are used.
        options.CreateSchemaReferenceId = type => type.Type.IsDefined(typeof(CompilerGeneratedAttribute), inherit: false) || type.Type.IsGenericType
            ? null
            : OpenApiOptions.CreateDefaultSchemaReferenceId(type);
        options.AddOperationTransformer(DescribeAsync);
        options.AddDocumentTransformer(DescribeAsync);
    }

    private static Task DescribeAsync(OpenApiOperation operation, OpenApiOperationTransformerContext context, CancellationToken cancel)
    {
        var document = context.Document!;
        var metadata = context.Description.ActionDescriptor.EndpointMetadata;
        operation.Responses ??= [];
        if (metadata.OfType<ResponseShape>().Any())
        {
            // What was guessed for a route that writes its body by itself.
            operation.Responses.Remove("200");
        }

        foreach (var response in metadata.OfType<ResponseShape>())
        {
            operation.Responses[response.Status.ToString(CultureInfo.InvariantCulture)] = new OpenApiResponse
            {
                Description = response.Status == StatusCodes.Status201Created ? "Created" : "OK",
                Content = Body(response, document),
            };
        }

        if (metadata.OfType<RequestShape>().FirstOrDefault() is { } request)
        {
            operation.RequestBody = new OpenApiRequestBody { Required = request.Required, Content = Body(request, document) };
        }

        if (metadata.OfType<OperatorsOnly>().Any() && !HttpMethods.IsGet(context.Description.HttpMethod!))
        {
            (operation.Parameters ??= []).Add(new OpenApiParameter
            {
                Name = Operators.Header,
                In = ParameterLocation.Header,
                Required = true,
                Description = "Any value. Who may act says Dashboard:AllowActions.",
                Schema = new OpenApiSchema { Type = JsonSchemaType.String },
            });
        }

        operation.Responses["default"] = Error(document);
        return Task.CompletedTask;
    }

    private static Task DescribeAsync(OpenApiDocument document, OpenApiDocumentTransformerContext context, CancellationToken cancel)
    {
        document.Info = new OpenApiInfo
        {
            Title = "TtaService",
            Version = InferenceServer.ProgramVersion,
            Description = "The HTTP port: the Open Inference Protocol (/v2), streams and models as resources (/v1), what the dashboard shows (/api/v1), probes and metrics. "
                + "The gRPC port has the same and more, see protos/.",
        };
        document.Paths["/health/live"] = Probe("Whether the process is well.");
        document.Paths["/health/ready"] = Probe("Whether streams can be served.");
        document.Paths["/metrics"] = Get("What Prometheus scrapes.", new() { ["200"] = new OpenApiResponse { Description = "OK", Content = TextBody() } });
        return Task.CompletedTask;
    }

    // Endpoints of libraries, which tell nothing of themselves.
    private static OpenApiPathItem Probe(string summary) => Get(summary, new()
    {
        ["200"] = new OpenApiResponse { Description = "It is.", Content = TextBody() },
        ["503"] = new OpenApiResponse { Description = "It is not; why.", Content = TextBody() },
    });

    private static OpenApiPathItem Get(string summary, OpenApiResponses responses) => new()
    {
        Operations = new() { [HttpMethod.Get] = new OpenApiOperation { Summary = summary, Responses = responses } },
    };

    private static Dictionary<string, OpenApiMediaType> Body(BodyShape shape, OpenApiDocument document) =>
        new() { [shape.Type] = new OpenApiMediaType { Schema = shape.Schema(document) } };

    private static Dictionary<string, OpenApiMediaType> TextBody() => new() { [Text] = new OpenApiMediaType { Schema = new OpenApiSchema { Type = JsonSchemaType.String } } };

    private static OpenApiResponse Error(OpenApiDocument document)
    {
        const string Id = "Error";
        if (document.Components?.Schemas?.ContainsKey(Id) is not true)
        {
            document.AddComponent(Id, new OpenApiSchema
            {
                Type = JsonSchemaType.Object,
                Required = new HashSet<string> { "error" },
                Properties = new Dictionary<string, IOpenApiSchema>
                {
                    ["error"] = new OpenApiSchema { Type = JsonSchemaType.String, Description = "What was wrong, the value seen, what to do." },
                    ["reason"] = new OpenApiSchema { Type = JsonSchemaType.String, Description = "For programs: STREAM_NOT_FOUND, …" },
                },
            });
        }

        return new OpenApiResponse
        {
            Description = "Refused, with the status that says of what kind: 400, 403, 404, 409, 429, 499, 500, 503, 504.",
            Content = new Dictionary<string, OpenApiMediaType> { ["application/json"] = new OpenApiMediaType { Schema = new OpenApiSchemaReference(Id, document) } },
        };
    }
}

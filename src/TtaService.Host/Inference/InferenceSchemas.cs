using System.Text.Json.Nodes;
using Microsoft.OpenApi;
using TtaService.Host.Rest;
using TtaService.Inference;

namespace TtaService.Host.Inference;

/// <summary>What the protocol's REST carries, for the OpenAPI document; the rest is as in <c>protos/inference</c>.</summary>
internal static class InferenceSchemas
{
    private static readonly string[] Datatypes = [.. Enum.GetValues<Datatype>().Select(datatype => datatype.Name())];

    public static IOpenApiSchema Index(OpenApiDocument document) => ArrayOf(ProtoSchemas.Of(RepositoryIndexResponse.Types.ModelIndex.Descriptor, document));

    public static IOpenApiSchema Model(OpenApiDocument document) => Named(document, "inference.ModelMetadata", new()
    {
        ["name"] = Text(),
        ["versions"] = ArrayOf(Text()),
        ["platform"] = Text(),
        ["inputs"] = ArrayOf(Metadata(document)),
        ["outputs"] = ArrayOf(Metadata(document)),
    });

    /// <summary>An optional object whose parameters are all refused but none.</summary>
    public static IOpenApiSchema Load(OpenApiDocument document) => Named(document, "inference.LoadRequest", new() { ["parameters"] = Parameters() });

    public static IOpenApiSchema Request(OpenApiDocument document) => Named(document, "inference.InferRequest", new()
    {
        ["id"] = Text(),
        ["parameters"] = Parameters(
            "sequence_id, sequence_start, sequence_end, priority, timeout, binary_data_output, tta_method, tta_freeze, tta_reset, tta_resume, tta_keep, tta_unfiltered"),
        ["inputs"] = ArrayOf(Tensor(document)),
        ["outputs"] = ArrayOf(Named(document, "inference.RequestedOutput", new() { ["name"] = Text(), ["parameters"] = Parameters("classification, binary_data") }, "name")),
    }, "inputs");

    public static IOpenApiSchema Response(OpenApiDocument document) => Named(document, "inference.InferResponse", new()
    {
        ["id"] = Text(),
        ["model_name"] = Text(),
        ["model_version"] = Text(),
        ["parameters"] = Parameters("tta_stream, tta_method, tta_state, tta_step, tta_filtered, tta_learned, tta_not_learned, tta_rolled_back, tta_drift_level, tta_drift"),
        ["outputs"] = ArrayOf(Tensor(document)),
    }, "model_name", "outputs");

    private static OpenApiSchemaReference Metadata(OpenApiDocument document) => Named(document, "inference.TensorMetadata", new()
    {
        ["name"] = Text(),
        ["datatype"] = Datatype(),
        ["shape"] = Shape("-1 for what may differ."),
    });

    private static OpenApiSchemaReference Tensor(OpenApiDocument document) => Named(document, "inference.Tensor", new()
    {
        ["name"] = Text(),
        ["datatype"] = Datatype(),
        ["shape"] = Shape(null),
        ["parameters"] = Parameters("binary_data_size: so many bytes behind the JSON, whose length Inference-Header-Content-Length says, instead of data"),
        ["data"] = new OpenApiSchema { Type = JsonSchemaType.Array, Items = new OpenApiSchema(), Description = "Row by row, flat or nested; BYTES as strings." },
    }, "name", "datatype", "shape");

    private static OpenApiSchemaReference Named(OpenApiDocument document, string id, Dictionary<string, IOpenApiSchema> properties, params string[] required)
    {
        if (document.Components?.Schemas?.ContainsKey(id) is not true)
        {
            document.AddComponent(id, new OpenApiSchema { Type = JsonSchemaType.Object, Properties = properties, Required = required.ToHashSet() });
        }

        return new OpenApiSchemaReference(id, document);
    }

    private static OpenApiSchema Text() => new() { Type = JsonSchemaType.String };

    private static OpenApiSchema Datatype() => new() { Type = JsonSchemaType.String, Enum = [.. Datatypes.Select(name => (JsonNode)name)] };

    private static OpenApiSchema Shape(string? description) =>
        new() { Type = JsonSchemaType.Array, Items = new OpenApiSchema { Type = JsonSchemaType.Integer, Format = "int64" }, Description = description };

    private static OpenApiSchema ArrayOf(IOpenApiSchema items) => new() { Type = JsonSchemaType.Array, Items = items };

    private static OpenApiSchema Parameters(string? description = null) => new()
    {
        Type = JsonSchemaType.Object,
        AdditionalProperties = new OpenApiSchema { Type = JsonSchemaType.String | JsonSchemaType.Number | JsonSchemaType.Boolean },
        Description = description,
    };
}

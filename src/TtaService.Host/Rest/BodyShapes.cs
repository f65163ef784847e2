using Google.Protobuf.Reflection;
using Microsoft.OpenApi;

namespace TtaService.Host.Rest;

/// <summary>A body of a route that reads or writes it by itself, for the OpenAPI document.</summary>
/// <param name="Type">Its media type.</param>
/// <param name="Schema">Its schema, whose parts are added to the document.</param>
internal abstract record BodyShape(string Type, Func<OpenApiDocument, IOpenApiSchema> Schema);

/// <summary>What it takes.</summary>
internal sealed record RequestShape(string Type, Func<OpenApiDocument, IOpenApiSchema> Schema, bool Required = true) : BodyShape(Type, Schema);

/// <summary>What it gives, with which status.</summary>
internal sealed record ResponseShape(string Type, Func<OpenApiDocument, IOpenApiSchema> Schema, int Status) : BodyShape(Type, Schema);

/// <summary>Says what a route takes and gives.</summary>
internal static class BodyShapes
{
    private const string Json = "application/json";
    private const string File = "application/octet-stream";

    public static RouteHandlerBuilder Takes(this RouteHandlerBuilder route, MessageDescriptor message) =>
        route.WithMetadata(new RequestShape(Json, document => ProtoSchemas.Of(message, document)));

    public static RouteHandlerBuilder Gives(this RouteHandlerBuilder route, MessageDescriptor message, int status = StatusCodes.Status200OK) =>
        route.WithMetadata(new ResponseShape(Json, document => ProtoSchemas.Of(message, document), status));

    public static RouteHandlerBuilder Takes(this RouteHandlerBuilder route, Func<OpenApiDocument, IOpenApiSchema> schema, bool required = true) =>
        route.WithMetadata(new RequestShape(Json, schema, required));

    public static RouteHandlerBuilder Gives(this RouteHandlerBuilder route, Func<OpenApiDocument, IOpenApiSchema> schema) =>
        route.WithMetadata(new ResponseShape(Json, schema, StatusCodes.Status200OK));

    /// <summary>An object of a few fields.</summary>
    public static RouteHandlerBuilder Takes(this RouteHandlerBuilder route, bool required, params (string Name, JsonSchemaType Type)[] fields) =>
        route.WithMetadata(new RequestShape(Json, _ => Object(fields), required));

    public static RouteHandlerBuilder TakesFile(this RouteHandlerBuilder route) => route.WithMetadata(new RequestShape(File, _ => Bytes()));

    public static RouteHandlerBuilder GivesFile(this RouteHandlerBuilder route) => route.WithMetadata(new ResponseShape(File, _ => Bytes(), StatusCodes.Status200OK));

    private static OpenApiSchema Object((string Name, JsonSchemaType Type)[] fields) => new()
    {
        Type = JsonSchemaType.Object,
        Properties = fields.ToDictionary(field => field.Name, field => (IOpenApiSchema)new OpenApiSchema { Type = field.Type }),
    };

    private static OpenApiSchema Bytes() => new() { Type = JsonSchemaType.String, Format = "binary" };
}

using System.Text.Json.Nodes;
using Google.Protobuf.Reflection;
using Google.Protobuf.WellKnownTypes;
using Microsoft.OpenApi;

namespace TtaService.Host.Rest;

/// <summary>Schemas of messages as protobuf writes them in JSON: whole numbers of 64 bits are strings, enums their names, bytes base64.</summary>
internal static class ProtoSchemas
{
    /// <summary>A reference to a message's schema, which is added with all that it refers to.</summary>
    public static IOpenApiSchema Of(MessageDescriptor message, OpenApiDocument document)
    {
        if (WellKnown(message) is { } known)
        {
            return known;
        }

        var id = message.FullName;
        if (document.Components?.Schemas?.ContainsKey(id) is not true)
        {
            var schema = new OpenApiSchema { Type = JsonSchemaType.Object, Properties = new Dictionary<string, IOpenApiSchema>() };
            // Before its fields: a message may hold itself.
            document.AddComponent(id, schema);
            foreach (var field in message.Fields.InDeclarationOrder())
            {
                schema.Properties[field.Name] = Of(field, document);
            }
        }

        return new OpenApiSchemaReference(id, document);
    }

    private static IOpenApiSchema Of(FieldDescriptor field, OpenApiDocument document)
    {
        if (field.IsMap)
        {
            return new OpenApiSchema { Type = JsonSchemaType.Object, AdditionalProperties = Single(field.MessageType.FindFieldByNumber(2), document) };
        }

        var single = Single(field, document);
        return field.IsRepeated ? new OpenApiSchema { Type = JsonSchemaType.Array, Items = single } : single;
    }

    private static IOpenApiSchema Single(FieldDescriptor field, OpenApiDocument document) => field.FieldType switch
    {
        FieldType.Message => Of(field.MessageType, document),
        FieldType.Enum => new OpenApiSchema { Type = JsonSchemaType.String, Enum = [.. field.EnumType.Values.Select(value => (JsonNode)value.Name)] },
        FieldType.Bool => new OpenApiSchema { Type = JsonSchemaType.Boolean },
        FieldType.Double => new OpenApiSchema { Type = JsonSchemaType.Number, Format = "double" },
        FieldType.Float => new OpenApiSchema { Type = JsonSchemaType.Number, Format = "float" },
        FieldType.String => new OpenApiSchema { Type = JsonSchemaType.String },
        FieldType.Bytes => new OpenApiSchema { Type = JsonSchemaType.String, Format = "byte" },
        FieldType.Int64 or FieldType.SInt64 or FieldType.SFixed64 => new OpenApiSchema { Type = JsonSchemaType.String, Format = "int64" },
        FieldType.UInt64 or FieldType.Fixed64 => new OpenApiSchema { Type = JsonSchemaType.String, Format = "uint64" },
        _ => new OpenApiSchema { Type = JsonSchemaType.Integer, Format = "int32" },
    };

    private static OpenApiSchema? WellKnown(MessageDescriptor message) => message.FullName switch
    {
        var name when name == Timestamp.Descriptor.FullName => new OpenApiSchema { Type = JsonSchemaType.String, Format = "date-time" },
        var name when name == Duration.Descriptor.FullName => new OpenApiSchema { Type = JsonSchemaType.String, Pattern = @"^-?\d+(\.\d+)?s$" },
        var name when name == Struct.Descriptor.FullName => new OpenApiSchema { Type = JsonSchemaType.Object, AdditionalPropertiesAllowed = true },
        _ => null,
    };
}

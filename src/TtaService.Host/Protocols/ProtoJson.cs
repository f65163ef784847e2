using System.Text.Json;
using Google.Protobuf;
using TtaService.Engine;
using TtaService.Serving.Streams;

namespace TtaService.Host.Protocols;

/// <summary>Messages of the wire contract as JSON: protobuf's own mapping, with the names of the .proto files and with fields that have their default.</summary>
internal static class ProtoJson
{
    private static readonly JsonFormatter Formatter = new(JsonFormatter.Settings.Default.WithPreserveProtoFieldNames(true).WithFormatDefaultValues(true));

    public static string Format(IMessage message) => Formatter.Format(message);

    public static IResult Answer(IMessage message, int status = StatusCodes.Status200OK) => Results.Text(Format(message), "application/json", statusCode: status);

    /// <summary>A message, and the fields that the JSON names, by the names of the .proto file.</summary>
    /// <exception cref="FailureException">It is no JSON object, or has what the message has not.</exception>
    public static (T Message, IReadOnlyList<string> Fields) Parse<T>(string json)
        where T : IMessage<T>, new()
    {
        try
        {
            var message = JsonParser.Default.Parse<T>(json);
            using var parsed = JsonDocument.Parse(json);
            var named = parsed.RootElement.EnumerateObject().Select(member => member.Name).ToHashSet(StringComparer.Ordinal);
            var fields = message.Descriptor.Fields.InDeclarationOrder().Where(field => named.Contains(field.Name) || named.Contains(field.JsonName));
            return (message, [.. fields.Select(field => field.Name)]);
        }
        catch (Exception unreadable) when (unreadable is InvalidJsonException or InvalidProtocolBufferException or JsonException or FormatException or OverflowException)
        {
            throw new FailureException(Failure.Invalid(
                "REQUEST_UNREADABLE",
                "body",
                $"the body is no JSON of a {new T().Descriptor.Name}: {ForeignText.Clip(unreadable.Message)}"));
        }
    }
}

using System.Text;
using System.Text.Json;
using System.Text.Json.Serialization;
using TtaService.Engine;
using TtaService.Host.Grpc;
using TtaService.Host.Protocols;
using TtaService.Serving.Front;
using TtaService.Serving.Streams;
using TtaService.V1;
using Stream = TtaService.V1.Stream;

namespace TtaService.Host.Rest;

/// <summary>What can be done to a stream over HTTP, each by its route; the dashboard's routes lead here, too.</summary>
internal static class StreamActions
{
    private static readonly JsonSerializerOptions Json = new(JsonSerializerDefaults.Web) { UnmappedMemberHandling = JsonUnmappedMemberHandling.Disallow };

    public static async Task<IResult> CreateAsync(HttpContext context, IStreamOperations streams)
    {
        var (stream, _) = await ReadAsync(context.Request).ConfigureAwait(false);
        var request = StreamRequests.Read(stream) with { Client = context.Connection.RemoteIpAddress?.ToString() ?? string.Empty };
        var created = (await streams.CreateAsync(request).ConfigureAwait(false)).OrThrow();
        context.Response.Headers.Location = $"{StreamEndpoints.Path}/{created.Name}";
        return ProtoJson.Answer(Replies.ToWire(created), StatusCodes.Status201Created);
    }

    /// <summary>Changes the settings that the body names.</summary>
    public static async Task<IResult> UpdateAsync(HttpContext context, IStreamOperations streams, string name)
    {
        var (stream, fields) = await ReadAsync(context.Request).ConfigureAwait(false);
        var mask = new Google.Protobuf.WellKnownTypes.FieldMask { Paths = { fields } };
        return await AnswerAsync(streams.UpdateAsync(Key(name), StreamRequests.ReadUpdate(stream, mask))).ConfigureAwait(false);
    }

    public static Task<IResult> ResetAsync(IStreamOperations streams, string name) => AnswerAsync(streams.ResetAsync(Key(name)));

    public static async Task<IResult> FreezeAsync(HttpContext context, IStreamOperations streams, string name) =>
        await SetFrozenAsync(streams, name, (await ReadAsync<FreezeRequest>(context.Request).ConfigureAwait(false))?.Frozen ?? true).ConfigureAwait(false);

    public static Task<IResult> UnfreezeAsync(IStreamOperations streams, string name) => SetFrozenAsync(streams, name, false);

    public static async Task<IResult> ForkAsync(HttpContext context, IStreamOperations streams, string name)
    {
        var request = await ReadAsync<ForkRequest>(context.Request).ConfigureAwait(false);
        return await AnswerAsync(streams.ForkAsync(Key(name), Key(request?.Name ?? string.Empty))).ConfigureAwait(false);
    }

    public static async Task<IResult> RollBackAsync(HttpContext context, IStreamOperations streams, string name)
    {
        var request = await ReadAsync<RollBackRequest>(context.Request).ConfigureAwait(false);
        return await AnswerAsync(streams.RollBackAsync(Key(name), request?.Checkpoint ?? 0)).ConfigureAwait(false);
    }

    public static async Task<IResult> ExportAsync(IStreamOperations streams, string name) =>
        Results.File((await streams.ExportAsync(Key(name)).ConfigureAwait(false)).OrThrow(), "application/octet-stream", $"{name}.safetensors");

    public static async Task<IResult> ImportAsync(HttpContext context, RequestBodies bodies, IStreamOperations streams, string name, string? model)
    {
        using var snapshot = await bodies.ReadAsync(context).ConfigureAwait(false);
        return await AnswerAsync(streams.ImportAsync(Key(name), model ?? string.Empty, snapshot.Bytes)).ConfigureAwait(false);
    }

    public static async Task<IResult> DeleteAsync(IStreamOperations streams, string name)
    {
        _ = (await streams.DeleteAsync(Key(name)).ConfigureAwait(false)).OrThrow();
        return Results.NoContent();
    }

    /// <exception cref="FailureException">No stream may be called this.</exception>
    public static StreamKey Key(string name) => StreamKey.Checked(name, "name");

    public static async Task<IResult> AnswerAsync(Task<Outcome<StreamDescription>> operation) =>
        ProtoJson.Answer(Replies.ToWire((await operation.ConfigureAwait(false)).OrThrow()));

    private static Task<IResult> SetFrozenAsync(IStreamOperations streams, string name, bool frozen) =>
        AnswerAsync(streams.UpdateAsync(Key(name), settings => settings with { Frozen = frozen }));

    private static async Task<(Stream Stream, IReadOnlyList<string> Fields)> ReadAsync(HttpRequest request) =>
        ProtoJson.Parse<Stream>(await TextAsync(request).ConfigureAwait(false));

    // Whatever Content-Type says: curl calls JSON a form. Null when there is no body.
    private static async Task<T?> ReadAsync<T>(HttpRequest request)
        where T : class
    {
        var text = await TextAsync(request).ConfigureAwait(false);
        try
        {
            return text.Length == 0 ? null : JsonSerializer.Deserialize<T>(text, Json);
        }
        catch (JsonException unreadable)
        {
            throw new FailureException(Failure.Invalid("REQUEST_UNREADABLE", "body", $"the body is not the JSON that is wanted: {ForeignText.Clip(unreadable.Message)}"));
        }
    }

    // Kestrel bounds the bytes, and how slowly they may come.
    private static async Task<string> TextAsync(HttpRequest request)
    {
        using var reader = new StreamReader(request.Body, Encoding.UTF8);
        return await reader.ReadToEndAsync(request.HttpContext.RequestAborted).ConfigureAwait(false);
    }

    private sealed record FreezeRequest(bool? Frozen);

    private sealed record ForkRequest(string? Name);

    private sealed record RollBackRequest(long? Checkpoint);
}

using System.Globalization;
using System.Text;
using System.Text.Json;
using TtaService.Host.Protocols;
using TtaService.Host.Rest;
using TtaService.Inference;
using TtaService.Serving.Streams;

namespace TtaService.Host.Inference;

/// <summary>The Open Inference Protocol over REST, on the HTTP port.</summary>
internal static class InferenceEndpoints
{
    private const string HeaderLength = "Inference-Header-Content-Length";

    public static IEndpointConventionBuilder MapInference(this IEndpointRouteBuilder endpoints)
    {
        var v2 = endpoints.MapGroup("/v2").WithTags("inference");
        v2.MapGet("", (InferenceServer server) => new { name = server.Name, version = InferenceServer.ProgramVersion, extensions = InferenceServer.Extensions })
            .WithSummary("The server's name, version and extensions.").Gives(ServerMetadataResponse.Descriptor);
        v2.MapGet("/health/live", () => Results.Ok()).WithSummary("Whether the server answers.").Produces(StatusCodes.Status200OK);
        v2.MapGet(
            "/health/ready",
            async (InferenceServer server, CancellationToken cancel) =>
                await server.IsReadyAsync(cancel).ConfigureAwait(false) ? Results.Ok() : Results.StatusCode(StatusCodes.Status503ServiceUnavailable))
            .WithSummary("Whether models can be asked.").Produces(StatusCodes.Status200OK).Produces(StatusCodes.Status503ServiceUnavailable);
        v2.MapPost("/repository/index", (InferenceModels models) => models.Index().Select(model => new
        {
            name = model.Name,
            version = model.Version,
            state = model.Reason.Length == 0 ? "READY" : "UNAVAILABLE",
            reason = model.Reason,
        })).WithSummary("What the model repository holds.").Gives(InferenceSchemas.Index);
        v2.MapPost("/repository/models/{model}/load", LoadAsync)
            .WithSummary("Loads a model as its folder is now, anew or for the first time.").Takes(InferenceSchemas.Load, required: false).Produces(StatusCodes.Status200OK);
        v2.MapPost("/repository/models/{model}/unload", UnloadAsync).WithSummary("Serves a model no more; what its streams learned is saved.").Produces(StatusCodes.Status200OK);
        v2.MapGet("/models/stats", (InferenceModels models) => Statistics(models, string.Empty, string.Empty))
            .WithSummary("Requests and durations of all models.").Gives(ModelStatisticsResponse.Descriptor);
        foreach (var model in new[] { "/models/{model}", "/models/{model}/versions/{version}" })
        {
            v2.MapGet(model, (InferenceModels models, string model, string? version) => Describe(models.Find(model, version ?? string.Empty).Description))
                .WithSummary("A model's inputs and outputs.").Gives(InferenceSchemas.Model);
            v2.MapGet(
                model + "/ready",
                (InferenceModels models, string model, string? version) => models.IsReady(model, version ?? string.Empty) ? Results.Ok() : Results.BadRequest())
                .WithSummary("Whether a model can be asked.").Produces(StatusCodes.Status200OK).Produces(StatusCodes.Status400BadRequest);
            v2.MapGet(
                model + "/config",
                (InferenceModels models, string model, string? version) => ProtoJson.Answer(ModelConfigs.Of(models.Find(model, version ?? string.Empty).Description)))
                .WithSummary("A model's configuration as Triton writes it.").Gives(ModelConfig.Descriptor);
            v2.MapGet(model + "/stats", (InferenceModels models, string model, string? version) => Statistics(models, model, version ?? string.Empty))
                .WithSummary("A model's requests and durations.").Gives(ModelStatisticsResponse.Descriptor);
            v2.MapPost(model + "/infer", InferAsync)
                .WithSummary("Asks a model; with sequence_id as a step of a stream. Binary tensors follow the JSON.")
                .Takes(InferenceSchemas.Request).Gives(InferenceSchemas.Response);
        }

        return v2;
    }

    private static async Task LoadAsync(HttpContext context, InferenceModels models, RequestBodies bodies, string model)
    {
        RefuseOtherSites(context.Request);
        using var body = await bodies.ReadAsync(context).ConfigureAwait(false);
        await models.LoadAsync(model, ParametersOf(body.Bytes)).ConfigureAwait(false);
    }

    private static async Task UnloadAsync(HttpContext context, InferenceModels models, string model)
    {
        RefuseOtherSites(context.Request);
        await models.UnloadAsync(model).ConfigureAwait(false);
    }

    // The names of {"parameters": {...}}; clients send no body, or an empty object.
    private static IReadOnlyCollection<string> ParametersOf(ReadOnlyMemory<byte> body)
    {
        if (body.IsEmpty)
        {
            return [];
        }

        try
        {
            using var json = JsonDocument.Parse(body);
            return json.RootElement is { ValueKind: JsonValueKind.Object } root
                && root.TryGetProperty("parameters", out var parameters)
                && parameters.ValueKind == JsonValueKind.Object
                ? [.. parameters.EnumerateObject().Select(parameter => parameter.Name)]
                : [];
        }
        catch (JsonException unreadable)
        {
            throw new FailureException(Failure.Invalid("REQUEST_UNREADABLE", "body", $"the body is no JSON: {Engine.ForeignText.Clip(unreadable.Message)}"));
        }
    }

    private static async Task InferAsync(HttpContext context, InferenceModels models, RequestBodies bodies, string model, string? version)
    {
        RefuseOtherSites(context.Request);
        using var body = await bodies.ReadAsync(context).ConfigureAwait(false);
        var request = JsonTensors.Read(
            body.Bytes,
            LengthOf(context.Request, body.Bytes.Length),
            model,
            version ?? string.Empty,
            context.Connection.RemoteIpAddress?.ToString() ?? string.Empty,
            out var binary);
        var response = await models.InferOnceAsync(request, context.RequestAborted).ConfigureAwait(false);
        var (json, tail) = JsonTensors.Write(request, response, binary);
        context.Response.ContentType = "application/json";
        context.Response.ContentLength = json.Length + tail.Sum(part => (long)part.Length);
        if (tail.Count > 0)
        {
            context.Response.ContentType = "application/octet-stream";
            context.Response.Headers[HeaderLength] = json.Length.ToString(CultureInfo.InvariantCulture);
        }

        await context.Response.Body.WriteAsync(json, context.RequestAborted).ConfigureAwait(false);
        foreach (var part in tail)
        {
            await context.Response.Body.WriteAsync(part, context.RequestAborted).ConfigureAwait(false);
        }
    }

    // A page of another site can send a request here from a browser on this machine, and would have it learned.
    private static void RefuseOtherSites(HttpRequest request)
    {
        if (request.Headers.Origin.ToString() is { Length: > 0 } origin
            && !(Uri.TryCreate(origin, UriKind.Absolute, out var site) && site.Authority.Equals(request.Host.Value, StringComparison.OrdinalIgnoreCase)))
        {
            throw new FailureException(Failure.Invalid(
                "ORIGIN_FOREIGN",
                "Origin",
                "pages of other sites may not send frames; ask from a page of this server, or not from a browser"));
        }
    }

    private static int LengthOf(HttpRequest request, int body) => !request.Headers.TryGetValue(HeaderLength, out var text)
        ? body
        : int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out var length)
            ? length
            : throw new FailureException(Failure.Invalid("REQUEST_UNREADABLE", HeaderLength, $"the header {HeaderLength} must be a whole number of bytes"));

    private static object Describe(InferenceModelDescription model) => new
    {
        name = model.Name,
        versions = new[] { model.Version },
        platform = model.Platform,
        inputs = model.Inputs.Select(Describe),
        outputs = model.Outputs.Select(Describe),
    };

    private static object Describe(TensorDescription tensor) => new { name = tensor.Name, datatype = tensor.Datatype.Name(), shape = tensor.Shape };

    private static IResult Statistics(InferenceModels models, string model, string version)
    {
        var text = new StringBuilder("{\"model_stats\":[");
        text.AppendJoin(',', models.Statistics(model, version).Select(one => ProtoJson.Format(one)));
        return Results.Text(text.Append("]}").ToString(), "application/json");
    }
}

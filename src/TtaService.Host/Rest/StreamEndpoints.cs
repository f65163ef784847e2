using Microsoft.AspNetCore.Mvc;
using Microsoft.OpenApi;
using TtaService.Host.Grpc;
using TtaService.Host.Hosting;
using TtaService.Host.Protocols;
using TtaService.Serving.Front;
using TtaService.V1;
using DriftService = TtaService.Host.Grpc.DriftService;
using Stream = TtaService.V1.Stream;

namespace TtaService.Host.Rest;

/// <summary>Streams and models as resources on the HTTP port, in the JSON of the messages that gRPC has for them.</summary>
internal static class StreamEndpoints
{
    public const string Path = "/v1/streams";

    public static IEndpointConventionBuilder MapResources(this IEndpointRouteBuilder endpoints)
    {
        var resources = endpoints.MapGroup("");
        MapStreams(resources.MapGroup(Path).WithTags("streams"));
        MapModels(resources.MapGroup("/v1/models").WithTags("models"));
        return resources;
    }

    private static void MapStreams(RouteGroupBuilder streams)
    {
        streams.MapGet("", ListAsync)
            .WithSummary("Lists the streams in the order of their names, those in the store included; page_size is 1 to 1000, next_page_token asks for the next page.")
            .Gives(ListStreamsResponse.Descriptor);
        streams.MapPost("", StreamActions.CreateAsync).ForOperators()
            .WithSummary("Creates a stream before its first step: name, and if wanted model, method, seed, frozen, max_coalesce, labels, pinned.")
            .Takes(Stream.Descriptor).Gives(Stream.Descriptor, StatusCodes.Status201Created);
        streams.MapGet("/{name}", (IStreamOperations operations, string name) => StreamActions.AnswerAsync(operations.GetAsync(StreamActions.Key(name))))
            .WithSummary("Shows a stream, brought back from the store when it is not in memory.").Gives(Stream.Descriptor);
        streams.MapPatch("/{name}", StreamActions.UpdateAsync).ForOperators()
            .WithSummary("Changes the settings that the body has: frozen, max_coalesce, labels, pinned.").Takes(Stream.Descriptor).Gives(Stream.Descriptor);
        streams.MapDelete("/{name}", StreamActions.DeleteAsync).ForOperators()
            .WithSummary("Forgets a stream and its state, in the store, too.").Produces(StatusCodes.Status204NoContent);
        streams.MapPost("/{name}/reset", StreamActions.ResetAsync).ForOperators()
            .WithSummary("Puts a stream back to the source statistics; sequence numbers go on.").Gives(Stream.Descriptor);
        streams.MapPost("/{name}/freeze", StreamActions.FreezeAsync).ForOperators()
            .WithSummary("Uses a stream's state without updating it; with frozen false, lets it adapt again.")
            .Takes(required: false, ("frozen", JsonSchemaType.Boolean)).Gives(Stream.Descriptor);
        streams.MapPost("/{name}/unfreeze", StreamActions.UnfreezeAsync).ForOperators().WithSummary("Lets a stream adapt again.").Gives(Stream.Descriptor);
        streams.MapPost("/{name}/fork", StreamActions.ForkAsync).ForOperators()
            .WithSummary("Starts a stream from a copy of this one's state: a new camera beside a similar one.")
            .Takes(required: true, ("name", JsonSchemaType.String)).Gives(Stream.Descriptor);
        streams.MapGet("/{name}/checkpoints", async (IStreamOperations operations, string name) =>
            ProtoJson.Answer(Replies.ToWire((await operations.CheckpointsAsync(StreamActions.Key(name)).ConfigureAwait(false)).OrThrow())))
            .WithSummary("Lists the states that the store keeps of a stream, newest first.").Gives(ListCheckpointsResponse.Descriptor);
        streams.MapPost("/{name}/rollback", StreamActions.RollBackAsync).ForOperators()
            .WithSummary("Puts a stream back to one of its kept checkpoints, the newest unless one is named; sequence numbers go on.")
            .Takes(required: false, ("checkpoint", JsonSchemaType.Integer)).Gives(Stream.Descriptor);
        streams.MapGet("/{name}/export", StreamActions.ExportAsync).ForOperators().WithSummary("The state between two steps, as a safetensors file.").GivesFile();
        streams.MapPost("/{name}/import", StreamActions.ImportAsync).ForOperators()
            .WithSummary("Creates a stream that continues from a snapshot; model may be left out when the server has one.").TakesFile().Gives(Stream.Descriptor);
        streams.MapGet("/{name}/drift", async (IDriftWatching drift, string name) =>
            ProtoJson.Answer(DriftService.ToWire((await drift.ReadAsync(StreamActions.Key(name)).ConfigureAwait(false)).OrThrow())))
            .WithSummary("How far a stream that is in this process has drifted, by site.").Gives(StreamDrift.Descriptor);
    }

    private static async Task<IResult> ListAsync(
        IStreamOperations streams,
        string? model,
        [FromQuery(Name = "page_size")] int? pageSize,
        [FromQuery(Name = "page_token")] string? pageToken)
    {
        var request = new ListStreamsRequest { Model = model ?? string.Empty, PageSize = pageSize ?? 0, PageToken = pageToken ?? string.Empty };
        return ProtoJson.Answer(await StreamPages.ReadAsync(streams, request).ConfigureAwait(false));
    }

    private static void MapModels(RouteGroupBuilder models)
    {
        models.MapGet("", (IServedModels served) => ProtoJson.Answer(ModelReplies.All(served)))
            .WithSummary("Lists the models that are served, then those that can't be, with the reason.").Gives(ListModelsResponse.Descriptor);
        models.MapGet("/{name}", (IServedModels served, string name) => ProtoJson.Answer(ModelReplies.Whole(served, served.Find(name).OrThrow())))
            .WithSummary("Shows a model with its sites and the methods that its streams can ask for.").Gives(Model.Descriptor);
    }
}

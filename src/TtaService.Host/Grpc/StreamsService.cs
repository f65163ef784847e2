using System.Buffers.Text;
using System.Text;
using Google.Protobuf;
using Google.Protobuf.WellKnownTypes;
using Grpc.Core;
using TtaService.Serving.Store;
using TtaService.Serving.Streams;
using TtaService.V1;
using Stream = TtaService.V1.Stream;

namespace TtaService.Host.Grpc;

/// <summary>The stream resource.</summary>
internal sealed class StreamsService(StreamDirectory directory, StreamList list, StreamKeeper keeper, ModelCatalog models) : V1.StreamsService.StreamsServiceBase
{
    private const int DefaultPageSize = 100;
    private const int MaxPageSize = 1000;
    private const int MaxTokenLength = 256;

    public override async Task<Stream> CreateStream(CreateStreamRequest request, ServerCallContext context)
    {
        var stream = request.Stream ?? throw new FailureException(Failure.Invalid("STREAM_MISSING", "stream", "the request has no stream"));
        var session = await directory.CreateAsync(StreamRequests.Read(stream) with { Client = StreamRequests.ClientOf(context) }).ConfigureAwait(false);
        return Replies.ToWire(session.Describe());
    }

    public override async Task<Stream> GetStream(GetStreamRequest request, ServerCallContext context) => Replies.ToWire((await FindAsync(request.Name).ConfigureAwait(false)).Describe());

    public override async Task<ListStreamsResponse> ListStreams(ListStreamsRequest request, ServerCallContext context)
    {
        if (request.PageSize is < 0 or > MaxPageSize)
        {
            throw new FailureException(Failure.Invalid("PAGE_SIZE_OUT_OF_RANGE", "page_size", $"page_size is 0 (meaning {DefaultPageSize}) to {MaxPageSize}, not {request.PageSize}"));
        }

        if (request.Model.Length > 0)
        {
            _ = models.Find(request.Model);
        }

        var page = await list.ReadAsync(request.Model, ReadToken(request.PageToken), request.PageSize == 0 ? DefaultPageSize : request.PageSize).ConfigureAwait(false);
        var response = new ListStreamsResponse();
        response.Streams.AddRange(page.Streams.Select(Replies.ToWire));
        if (page.Warning is { } warning)
        {
            response.Warnings.Add(warning);
        }

        if (page.More)
        {
            response.NextPageToken = Base64Url.EncodeToString(Encoding.ASCII.GetBytes(page.Streams[^1].Name));
        }

        return response;
    }

    public override async Task<Stream> UpdateStream(UpdateStreamRequest request, ServerCallContext context)
    {
        var stream = request.Stream ?? throw new FailureException(Failure.Invalid("STREAM_MISSING", "stream", "the request has no stream"));
        var session = await FindAsync(stream.Name, "stream.name").ConfigureAwait(false);
        session.Update(StreamRequests.ReadUpdate(stream, request.UpdateMask));
        return Replies.ToWire(session.Describe());
    }

    public override async Task<Stream> ResetStream(ResetStreamRequest request, ServerCallContext context)
    {
        var session = await FindAsync(request.Name).ConfigureAwait(false);
        await directory.ResetAsync(session).ConfigureAwait(false);
        return Replies.ToWire(session.Describe());
    }

    public override async Task<Empty> DeleteStream(DeleteStreamRequest request, ServerCallContext context)
    {
        await directory.DeleteAsync(StreamRequests.CheckedName(request.Name, "name")).ConfigureAwait(false);
        return new Empty();
    }

    public override async Task<ExportStreamResponse> ExportStream(ExportStreamRequest request, ServerCallContext context)
    {
        var snapshot = await directory.ExportAsync(await FindAsync(request.Name).ConfigureAwait(false)).ConfigureAwait(false);
        return new ExportStreamResponse { Snapshot = UnsafeByteOperations.UnsafeWrap(snapshot) };
    }

    public override async Task<Stream> ImportStream(ImportStreamRequest request, ServerCallContext context)
    {
        var session = await directory.ImportAsync(StreamRequests.CheckedName(request.Name, "name"), request.Model, request.Snapshot.Memory).ConfigureAwait(false);
        return Replies.ToWire(session.Describe());
    }

    public override async Task<Stream> ForkStream(ForkStreamRequest request, ServerCallContext context)
    {
        var name = StreamRequests.CheckedName(request.Name, "name");
        var source = await FindAsync(request.Source, "source").ConfigureAwait(false);
        return Replies.ToWire((await directory.ForkAsync(source, name).ConfigureAwait(false)).Describe());
    }

    public override async Task<ListCheckpointsResponse> ListCheckpoints(ListCheckpointsRequest request, ServerCallContext context)
    {
        var name = StreamRequests.CheckedName(request.Name, "name");
        var kept = await keeper.CheckpointsAsync(name).ConfigureAwait(false);
        if (kept.Count == 0 && !directory.Contains(name))
        {
            throw new FailureException(Failure.StreamNotFound(name));
        }

        var response = new ListCheckpointsResponse();
        response.Checkpoints.AddRange(kept.Select(Replies.ToWire));
        return response;
    }

    public override async Task<Stream> RollBackStream(RollBackStreamRequest request, ServerCallContext context)
    {
        if (request.Checkpoint < 0)
        {
            throw new FailureException(Failure.Invalid("CHECKPOINT_INVALID", "checkpoint", $"checkpoint is a number that ListCheckpoints gave, or 0 for the newest, not {request.Checkpoint}"));
        }

        var session = await FindAsync(request.Name).ConfigureAwait(false);
        var number = request.Checkpoint;
        if (number == 0)
        {
            var newest = await keeper.CheckpointsAsync(session.Name).ConfigureAwait(false);
            number = newest.Count > 0
                ? newest[0].Number
                : throw new FailureException(new Failure(FailureKind.NotFound, "CHECKPOINT_NOT_FOUND", $"no checkpoint of stream '{session.Name}' is stored yet; one is made within Store:CheckpointInterval"));
        }

        await directory.RollBackAsync(session, await keeper.ReadAsync(session.Name, number).ConfigureAwait(false)).ConfigureAwait(false);
        return Replies.ToWire(session.Describe());
    }

    private Task<StreamSession> FindAsync(string name, string field = "name") => directory.LoadAsync(StreamRequests.CheckedName(name, field));

    private static string ReadToken(string token)
    {
        if (token.Length == 0)
        {
            return string.Empty;
        }

        return token.Length <= MaxTokenLength && Base64Url.IsValid(token, out _)
            ? Encoding.ASCII.GetString(Base64Url.DecodeFromChars(token))
            : throw new FailureException(Failure.Invalid("PAGE_TOKEN_INVALID", "page_token", "page_token is not one that ListStreams gave; leave it out to start from the first page"));
    }
}

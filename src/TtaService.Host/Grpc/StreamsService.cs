using System.Buffers.Text;
using System.Text;
using Google.Protobuf;
using Google.Protobuf.WellKnownTypes;
using Grpc.Core;
using TtaService.Serving.Front;
using TtaService.Serving.Streams;
using TtaService.V1;
using Stream = TtaService.V1.Stream;

namespace TtaService.Host.Grpc;

/// <summary>The stream resource.</summary>
internal sealed class StreamsService(IStreamOperations streams) : V1.StreamsService.StreamsServiceBase
{
    private const int DefaultPageSize = 100;
    private const int MaxPageSize = 1000;
    private const int MaxTokenLength = 256;

    public override Task<Stream> CreateStream(CreateStreamRequest request, ServerCallContext context)
    {
        var stream = request.Stream ?? throw new FailureException(Failure.Invalid("STREAM_MISSING", "stream", "the request has no stream"));
        return DescribedAsync(streams.CreateAsync(StreamRequests.Read(stream) with { Client = StreamRequests.ClientOf(context) }));
    }

    public override Task<Stream> GetStream(GetStreamRequest request, ServerCallContext context) => DescribedAsync(streams.GetAsync(Key(request.Name)));

    public override async Task<ListStreamsResponse> ListStreams(ListStreamsRequest request, ServerCallContext context)
    {
        if (request.PageSize is < 0 or > MaxPageSize)
        {
            throw new FailureException(Failure.Invalid(
                "PAGE_SIZE_OUT_OF_RANGE",
                "page_size",
                $"page_size is 0 (meaning {DefaultPageSize}) to {MaxPageSize}, not {request.PageSize}"));
        }

        var size = request.PageSize == 0 ? DefaultPageSize : request.PageSize;
        var page = (await streams.ListAsync(request.Model, ReadToken(request.PageToken), size).ConfigureAwait(false)).OrThrow();
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

    public override Task<Stream> UpdateStream(UpdateStreamRequest request, ServerCallContext context)
    {
        var stream = request.Stream ?? throw new FailureException(Failure.Invalid("STREAM_MISSING", "stream", "the request has no stream"));
        return DescribedAsync(streams.UpdateAsync(Key(stream.Name, "stream.name"), StreamRequests.ReadUpdate(stream, request.UpdateMask)));
    }

    public override Task<Stream> ResetStream(ResetStreamRequest request, ServerCallContext context) => DescribedAsync(streams.ResetAsync(Key(request.Name)));

    public override async Task<Empty> DeleteStream(DeleteStreamRequest request, ServerCallContext context)
    {
        (await streams.DeleteAsync(Key(request.Name)).ConfigureAwait(false)).OrThrow();
        return new Empty();
    }

    public override async Task<ExportStreamResponse> ExportStream(ExportStreamRequest request, ServerCallContext context)
    {
        var snapshot = (await streams.ExportAsync(Key(request.Name)).ConfigureAwait(false)).OrThrow();
        return new ExportStreamResponse { Snapshot = UnsafeByteOperations.UnsafeWrap(snapshot) };
    }

    public override Task<Stream> ImportStream(ImportStreamRequest request, ServerCallContext context) =>
        DescribedAsync(streams.ImportAsync(Key(request.Name), request.Model, request.Snapshot.Memory));

    public override Task<Stream> ForkStream(ForkStreamRequest request, ServerCallContext context)
    {
        var name = Key(request.Name);
        return DescribedAsync(streams.ForkAsync(Key(request.Source, "source"), name));
    }

    public override async Task<ListCheckpointsResponse> ListCheckpoints(ListCheckpointsRequest request, ServerCallContext context)
    {
        var kept = (await streams.CheckpointsAsync(Key(request.Name)).ConfigureAwait(false)).OrThrow();
        var response = new ListCheckpointsResponse();
        response.Checkpoints.AddRange(kept.Select(Replies.ToWire));
        return response;
    }

    public override Task<Stream> RollBackStream(RollBackStreamRequest request, ServerCallContext context) =>
        DescribedAsync(streams.RollBackAsync(Key(request.Name), request.Checkpoint));

    private static StreamKey Key(string name, string field = "name") => StreamKey.Checked(name, field);

    private static async Task<Stream> DescribedAsync(Task<Outcome<StreamDescription>> operation) => Replies.ToWire((await operation.ConfigureAwait(false)).OrThrow());

    private static string ReadToken(string token)
    {
        if (token.Length == 0)
        {
            return string.Empty;
        }

        return token.Length <= MaxTokenLength && Base64Url.IsValid(token, out _)
            ? Encoding.ASCII.GetString(Base64Url.DecodeFromChars(token))
            : throw new FailureException(Failure.Invalid(
                "PAGE_TOKEN_INVALID",
                "page_token",
                "page_token is not one that ListStreams gave; leave it out to start from the first page"));
    }
}

using Google.Protobuf;
using Google.Protobuf.WellKnownTypes;
using Grpc.Core;
using TtaService.Host.Protocols;
using TtaService.Serving.Front;
using TtaService.Serving.Streams;
using TtaService.V1;
using Stream = TtaService.V1.Stream;

namespace TtaService.Host.Grpc;

/// <summary>The stream resource.</summary>
internal sealed class StreamsService(IStreamOperations streams) : V1.StreamsService.StreamsServiceBase
{
    public override Task<Stream> CreateStream(CreateStreamRequest request, ServerCallContext context)
    {
        var stream = request.Stream ?? throw new FailureException(Failure.Invalid("STREAM_MISSING", "stream", "the request has no stream"));
        return DescribedAsync(streams.CreateAsync(StreamRequests.Read(stream) with { Client = StreamRequests.ClientOf(context) }));
    }

    public override Task<Stream> GetStream(GetStreamRequest request, ServerCallContext context) => DescribedAsync(streams.GetAsync(Key(request.Name)));

    public override Task<ListStreamsResponse> ListStreams(ListStreamsRequest request, ServerCallContext context) => StreamPages.ReadAsync(streams, request);

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

    public override async Task<ListCheckpointsResponse> ListCheckpoints(ListCheckpointsRequest request, ServerCallContext context) =>
        Replies.ToWire((await streams.CheckpointsAsync(Key(request.Name)).ConfigureAwait(false)).OrThrow());

    public override Task<Stream> RollBackStream(RollBackStreamRequest request, ServerCallContext context) =>
        DescribedAsync(streams.RollBackAsync(Key(request.Name), request.Checkpoint));

    private static StreamKey Key(string name, string field = "name") => StreamKey.Checked(name, field);

    private static async Task<Stream> DescribedAsync(Task<Outcome<StreamDescription>> operation) => Replies.ToWire((await operation.ConfigureAwait(false)).OrThrow());
}

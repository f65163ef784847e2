using Grpc.Core;
using Microsoft.Extensions.Options;
using TtaService.Serving.Front;
using TtaService.Serving.Streams;
using TtaService.V1;

namespace TtaService.Host.Grpc;

/// <summary>Puts calls into steps and outcomes into replies.</summary>
internal sealed class AdaptationService(
    IStreamStepping streams,
    IOptions<StreamsOptions> options,
    IHostApplicationLifetime lifetime,
    TimeProvider clock) : V1.AdaptationService.AdaptationServiceBase
{
    public override async Task<InferReply> Infer(InferRequest request, ServerCallContext context)
    {
        var open = request.Open ?? new OpenStream();
        var step = request.Step ?? throw new FailureException(Failure.Invalid("STEP_MISSING", "step", "the request has no step; send at least one frame"));
        var content = StreamRequests.Read(open.Reply);
        var stream = open.Stream.Length > 0
            ? StreamRequests.Read(open, StreamKey.Checked(open.Stream, "open.stream")) with { Client = StreamRequests.ClientOf(context) }
            : StreamRequests.Read(open, default);
        // The batcher counts the frames from its admission on.
        var sent = StreamRequests.Read(step, content, context.CancellationToken) with { Admitted = static () => RequestMessages.Current?.HandOver() };
        var stepped = (await streams.StepAsync(stream, sent).ConfigureAwait(false)).OrThrow();
        return new InferReply { Opened = Replies.Opened(stepped.Opened), Step = Replies.Step(step.Sequence, stepped.Answer, stepped.Opened.Origin) };
    }

    public override async Task StreamInfer(IAsyncStreamReader<StreamInferRequest> requestStream, IServerStreamWriter<StreamInferReply> responseStream, ServerCallContext context)
    {
        using var call = new DuplexCall(requestStream, responseStream, context, streams, options.Value, clock, lifetime.ApplicationStopping);
        await call.RunAsync().ConfigureAwait(false);
    }
}

using Grpc.Core;
using Microsoft.Extensions.Options;
using TtaService.Serving.Streams;
using TtaService.V1;

namespace TtaService.Host.Grpc;

/// <summary>Puts calls into steps and outcomes into replies.</summary>
internal sealed class AdaptationService(
    StreamDirectory directory,
    StepReader steps,
    IOptions<StreamsOptions> streams,
    IHostApplicationLifetime lifetime,
    TimeProvider clock) : V1.AdaptationService.AdaptationServiceBase
{
    private readonly StreamsOptions _streams = streams.Value;

    public override async Task<InferReply> Infer(InferRequest request, ServerCallContext context)
    {
        var open = request.Open ?? new OpenStream();
        var step = request.Step ?? throw new FailureException(Failure.Invalid("STEP_MISSING", "step", "the request has no step; send at least one frame"));
        var content = StreamRequests.Read(open.Reply);
        if (open.Stream.Length > 0)
        {
            var visit = StreamRequests.Read(open, StreamRequests.CheckedName(open.Stream, "open.stream")) with { Client = StreamRequests.ClientOf(context) };
            while (true)
            {
                var (session, origin) = await directory.VisitAsync(visit).ConfigureAwait(false);
                try
                {
                    return await InferAsync(session, origin, step, content, context).ConfigureAwait(false);
                }
                catch (FailureException idled) when (idled.Failure.Reason == Failure.UnloadedReason)
                {
                    // It left for the store between the two lines above; asking again brings it back.
                }
            }
        }

        var unlisted = await directory.CreateUnlistedAsync(StreamRequests.Read(open, string.Empty)).ConfigureAwait(false);
        try
        {
            return await InferAsync(unlisted, Serving.Streams.StateOrigin.Fresh, step, content, context).ConfigureAwait(false);
        }
        finally
        {
            await directory.DiscardAsync(unlisted).ConfigureAwait(false);
        }
    }

    public override async Task StreamInfer(IAsyncStreamReader<StreamInferRequest> requestStream, IServerStreamWriter<StreamInferReply> responseStream, ServerCallContext context)
    {
        using var call = new DuplexCall(requestStream, responseStream, context, directory, steps, _streams, clock, lifetime.ApplicationStopping);
        await call.RunAsync().ConfigureAwait(false);
    }

    private async Task<InferReply> InferAsync(StreamSession session, Serving.Streams.StateOrigin origin, StepRequest step, ReplyContent content, ServerCallContext context)
    {
        var submission = steps.Read(session.Model, step, content, context.CancellationToken);
        var running = session.Model.Batcher.SubmitAsync(session, submission);
        // The batcher counts the frames now.
        RequestMessages.Current?.HandOver();
        var outcome = await running.ConfigureAwait(false);
        return outcome.Answer is { } answer
            ? new InferReply
            {
                Opened = Replies.Opened(session, origin, _streams.MaxPendingSteps, steps.MaxFramesPerStep(session.Model)),
                Step = Replies.Step(step.Sequence, answer, origin),
            }
            : throw new FailureException(outcome.Failure!);
    }
}

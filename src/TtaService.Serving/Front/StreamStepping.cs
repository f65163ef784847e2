using Microsoft.Extensions.Options;
using TtaService.Engine.Normalization;
using TtaService.Serving.Streams;

namespace TtaService.Serving.Front;

/// <inheritdoc cref="IStreamStepping"/>
internal sealed class StreamStepping(StreamOpenings openings, StreamDepartures departures, StepIntake intake, IOptions<StreamsOptions> options) : IStreamStepping
{
    private static readonly MethodChoice AsTrained = new("source", null);

    public Task<Outcome<IOpenStream>> OpenAsync(StreamRequest request, CancellationToken leaving) => Outcome.OfAsync<IOpenStream>(async () =>
    {
        var (lease, origin) = await openings.OpenAsync(request, leaving).ConfigureAwait(false);
        return new StreamHold(this, openings, departures, request, lease, origin);
    });

    public Task<Outcome<SteppedStream>> StepAsync(StreamRequest request, SentStep step) =>
        Outcome.OfAsync(() => request.Key == default ? StepAloneAsync(request, step) : VisitAsync(request, step));

    public async Task<StepOutcome> AnswerAsync(string model, SentStep step)
    {
        var request = new StreamRequest { Key = default, Model = model, Method = AsTrained, Freeze = true, Root = "model" };
        var stepped = await StepAsync(request, step with { Sequence = 0, Freeze = true }).ConfigureAwait(false);
        return stepped.Value is { } value ? value.Answer : stepped.Failure!;
    }

    private async Task<SteppedStream> VisitAsync(StreamRequest request, SentStep step)
    {
        StateOrigin? begun = null;
        while (true)
        {
            var (session, origin) = await openings.VisitAsync(request).ConfigureAwait(false);
            try
            {
                return await StepAsync(session, begun ??= origin, step).ConfigureAwait(false);
            }
            catch (FailureException left) when (left.Failure.Reason is Failure.UnloadedReason or Failure.ReplacedReason)
            {
                // It left for the store, or for a newer model, between the two lines above; asking again brings it back, and must not begin it once more.
                request = request with { Mode = request.Mode == ResumeMode.MustExist ? ResumeMode.MustExist : ResumeMode.ContinueOrCreate };
            }
        }
    }

    private async Task<SteppedStream> StepAloneAsync(StreamRequest request, SentStep step)
    {
        var alone = await openings.CreateUnlistedAsync(request).ConfigureAwait(false);
        try
        {
            return await StepAsync(alone, StateOrigin.Fresh, step).ConfigureAwait(false);
        }
        finally
        {
            await departures.DiscardAsync(alone).ConfigureAwait(false);
        }
    }

    private async Task<SteppedStream> StepAsync(StreamSession session, StateOrigin origin, SentStep step)
    {
        var outcome = await Submit(session, step).ConfigureAwait(false);
        return outcome.Answer is { } answer ? new SteppedStream(Describe(session, origin), answer) : throw new FailureException(outcome.Failure!);
    }

    /// <summary>Takes a step in, at the place in the stream's order that it has now.</summary>
    public Task<StepOutcome> Submit(StreamSession session, SentStep step)
    {
        var running = session.Model.Batcher.SubmitAsync(session, intake.Read(session.Model, step));
        step.Admitted?.Invoke();
        return running;
    }

    /// <summary>What an opening found.</summary>
    public OpenedStream Describe(StreamSession session, StateOrigin origin)
    {
        var stream = session.Describe();
        var engine = session.Model.Engine.Model;
        var (warning, caution) = (engine.Methods.Describe(stream.Method.Name)?.Warning, engine.Caution(stream.Method));
        IReadOnlyList<string> warnings = [.. new[] { warning, caution }.OfType<string>(), .. session.Tell()];
        return new OpenedStream(stream, origin, options.Value.MaxPendingSteps, intake.MaxFramesPerStep(session.Model), warnings)
        {
            DriftLevel = session.Watch.Level,
            DriftScore = session.Watch.Last?.Score,
        };
    }
}

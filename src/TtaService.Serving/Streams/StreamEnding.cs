using TtaService.Serving.Telemetry;

namespace TtaService.Serving.Streams;

/// <summary>Ends streams in this process, whoever wants it: the store that gave them to another, a client, or the host. Thread-safe.</summary>
internal sealed class StreamEnding(StreamRegister register, TtaMetrics metrics)
{
    /// <summary>Forgets a stream here: steps that have not begun fail, the call that has it open ends, its state is given back.</summary>
    public async Task EndAsync(StreamSession session, Failure ending)
    {
        if (register.Remove(session))
        {
            metrics.StreamMoved(session.Model.Name, StreamTransition.Closed);
        }

        var batcher = session.Model.Batcher;
        lock (batcher.Gate)
        {
            session.Leave(ending);
            session.Keeping.Claim = null;
            session.Keeping.Ended = true;
        }

        batcher.Abandon(session, ending);
        session.Use.Revoke();
        await batcher.BetweenStepsAsync(session, model =>
        {
            session.Model.Residency.Release(model, session);
            return true;
        }).ConfigureAwait(false);
    }
}

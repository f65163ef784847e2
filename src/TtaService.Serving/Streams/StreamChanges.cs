using TtaService.Engine.Execution;
using TtaService.Engine.Normalization;
using TtaService.Engine.Streams;
using TtaService.Serving.Store;
using TtaService.Serving.Streams.Keeping;
using TtaService.Serving.Telemetry;

namespace TtaService.Serving.Streams;

/// <summary>Operates on the states of streams that are here, between two of their steps. Thread-safe.</summary>
internal sealed partial class StreamChanges(ModelCatalog models, StreamRegister register, ColdStates cold, TtaMetrics metrics, TimeProvider clock, ILogger<StreamChanges> logger)
{
    /// <summary>Back to the source statistics; sequence numbers go on.</summary>
    public async Task ResetAsync(StreamSession session)
    {
        await BetweenStepsAsync(session, (model, state) =>
        {
            model.Reset(state);
            session.Begin(state, StateOrigin.Reset);
            return true;
        }).ConfigureAwait(false);
        WasReset(session, ResetCause.Request);
    }

    /// <summary>Back to a stored state; sequence numbers and kept answers go on.</summary>
    /// <exception cref="FailureException">The state is of another model, or there is no room for it.</exception>
    public async Task RollBackAsync(StreamSession session, StoredCheckpoint checkpoint)
    {
        try
        {
            var method = session.Model.Engine.Model.MethodOf(checkpoint.Snapshot);
            await ReplaceAsync(session, session.Model.Engine.Model.StateBytes(method), engine => engine.Import(checkpoint.Snapshot), StateOrigin.Restored).ConfigureAwait(false);
        }
        catch (SnapshotException refused)
        {
            throw new FailureException(new Failure(
                FailureKind.FailedPrecondition,
                "CHECKPOINT_REFUSED",
                $"checkpoint {checkpoint.Description.Number} of stream '{session.Name}' does not fit: {refused.Message}"));
        }

        if (StreamRecord.Read(checkpoint.Record) is { } record)
        {
            session.GrowOlder(record.ResetAt);
        }
    }

    /// <summary>The state between two steps, as safetensors.</summary>
    public Task<byte[]> ExportAsync(StreamSession session) => BetweenStepsAsync(session, (model, state) => model.Export(state, clock.GetUtcNow()));

    private async Task<T> BetweenStepsAsync<T>(StreamSession session, Func<AdaptiveModel, StreamState, T> work)
    {
        while (true)
        {
            await cold.BringBackAsync(session).ConfigureAwait(false);
            var (done, result) = await session.Model.Batcher.BetweenStepsAsync(session, model =>
            {
                if (session.Keeping.Spilled)
                {
                    // It left again before its turn came.
                    return (false, default);
                }

                var state = session.State ?? throw new FailureException(Failure.StreamNotFound(session.Name));
                session.Model.Residency.Enter(model, [session]);
                return (true, (T?)work(model, state));
            }).ConfigureAwait(false);
            if (done)
            {
                return result!;
            }
        }
    }

    /// <summary>Begins anew, with what the request names.</summary>
    public async Task RestartAsync(StreamSession session, StreamRequest request)
    {
        var method = request.Method is null ? session.Method : StreamRequestRules.Resolve(models, request with { Model = session.Model.Name }).Method;
        var seed = request.Seed ?? session.Seed;
        await ReplaceAsync(session, session.Model.Engine.Model.StateBytes(method), engine => engine.CreateState(method, seed), StateOrigin.Reset).ConfigureAwait(false);
    }

    // A reset by the opening forgets the sequence numbers, a stored state goes on with them.
    private async Task ReplaceAsync(StreamSession session, long bytes, Func<AdaptiveModel, StreamState> create, StateOrigin origin)
    {
        var growth = register.Reserve(session, bytes);
        try
        {
            await BetweenStepsAsync(session, (model, state) =>
            {
                var next = session.Model.Residency.Create(model, bytes, create, keep: 1);
                model.Release(state);
                session.Begin(next, origin);
                if (origin == StateOrigin.Reset)
                {
                    session.ForgetAnswers();
                }

                return true;
            }).ConfigureAwait(false);
            if (origin == StateOrigin.Reset)
            {
                WasReset(session, ResetCause.Request);
            }
        }
        catch (ArenaFullException full)
        {
            register.GiveBack(session, growth);
            throw new FailureException(StateMemoryFull(full));
        }
        catch (MethodSettingsException fault)
        {
            register.GiveBack(session, growth);
            throw new FailureException(StreamRequestRules.Unavailable(session.Model, $"can't begin a state: {fault.Message}"));
        }
        catch
        {
            register.GiveBack(session, growth);
            throw;
        }
    }

    /// <summary>Tells that a stream is at the source statistics.</summary>
    public void WasReset(StreamSession session, ResetCause cause)
    {
        metrics.StreamReset(session.Model.Name, session.Name, cause);
        Log.StreamReset(logger, session.Name, cause);
    }

    /// <summary>The arena has no room for a state.</summary>
    public static Failure StateMemoryFull(ArenaFullException full) =>
        new(FailureKind.ResourceExhausted, "STATE_MEMORY_FULL", $"{full.Message} (Models:ArenaBytes); try again") { RetryAfter = TimeSpan.FromSeconds(1) };

    private static partial class Log
    {
        [LoggerMessage(EventId = 12, Level = LogLevel.Information, Message = "StreamReset {Stream}: back to the source statistics ({Cause})")]
        public static partial void StreamReset(ILogger logger, string stream, ResetCause cause);
    }
}

using TtaService.Serving.Store;
using TtaService.Serving.Telemetry;

namespace TtaService.Serving.Streams.Keeping;

/// <summary>How saving a stream went.</summary>
internal enum SaveStatus
{
    /// <summary>What the stream was when it was asked for is stored.</summary>
    Saved,

    /// <summary>The store does not serve now; the stream goes on in memory.</summary>
    Failed,

    /// <summary>Another replica has the stream, or it was deleted; it has ended here.</summary>
    Ended,
}

/// <summary>Writes streams into the store. Thread-safe.</summary>
internal sealed partial class StreamSaving(
    RetryingStreamStateStore store,
    StreamClaims claims,
    ColdStates cold,
    TtaMetrics metrics,
    TtaActivities activities,
    TimeProvider clock,
    ILogger<StreamSaving> logger)
{
    // What a client can bring about is logged once in so long.
    private static readonly TimeSpan BetweenReports = TimeSpan.FromSeconds(10);

    private readonly Lock _reports = new();
    private long? _reportedAt;

    /// <summary>Whether a stream that is saved survives this process.</summary>
    public bool OutlivesProcess => store.OutlivesProcess;

    /// <summary>Stores a stream as it is after the steps that were admitted so far, and lets its state leave the process when it has left the arena.</summary>
    /// <param name="session">The stream.</param>
    /// <param name="close">Give it up as well.</param>
    public async Task<(SaveStatus Status, long Bytes)> SaveAsync(StreamSession session, bool close = false)
    {
        var keeping = session.Keeping;
        await keeping.Writing.WaitAsync().ConfigureAwait(false);
        try
        {
            if (HasEnded(session))
            {
                return (SaveStatus.Ended, 0);
            }

            if (StreamClaims.Of(session) is not { } claim)
            {
                var claimed = await claims.ClaimAsync(session).ConfigureAwait(false);
                if (claimed != SaveStatus.Saved)
                {
                    return (claimed, 0);
                }

                claim = StreamClaims.Of(session)!.Value;
            }

            var began = clock.GetTimestamp();
            var captured = await CaptureAsync(session).ConfigureAwait(false);
            if (captured is null && !close)
            {
                await cold.SpillAsync(session, null).ConfigureAwait(false);
                return (SaveStatus.Saved, 0);
            }

            var write = await WriteAsync(session, claim, captured, close, began).ConfigureAwait(false);
            switch (write.Status)
            {
                case WriteStatus.Lost:
                    claims.Forgotten(session, claim);
                    return (SaveStatus.Failed, 0);
                case WriteStatus.Fenced:
                    await claims.FencedAsync(session, claim, write.Owner).ConfigureAwait(false);
                    return (SaveStatus.Ended, 0);
            }

            if (captured is not null)
            {
                lock (session.Gate)
                {
                    keeping.Stored(captured.Version, write.Number, captured.At);
                    keeping.ConfirmedAt = clock.GetTimestamp();
                }
            }

            if (close)
            {
                lock (session.Gate)
                {
                    keeping.Claim = null;
                }
            }
            else
            {
                await cold.SpillAsync(session, captured!.Snapshot).ConfigureAwait(false);
            }

            return (SaveStatus.Saved, write.Bytes);
        }
        catch (StoreUnavailableException)
        {
            return (SaveStatus.Failed, 0);
        }
        catch (StoredStreamException bad)
        {
            // It goes on in memory, and is tried again with its next change.
            NotSaved(bad);
            return (SaveStatus.Failed, 0);
        }
        finally
        {
            keeping.Writing.Release();
        }
    }

    private void NotSaved(StoredStreamException bad)
    {
        lock (_reports)
        {
            if (_reportedAt is { } at && clock.GetElapsedTime(at) < BetweenReports)
            {
                return;
            }

            _reportedAt = clock.GetTimestamp();
        }

        Log.StoredStreamUnreadable(logger, bad.Stream, bad.Message);
    }

    private static bool HasEnded(StreamSession session)
    {
        lock (session.Gate)
        {
            return session.Keeping.Ended;
        }
    }

    // Between two steps; null when what is stored is up to date.
    private async Task<Captured?> CaptureAsync(StreamSession session)
    {
        while (true)
        {
            lock (session.Gate)
            {
                if (!session.Keeping.Dirty)
                {
                    return null;
                }
            }

            // A change of settings may meet a state that has left.
            await cold.BringBackAsync(session).ConfigureAwait(false);
            var captured = await session.Model.Batcher.BetweenStepsAsync(session, model =>
            {
                if (session.State is not { } state || session.Keeping.Spilled)
                {
                    return null;
                }

                var snapshot = session.Place.Cold ?? model.Export(state, clock.GetUtcNow());
                lock (session.Gate)
                {
                    return new Captured(snapshot, session.Keeping.Version, session.Answered.Last, session.Record(), clock.GetTimestamp());
                }
            }).ConfigureAwait(false);
            if (captured is not null || session.State is null)
            {
                return captured;
            }
        }
    }

    // With no capture only the claim is given up, which is no checkpoint.
    private async Task<CheckpointWrite> WriteAsync(StreamSession session, StreamClaim claim, Captured? captured, bool close, long began)
    {
        if (captured is null)
        {
            return await store.CloseAsync(claim, null, CancellationToken.None).ConfigureAwait(false);
        }

        var model = session.Model.Name;
        var span = activities.CheckpointBegan(model, session.Name);
        var pending = new PendingCheckpoint(captured.Snapshot, captured.Sequence, captured.Version, captured.Record.Write()) { ModelName = model, Client = session.Client };
        FailureKind? failure = FailureKind.Internal;
        var bytes = 0L;
        try
        {
            var write = await (close
                ? store.CloseAsync(claim, pending, CancellationToken.None)
                : store.CheckpointAsync(claim, pending, CancellationToken.None)).ConfigureAwait(false);
            (bytes, failure) = (write.Bytes, write.Status is WriteStatus.Lost or WriteStatus.Fenced ? FailureKind.Aborted : null);
            return write;
        }
        catch (StoreUnavailableException)
        {
            failure = FailureKind.Unavailable;
            throw;
        }
        catch (StoredStreamException)
        {
            failure = FailureKind.FailedPrecondition;
            throw;
        }
        finally
        {
            var elapsed = clock.GetElapsedTime(began);
            if (failure is { } kind)
            {
                metrics.CheckpointFailed(model, elapsed, kind);
            }
            else
            {
                metrics.CheckpointWritten(model, elapsed, bytes);
            }

            TtaActivities.CheckpointEnded(span, bytes, failure);
        }
    }

    private sealed record Captured(byte[] Snapshot, long Version, ulong Sequence, StreamRecord Record, long At);

    private static partial class Log
    {
        [LoggerMessage(EventId = 61, Level = LogLevel.Warning, Message = "StoredStreamUnreadable {Stream}, which goes on in memory: {Reason}")]
        public static partial void StoredStreamUnreadable(ILogger logger, string stream, string reason);
    }
}

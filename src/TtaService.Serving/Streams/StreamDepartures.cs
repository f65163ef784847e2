using Microsoft.Extensions.Options;
using TtaService.Serving.Streams.Keeping;
using TtaService.Serving.Telemetry;

namespace TtaService.Serving.Streams;

/// <summary>How a release went.</summary>
internal enum ReleaseOutcome
{
    /// <summary>The stream has left.</summary>
    Released,

    /// <summary>It stays, as it is in use.</summary>
    InUse,

    /// <summary>It stays, as it could not be saved.</summary>
    Unsaved,
}

/// <summary>Takes streams out of this process: deleted, idle, or handed over. Thread-safe.</summary>
internal sealed partial class StreamDepartures(
    StreamDirectory directory,
    StreamEnding ending,
    StreamSaving saving,
    StoredStreams stored,
    IOptions<StreamsOptions> options,
    TtaMetrics metrics,
    ILogger<StreamDepartures> logger)
{
    private readonly StreamsOptions _options = options.Value;

    /// <summary>Forgets a stream, here and in the store.</summary>
    public async Task DeleteAsync(StreamKey key)
    {
        using var hold = await directory.HoldAsync(key).ConfigureAwait(false);
        if (directory.Find(key) is not { } session)
        {
            if (!await stored.DeleteAsync(key).ConfigureAwait(false))
            {
                throw new FailureException(Failure.StreamNotFound(key.Name));
            }

            return;
        }

        // After what is being written of it, which must not come back.
        await session.Keeping.Writing.WaitAsync().ConfigureAwait(false);
        try
        {
            await stored.DeleteAsync(key).ConfigureAwait(false);
            await DiscardAsync(session).ConfigureAwait(false);
        }
        finally
        {
            session.Keeping.Writing.Release();
        }
    }

    /// <summary>Forgets a stream here: steps that have not begun fail, the call that has it open ends.</summary>
    public Task DiscardAsync(StreamSession session) => ending.EndAsync(session, Deleted(session.Name));

    /// <summary>Looks at all streams as <see cref="UnloadIfIdleAsync"/> does.</summary>
    public async Task UnloadIdleAsync()
    {
        foreach (var session in directory.Loaded)
        {
            await UnloadIfIdleAsync(session).ConfigureAwait(false);
        }
    }

    /// <summary>A stream that nobody has used for <see cref="StreamsOptions.IdleTimeout"/> leaves the process, to the store if it outlives it.</summary>
    public async Task UnloadIfIdleAsync(StreamSession session)
    {
        var name = session.Name;
        metrics.StateAged(session.Model.Name, session.Method.Name, session.History.Steps);
        if (!IsIdle(session))
        {
            return;
        }

        if (saving.OutlivesProcess)
        {
            if (await ReleaseAsync(session, Failure.Unloaded(name), onlyIdle: true).ConfigureAwait(false))
            {
                Log.IdleStreamUnloaded(logger, name, _options.IdleTimeout);
            }

            return;
        }

        using var hold = await directory.HoldAsync(session.Key).ConfigureAwait(false);
        lock (session.Gate)
        {
            // It may have been used, or deleted, while its name was held.
            if (session.Deleted || !IsIdle(session))
            {
                return;
            }

            session.Leave(Deleted(name));
        }

        try
        {
            await stored.DeleteAsync(session.Key).ConfigureAwait(false);
        }
        catch
        {
            // It stays, and the next sweep tries again.
            session.Stay();

            throw;
        }

        await DiscardAsync(session).ConfigureAwait(false);
        Log.IdleStreamDeleted(logger, name, _options.IdleTimeout);
    }

    private bool IsIdle(StreamSession session) => !session.Settings.Pinned && session.IdleFor(_options.IdleTimeout);

    /// <summary>Ends a call's hold on a stream and gives the stream up, so that the next opening finds it whole on any replica.</summary>
    public async Task HandOverAsync(StreamLease lease, Failure why)
    {
        if (saving.OutlivesProcess && !lease.Lost.IsCancellationRequested)
        {
            lease.Dispose();
            await ReleaseAsync(lease.Session, why, onlyIdle: false).ConfigureAwait(false);
        }
    }

    /// <summary>Saves a stream, gives it up and forgets it here; its next opening, here or elsewhere, restores it.</summary>
    /// <param name="session">The stream.</param>
    /// <param name="why">What its next step hears.</param>
    /// <param name="onlyIdle">Only when nobody uses it.</param>
    /// <param name="settled">Whether steps that were admitted are answered first; else those that have not begun may hear <paramref name="why"/>, too.</param>
    /// <returns>False when it stays: it is in use, or could not be saved.</returns>
    public async Task<bool> ReleaseAsync(StreamSession session, Failure why, bool onlyIdle, bool settled = false) =>
        await TryReleaseAsync(session, why, onlyIdle, settled).ConfigureAwait(false) == ReleaseOutcome.Released;

    /// <summary>As <see cref="ReleaseAsync"/>, and says why it stays.</summary>
    public async Task<ReleaseOutcome> TryReleaseAsync(StreamSession session, Failure why, bool onlyIdle, bool settled = false)
    {
        using var hold = await directory.HoldAsync(session.Key).ConfigureAwait(false);
        lock (session.Gate)
        {
            if (session.Deleted)
            {
                return ReleaseOutcome.Released;
            }

            if (onlyIdle && (session.Use.IsOpen || !session.NothingWaits))
            {
                return ReleaseOutcome.InUse;
            }

            // What was admitted before still runs, and is in what is saved.
            session.Leave(why);
        }

        var status = SaveStatus.Failed;
        try
        {
            if (settled)
            {
                await session.Model.Batcher.SettledAsync(session).ConfigureAwait(false);
            }

            (status, _) = await saving.SaveAsync(session, close: true).ConfigureAwait(false);
        }
        finally
        {
            if (status == SaveStatus.Failed)
            {
                // Not lost: it stays and goes on.
                session.Stay();
            }
        }

        if (status == SaveStatus.Failed)
        {
            return ReleaseOutcome.Unsaved;
        }

        if (status == SaveStatus.Saved)
        {
            await ending.EndAsync(session, why).ConfigureAwait(false);
        }

        return ReleaseOutcome.Released;
    }

    private static Failure Deleted(string name) => new(FailureKind.Aborted, "STREAM_DELETED", $"stream '{name}' was deleted");

    private static partial class Log
    {
        [LoggerMessage(EventId = 11, Level = LogLevel.Information, Message = "IdleStreamUnloaded {Stream}: no step for {IdleTimeout}, it waits in the store")]
        public static partial void IdleStreamUnloaded(ILogger logger, string stream, TimeSpan idleTimeout);

        [LoggerMessage(EventId = 10, Level = LogLevel.Information, Message = "IdleStreamDeleted {Stream}: no step for {IdleTimeout}")]
        public static partial void IdleStreamDeleted(ILogger logger, string stream, TimeSpan idleTimeout);
    }
}

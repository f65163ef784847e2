using Microsoft.Extensions.Options;
using TtaService.Serving.Streams;
using TtaService.Serving.Telemetry;

namespace TtaService.Serving.Store;

/// <summary>How an opening of a stream in the store went.</summary>
/// <param name="Claim">The right to write; null when the store is out of reach.</param>
/// <param name="Checkpoint">The state to go on from; null when there is none.</param>
/// <param name="Refused">A state is stored that can't be used.</param>
/// <param name="Notice">What the client should know; null when nothing.</param>
internal sealed record KeptOpening(StreamClaim? Claim, StoredCheckpoint? Checkpoint, bool Refused, string? Notice)
{
    /// <summary>Another replica had not given it up.</summary>
    public bool TookOver { get; init; }
}

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

/// <summary>Stands between the streams and the store: claims, saves, and brings back; says what it means to a stream when the store fails. Thread-safe.</summary>
internal sealed partial class StreamKeeper(IOptions<StoreOptions> options, StoreHealth health, TtaMetrics metrics, TtaActivities activities, TimeProvider clock, ILogger<StreamKeeper> logger) : IAsyncDisposable
{
    // Logs of what a client can bring about, at most one in so long.
    private static readonly TimeSpan BetweenReports = TimeSpan.FromSeconds(10);

    private readonly StoreOptions _options = options.Value;
    private readonly Lock _reports = new();
    private long? _droppedReportedAt;
    private long? _unreadableReportedAt;
    private long _unreported;
    private IStreamStateStore? _store;

    /// <summary>Whether a stream that is saved survives this process.</summary>
    public bool OutlivesProcess => Store.OutlivesProcess;

    /// <summary>Ends a stream here that the store says is not this replica's any more. Set by the directory.</summary>
    public Func<StreamSession, Failure, Task> EndStream { get; set; } = (_, _) => Task.CompletedTask;

    private IStreamStateStore Store => _store ?? throw new InvalidOperationException("the store is not open");

    /// <summary>Gives the keeper its store, once, before the listeners open.</summary>
    public void Use(IStreamStateStore store)
    {
        _store = store;
        if (store is LocalStreamStateStore local)
        {
            local.Dropped = Dropped;
        }
    }

    /// <summary>Claims a stream and reads what is stored of it.</summary>
    /// <exception cref="FailureException">Another replica has it and keeps it, or a claim is required and the store is out of reach.</exception>
    public async Task<KeptOpening> OpenAsync(string stream, OpenPolicy policy)
    {
        StreamOpening opening;
        try
        {
            opening = await TryAsync(() => Store.OpenAsync(stream, _options.Replica, policy, CancellationToken.None)).ConfigureAwait(false);
        }
        catch (StoreUnavailableException trouble)
        {
            return _options.RequireFencing
                ? throw new FailureException(OutOfReach($"stream '{stream}' can't be claimed, and Store:RequireFencing is set: {trouble.Message}"))
                : new KeptOpening(null, null, false, null);
        }
        catch (StoredStreamException bad)
        {
            throw new FailureException(Unreadable(bad));
        }

        switch (opening.Status)
        {
            case OpenStatus.Held:
                throw new FailureException(new Failure(FailureKind.Unavailable, "STREAM_OWNED_ELSEWHERE", $"replica '{opening.PreviousOwner}' has stream '{stream}'; send to it, or open the stream with StreamInfer where Store:DuplicateStream is replace")
                {
                    Owner = opening.PreviousOwner,
                    RetryAfter = opening.RetryAfter,
                });
            case OpenStatus.TakeoverLimited:
                throw new FailureException(new Failure(FailureKind.ResourceExhausted, "STREAM_TAKEN_OVER_TOO_OFTEN", $"stream '{stream}' changed hands {_options.MaxTakeoversPerMinute} times within a minute (Store:MaxTakeoversPerMinute), {opening.Takeovers} times in all: two clients use one name, or a load balancer spreads its requests; give each camera a name of its own and route by it")
                {
                    Owner = opening.PreviousOwner,
                    RetryAfter = opening.RetryAfter,
                });
        }

        var takenOver = false;
        if (opening.PreviousOwner is { } previous && previous != _options.Replica)
        {
            takenOver = true;
            Log.TookOver(logger, stream, previous, opening.Takeovers);
        }

        if (opening.Refused is { } reason)
        {
            Log.CheckpointRefused(logger, stream, reason);
        }

        return new KeptOpening(opening.Claim, opening.Checkpoint, opening.Refused is not null, opening.Refused is not null ? RefusedNotice(opening.Refused) : opening.Dropped is { } dropped ? $"{dropped}; the stream starts from the source statistics" : null) { TookOver = takenOver };
    }

    /// <summary>Gives up a claim under which nothing was done.</summary>
    public async Task GiveUpAsync(StreamClaim? claim)
    {
        if (claim is { } held)
        {
            try
            {
                await TryAsync(() => Store.CloseAsync(held, null, CancellationToken.None)).ConfigureAwait(false);
            }
            catch (Exception trouble) when (trouble is StoreUnavailableException or StoredStreamException)
            {
                // It lapses when the next opens the stream.
            }
        }
    }

    /// <summary>Sets a stored state aside that the model refuses. Returns what the client should know.</summary>
    public async Task<string> RejectAsync(StreamClaim claim, StoredCheckpoint checkpoint, string reason)
    {
        Log.CheckpointRefused(logger, claim.Stream, reason);
        try
        {
            await TryAsync(async () =>
            {
                await Store.RejectAsync(claim, checkpoint.Description.Number, reason, CancellationToken.None).ConfigureAwait(false);
                return true;
            }).ConfigureAwait(false);
        }
        catch (Exception trouble) when (trouble is StoreUnavailableException or StoredStreamException)
        {
            // The first checkpoint of the new state takes its place.
        }

        return RefusedNotice(reason);
    }

    /// <summary>Whether this replica still has the stream, as far as the store can be asked.</summary>
    /// <param name="session">The stream.</param>
    /// <param name="now">Ask also when the store said so a moment ago.</param>
    public async Task<bool> HoldsAsync(StreamSession session, bool now)
    {
        if (Claim(session) is not { } claim || !health.MayTry)
        {
            return true;
        }

        lock (session.Gate)
        {
            if (!now && clock.GetElapsedTime(session.Keeping.ConfirmedAt) < _options.RenewInterval)
            {
                return true;
            }
        }

        return await RenewAsync([session]).ConfigureAwait(false) == 0;
    }

    /// <summary>Confirms the claims of streams, and ends those that are not this replica's any more.</summary>
    /// <returns>How many ended.</returns>
    public async Task<int> RenewAsync(IReadOnlyCollection<StreamSession> sessions)
    {
        var claims = new Dictionary<StreamClaim, StreamSession>();
        foreach (var session in sessions)
        {
            if (Claim(session) is { } claim)
            {
                claims[claim] = session;
            }
        }

        IReadOnlyList<FencedClaim> fenced;
        try
        {
            fenced = await TryAsync(() => Store.RenewAsync(claims.Keys, CancellationToken.None)).ConfigureAwait(false);
        }
        catch (StoreUnavailableException)
        {
            return 0;
        }

        var ended = 0;
        foreach (var lost in fenced)
        {
            var session = claims[lost.Claim];
            claims.Remove(lost.Claim);
            if (lost.Epoch == 0)
            {
                Forgotten(session, lost.Claim);
            }
            else
            {
                ended++;
                await EndAsync(session, lost.Claim, lost.Owner).ConfigureAwait(false);
            }
        }

        foreach (var session in claims.Values)
        {
            lock (session.Gate)
            {
                session.Keeping.ConfirmedAt = clock.GetTimestamp();
            }
        }

        return ended;
    }

    // Gets a claim for a stream that was opened while the store was out of reach, or whose store lost its content. Called while it is written.
    private async Task<SaveStatus> ClaimAsync(StreamSession session)
    {
        StreamOpening opening;
        try
        {
            // Without a call that has it open, whoever opened it elsewhere meanwhile has the better right.
            opening = await TryAsync(() => Store.OpenAsync(session.Name, _options.Replica, session.IsOpen ? OpenPolicy.Replace : OpenPolicy.Reject, CancellationToken.None)).ConfigureAwait(false);
        }
        catch (StoreUnavailableException)
        {
            return SaveStatus.Failed;
        }

        if (opening.Claim is not { } claim)
        {
            await EndStream(session, Moved(session, opening.PreviousOwner)).ConfigureAwait(false);
            return SaveStatus.Ended;
        }

        if (session.Keeping.OpenedBlind && opening.Checkpoint is { } stored && stored.Description.Step > session.Steps)
        {
            await GiveUpAsync(claim).ConfigureAwait(false);
            await EndStream(session, new Failure(FailureKind.Unavailable, "STREAM_STATE_FOUND", $"the state store is back and has a state of stream '{session.Name}' with {stored.Description.Step} steps, this one has {session.Steps}; open the stream again to go on from the stored one")).ConfigureAwait(false);
            return SaveStatus.Ended;
        }

        lock (session.Gate)
        {
            session.Keeping.Claim = claim;
            session.Keeping.OpenedBlind = false;
            session.Keeping.ConfirmedAt = clock.GetTimestamp();
            session.Keeping.Forgotten(clock.GetTimestamp());
        }

        return SaveStatus.Saved;
    }

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

            if (Claim(session) is not { } claim)
            {
                var claimed = await ClaimAsync(session).ConfigureAwait(false);
                if (claimed != SaveStatus.Saved)
                {
                    return (claimed, 0);
                }

                claim = Claim(session)!.Value;
            }

            var began = clock.GetTimestamp();
            var captured = await CaptureAsync(session).ConfigureAwait(false);
            if (captured is null && !close)
            {
                await SpillAsync(session, null).ConfigureAwait(false);
                return (SaveStatus.Saved, 0);
            }

            var write = await WriteAsync(session, claim, captured, close, began).ConfigureAwait(false);
            switch (write.Status)
            {
                case WriteStatus.Lost:
                    Forgotten(session, claim);
                    return (SaveStatus.Failed, 0);
                case WriteStatus.Fenced:
                    await EndAsync(session, claim, write.Owner).ConfigureAwait(false);
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
                await SpillAsync(session, captured!.Snapshot).ConfigureAwait(false);
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

    /// <summary>Brings a stream's state back into the process when it is in the store only.</summary>
    /// <exception cref="FailureException">It can't be read now, or not at all.</exception>
    public Task BringBackAsync(StreamSession session)
    {
        lock (session.Gate)
        {
            return session.Keeping.Spilled
                ? session.Keeping.BringingBack ??= Task.Run(() => FetchAsync(session))
                : Task.CompletedTask;
        }
    }

    /// <summary>Stored streams by name, from the first after <paramref name="after"/>; fewer than <paramref name="limit"/> are the last.</summary>
    /// <exception cref="StoreUnavailableException">The store is out of reach.</exception>
    public Task<IReadOnlyList<StoredStream>> ListAsync(string after, int limit) => TryAsync(() => Store.ListAsync(after, limit, CancellationToken.None));

    /// <summary>The checkpoints that are kept of a stream, newest first.</summary>
    /// <exception cref="FailureException">The store is out of reach.</exception>
    public async Task<IReadOnlyList<CheckpointDescription>> CheckpointsAsync(string stream)
    {
        try
        {
            return await TryAsync(() => Store.CheckpointsAsync(stream, CancellationToken.None)).ConfigureAwait(false);
        }
        catch (StoreUnavailableException trouble)
        {
            throw new FailureException(OutOfReach($"the checkpoints of stream '{stream}' can't be read now: {trouble.Message}"));
        }
        catch (StoredStreamException bad)
        {
            throw new FailureException(Unreadable(bad));
        }
    }

    /// <summary>Reads one of the kept checkpoints.</summary>
    /// <exception cref="FailureException">It is not kept, is refused, or the store is out of reach.</exception>
    public async Task<StoredCheckpoint> ReadAsync(string stream, long number)
    {
        try
        {
            return await TryAsync(() => Store.ReadAsync(stream, number, CancellationToken.None)).ConfigureAwait(false)
                ?? throw new FailureException(new Failure(FailureKind.NotFound, "CHECKPOINT_NOT_FOUND", $"checkpoint {number} of stream '{stream}' is not kept; ListCheckpoints names those that are (Store:KeepCheckpoints, {_options.KeepCheckpoints})"));
        }
        catch (StoreUnavailableException trouble)
        {
            throw new FailureException(OutOfReach($"checkpoint {number} of stream '{stream}' can't be read now: {trouble.Message}"));
        }
        catch (StoredStreamException bad)
        {
            throw new FailureException(Unreadable(bad));
        }
        catch (CheckpointRefusedException refused)
        {
            throw new FailureException(new Failure(FailureKind.FailedPrecondition, "CHECKPOINT_REFUSED", $"checkpoint {number} of stream '{stream}' is refused ({refused.Message}); take another"));
        }
    }

    /// <summary>Deletes what is stored of a stream.</summary>
    /// <returns>Whether something was.</returns>
    /// <exception cref="FailureException">The store is out of reach.</exception>
    public async Task<bool> DeleteAsync(string stream)
    {
        try
        {
            return await TryAsync(() => Store.DeleteAsync(stream, CancellationToken.None)).ConfigureAwait(false);
        }
        catch (StoreUnavailableException trouble)
        {
            throw new FailureException(OutOfReach($"stream '{stream}' can't be deleted now, it would come back: {trouble.Message}"));
        }
        catch (StoredStreamException bad)
        {
            throw new FailureException(Unreadable(bad));
        }
    }

    public async ValueTask DisposeAsync()
    {
        if (_store is not null)
        {
            await _store.DisposeAsync().ConfigureAwait(false);
        }
    }

    private void Dropped(string stream)
    {
        metrics.StoreDroppedStream();
        lock (_reports)
        {
            if (!IsDue(ref _droppedReportedAt))
            {
                _unreported++;
                return;
            }

            Log.StoredStreamDropped(logger, stream, _unreported, _options.MaxStreams, _options.MaxBytes);
            _unreported = 0;
        }
    }

    private void NotSaved(StoredStreamException bad)
    {
        lock (_reports)
        {
            if (IsDue(ref _unreadableReportedAt))
            {
                Log.StoredStreamUnreadable(logger, bad.Stream, bad.Message);
            }
        }
    }

    private bool IsDue(ref long? reportedAt)
    {
        if (reportedAt is { } at && clock.GetElapsedTime(at) < BetweenReports)
        {
            return false;
        }

        reportedAt = clock.GetTimestamp();
        return true;
    }

    private static bool HasEnded(StreamSession session)
    {
        lock (session.Gate)
        {
            return session.Keeping.Ended;
        }
    }

    private static StreamClaim? Claim(StreamSession session)
    {
        lock (session.Gate)
        {
            return session.Keeping.Claim;
        }
    }

    private static string RefusedNotice(string reason) => $"the stored state was refused and set aside ({reason}); the stream starts from the source statistics";

    private static Failure Moved(StreamSession session, string? owner) => owner is null
        ? new Failure(FailureKind.Aborted, "STREAM_DELETED", $"stream '{session.Name}' was deleted or closed elsewhere")
        : new Failure(FailureKind.Aborted, "STREAM_TAKEN_OVER", $"stream '{session.Name}' was opened on replica '{owner}'; one replica at a time has a stream") { Owner = owner };

    private Failure OutOfReach(string message) => new(FailureKind.Unavailable, "STORE_UNAVAILABLE", message) { RetryAfter = _options.RetryDelay };

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
            await BringBackAsync(session).ConfigureAwait(false);
            var captured = await session.Model.Batcher.BetweenStepsAsync(session, model =>
            {
                if (session.State is not { } state || session.Keeping.Spilled)
                {
                    return null;
                }

                var snapshot = session.ColdState ?? model.Export(state, clock.GetUtcNow());
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
            return await TryAsync(() => Store.CloseAsync(claim, null, CancellationToken.None)).ConfigureAwait(false);
        }

        var model = session.Model.Name;
        var span = activities.CheckpointBegan(session);
        var pending = new PendingCheckpoint(captured.Snapshot, captured.Sequence, captured.Version, captured.Record.Write()) { ModelName = model, Client = session.Client };
        FailureKind? failure = FailureKind.Internal;
        var bytes = 0L;
        try
        {
            var write = await TryAsync(() => close
                ? Store.CloseAsync(claim, pending, CancellationToken.None)
                : Store.CheckpointAsync(claim, pending, CancellationToken.None)).ConfigureAwait(false);
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

    // Lets go of a state that has left the arena and is stored, while nobody waits for it. A null snapshot stands for the one that was stored before.
    private async Task SpillAsync(StreamSession session, byte[]? snapshot)
    {
        if (!Store.OutlivesProcess || !session.Keeping.Evicted)
        {
            return;
        }

        await session.Model.Engine.InvokeAsync(_ =>
        {
            lock (session.Gate)
            {
                var keeping = session.Keeping;
                if (session.ColdState is { } cold && (snapshot is null || ReferenceEquals(cold, snapshot)) && !keeping.Dirty && keeping.Number > 0 && session.NothingWaits)
                {
                    session.ColdState = null;
                    (keeping.Spilled, keeping.Evicted) = (true, false);
                }
            }

            return true;
        }).ConfigureAwait(false);
    }

    private async Task FetchAsync(StreamSession session)
    {
        try
        {
            var number = session.Keeping.Number;
            var stored = await TryAsync(() => Store.ReadAsync(session.Name, number, CancellationToken.None)).ConfigureAwait(false)
                ?? throw new CheckpointRefusedException("damaged", $"checkpoint {number} is gone from the store");
            await session.Model.Engine.InvokeAsync(_ =>
            {
                lock (session.Gate)
                {
                    session.ColdState = stored.Snapshot;
                    (session.Keeping.Spilled, session.Keeping.Evicted) = (false, true);
                }

                return true;
            }).ConfigureAwait(false);
        }
        catch (StoreUnavailableException trouble)
        {
            throw new FailureException(OutOfReach($"the state of stream '{session.Name}' is in the store and can't be read now: {trouble.Message}"));
        }
        catch (StoredStreamException bad)
        {
            throw new FailureException(Unreadable(bad));
        }
        catch (CheckpointRefusedException refused)
        {
            var lost = new Failure(FailureKind.Unavailable, "STREAM_STATE_LOST", $"the state of stream '{session.Name}' was in the store and is refused now ({refused.Message}); open the stream again, it says what it starts from");
            Log.CheckpointRefused(logger, session.Name, refused.Message);
            _ = Task.Run(() => EndStream(session, lost));
            throw new FailureException(lost);
        }
        finally
        {
            lock (session.Gate)
            {
                session.Keeping.BringingBack = null;
            }
        }
    }

    // The store knows nothing of the stream, so nobody else has it either: it is claimed and written anew.
    private void Forgotten(StreamSession session, StreamClaim claim)
    {
        Log.StoreForgot(logger, session.Name);
        lock (session.Gate)
        {
            if (session.Keeping.Claim == claim)
            {
                session.Keeping.Claim = null;
                session.Keeping.Forgotten(clock.GetTimestamp());
            }
        }
    }

    private async Task EndAsync(StreamSession session, StreamClaim claim, string? owner)
    {
        if (Claim(session) == claim)
        {
            metrics.StreamMoved(session.Model.Name, StreamTransition.Fenced);
            Log.Fenced(logger, session.Name, owner);
            await EndStream(session, Moved(session, owner)).ConfigureAwait(false);
        }
    }

    private async Task<T> TryAsync<T>(Func<Task<T>> operation)
    {
        if (!health.MayTry)
        {
            throw new StoreUnavailableException(health.Trouble ?? "the store failed a moment ago");
        }

        try
        {
            var result = await operation().ConfigureAwait(false);
            health.Worked();
            return result;
        }
        catch (StoreUnavailableException trouble)
        {
            health.Failed(trouble.Message);
            throw;
        }
        catch (StoreFullException full)
        {
            health.Failed(full.Message);
            throw new StoreUnavailableException(full.Message, full);
        }
        catch (StoredStreamException)
        {
            // One stream's trouble: the store itself answered.
            health.Worked();
            throw;
        }
    }

    private static Failure Unreadable(StoredStreamException bad) =>
        new(FailureKind.FailedPrecondition, "STORED_STREAM_UNREADABLE", $"stream '{bad.Stream}' can't be read: {bad.Message}; DeleteStream removes it, or use another name");

    private sealed record Captured(byte[] Snapshot, long Version, ulong Sequence, StreamRecord Record, long At);

    private static partial class Log
    {
        [LoggerMessage(EventId = 52, Level = LogLevel.Warning, Message = "CheckpointRefused {Stream}: {Reason}")]
        public static partial void CheckpointRefused(ILogger logger, string stream, string reason);

        [LoggerMessage(EventId = 53, Level = LogLevel.Information, Message = "TookOver {Stream} from {Owner}, take-over {Takeovers}")]
        public static partial void TookOver(ILogger logger, string stream, string owner, long takeovers);

        [LoggerMessage(EventId = 54, Level = LogLevel.Information, Message = "Fenced {Stream}: it is now with {Owner}")]
        public static partial void Fenced(ILogger logger, string stream, string? owner);

        [LoggerMessage(EventId = 60, Level = LogLevel.Warning, Message = "StoredStreamDropped {Stream} to make room, and {Others} others since the last report: Store:MaxStreams is {MaxStreams}, Store:MaxBytes {MaxBytes}")]
        public static partial void StoredStreamDropped(ILogger logger, string stream, long others, int maxStreams, long maxBytes);

        [LoggerMessage(EventId = 61, Level = LogLevel.Warning, Message = "StoredStreamUnreadable {Stream}, which goes on in memory: {Reason}")]
        public static partial void StoredStreamUnreadable(ILogger logger, string stream, string reason);

        [LoggerMessage(EventId = 55, Level = LogLevel.Warning, Message = "StoreForgot {Stream}: the store lost its content, the stream is written anew")]
        public static partial void StoreForgot(ILogger logger, string stream);
    }
}

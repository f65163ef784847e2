using Microsoft.Extensions.Options;
using TtaService.Serving.Store;
using TtaService.Serving.Telemetry;

namespace TtaService.Serving.Streams.Keeping;

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

/// <summary>The rights to write that this replica has: gets them, confirms them, gives them up, and ends the streams whose right went to another. Thread-safe.</summary>
internal sealed partial class StreamClaims(
    RetryingStreamStateStore store,
    StreamEnding ending,
    IOptions<StoreOptions> options,
    TtaMetrics metrics,
    TimeProvider clock,
    ILogger<StreamClaims> logger)
{
    private readonly StoreOptions _options = options.Value;

    /// <summary>The right to write a stream; null while there is none.</summary>
    public static StreamClaim? Of(StreamSession session)
    {
        lock (session.Gate)
        {
            return session.Keeping.Claim;
        }
    }

    /// <summary>Claims a stream and reads what is stored of it.</summary>
    /// <exception cref="FailureException">Another replica has it and keeps it, or a claim is required and the store is out of reach.</exception>
    public async Task<KeptOpening> OpenAsync(StreamKey key, OpenPolicy policy)
    {
        var stream = key.Name;
        StreamOpening opening;
        try
        {
            opening = await store.OpenAsync(key.Word, _options.Replica, policy, CancellationToken.None).ConfigureAwait(false);
        }
        catch (StoreUnavailableException trouble)
        {
            return _options.RequireFencing
                ? throw new FailureException(StoreFailures.OutOfReach(_options, $"stream '{stream}' can't be claimed, and Store:RequireFencing is set: {trouble.Message}"))
                : new KeptOpening(null, null, false, null);
        }
        catch (StoredStreamException bad)
        {
            throw new FailureException(StoreFailures.Unreadable(bad));
        }

        switch (opening.Status)
        {
            case OpenStatus.Held:
                throw new FailureException(new Failure(
                    FailureKind.Unavailable,
                    "STREAM_OWNED_ELSEWHERE",
                    $"replica '{opening.PreviousOwner}' has stream '{stream}'; send to it, or open the stream with StreamInfer where Store:DuplicateStream is replace")
                {
                    Owner = opening.PreviousOwner,
                    RetryAfter = opening.RetryAfter,
                });
            case OpenStatus.TakeoverLimited:
                throw new FailureException(new Failure(
                    FailureKind.ResourceExhausted,
                    "STREAM_TAKEN_OVER_TOO_OFTEN",
                    $"stream '{stream}' changed hands {_options.MaxTakeoversPerMinute} times within a minute (Store:MaxTakeoversPerMinute), {opening.Takeovers} times in all: "
                        + "two clients use one name, or a load balancer spreads its requests; give each camera a name of its own and route by it")
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

        return new KeptOpening(
            opening.Claim,
            opening.Checkpoint,
            opening.Refused is not null,
            opening.Refused is not null ? RefusedNotice(opening.Refused) : opening.Dropped is { } dropped ? $"{dropped}; "
                + "the stream starts from the source statistics" : null)
        { TookOver = takenOver };
    }

    /// <summary>Gives up a claim under which nothing was done.</summary>
    public async Task GiveUpAsync(StreamClaim? claim)
    {
        if (claim is { } held)
        {
            try
            {
                await store.CloseAsync(held, null, CancellationToken.None).ConfigureAwait(false);
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
            await store.RejectAsync(claim, checkpoint.Description.Number, reason, CancellationToken.None).ConfigureAwait(false);
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
        if (Of(session) is not { } claim || !store.MayTry)
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
            if (Of(session) is { } claim)
            {
                claims[claim] = session;
            }
        }

        IReadOnlyList<FencedClaim> fenced;
        try
        {
            fenced = await store.RenewAsync(claims.Keys, CancellationToken.None).ConfigureAwait(false);
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
                await FencedAsync(session, lost.Claim, lost.Owner).ConfigureAwait(false);
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

    /// <summary>Gets a claim for a stream that was opened while the store was out of reach, or whose store lost its content. Called while it is written.</summary>
    public async Task<SaveStatus> ClaimAsync(StreamSession session)
    {
        StreamOpening opening;
        try
        {
            // Without a call that has it open, whoever opened it elsewhere meanwhile has the better right.
            opening = await store.OpenAsync(
                session.Key.Word,
                _options.Replica,
                session.Use.IsOpen ? OpenPolicy.Replace : OpenPolicy.Reject,
                CancellationToken.None).ConfigureAwait(false);
        }
        catch (StoreUnavailableException)
        {
            return SaveStatus.Failed;
        }

        if (opening.Claim is not { } claim)
        {
            await ending.EndAsync(session, StoreFailures.Moved(session, opening.PreviousOwner)).ConfigureAwait(false);
            return SaveStatus.Ended;
        }

        if (session.Keeping.OpenedBlind && opening.Checkpoint is { } stored && stored.Description.Step > session.History.Steps)
        {
            await GiveUpAsync(claim).ConfigureAwait(false);
            await ending.EndAsync(
                session,
                new Failure(
                    FailureKind.Unavailable,
                    "STREAM_STATE_FOUND",
                    $"the state store is back and has a state of stream '{session.Name}' with {stored.Description.Step} steps, this one has {session.History.Steps}; "
                        + "open the stream again to go on from the stored one")).ConfigureAwait(false);
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

    /// <summary>The store knows nothing of the stream, so nobody else has it either: it is claimed and written anew.</summary>
    public void Forgotten(StreamSession session, StreamClaim claim)
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

    /// <summary>A claim does not hold any more: the stream ends here.</summary>
    public async Task FencedAsync(StreamSession session, StreamClaim claim, string? owner)
    {
        if (Of(session) == claim)
        {
            metrics.StreamMoved(session.Model.Name, StreamTransition.Fenced);
            Log.Fenced(logger, session.Name, owner);
            await ending.EndAsync(session, StoreFailures.Moved(session, owner)).ConfigureAwait(false);
        }
    }

    private static string RefusedNotice(string reason) => $"the stored state was refused and set aside ({reason}); the stream starts from the source statistics";

    private static partial class Log
    {
        [LoggerMessage(EventId = 52, Level = LogLevel.Warning, Message = "CheckpointRefused {Stream}: {Reason}")]
        public static partial void CheckpointRefused(ILogger logger, string stream, string reason);

        [LoggerMessage(EventId = 53, Level = LogLevel.Information, Message = "TookOver {Stream} from {Owner}, take-over {Takeovers}")]
        public static partial void TookOver(ILogger logger, string stream, string owner, long takeovers);

        [LoggerMessage(EventId = 54, Level = LogLevel.Information, Message = "Fenced {Stream}: it is now with {Owner}")]
        public static partial void Fenced(ILogger logger, string stream, string? owner);

        [LoggerMessage(EventId = 55, Level = LogLevel.Warning, Message = "StoreForgot {Stream}: the store lost its content, the stream is written anew")]
        public static partial void StoreForgot(ILogger logger, string stream);
    }
}

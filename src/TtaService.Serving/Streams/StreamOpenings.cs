using Microsoft.Extensions.Options;
using TtaService.Engine.Execution;
using TtaService.Engine.Normalization;
using TtaService.Engine.Streams;
using TtaService.Serving.Store;
using TtaService.Serving.Streams.Keeping;
using TtaService.Serving.Telemetry;

namespace TtaService.Serving.Streams;

/// <summary>Brings streams into this process, within the limits: found, created, restored or imported. Thread-safe.</summary>
internal sealed partial class StreamOpenings(
    ModelCatalog models,
    StreamDirectory directory,
    StreamRegister register,
    StreamClaims claims,
    StreamSaving saving,
    StreamChanges changes,
    StreamDepartures departures,
    IOptions<StreamsOptions> options,
    IOptions<StoreOptions> store,
    TtaMetrics metrics,
    TimeProvider clock,
    ILogger<StreamOpenings> logger)
{
    // A second in all.
    private const int MostWaitsForRoom = 100;
    private static readonly TimeSpan WaitForRoom = TimeSpan.FromMilliseconds(10);

    private readonly StreamsOptions _options = options.Value;
    private readonly ReplyBudget _replies = new(options.Value.MaxKeptReplyBytes > 0 ? options.Value.MaxKeptReplyBytes : GC.GetGCMemoryInfo().TotalAvailableMemoryBytes / 16);
    private readonly OpenPolicy _callPolicy = store.Value.DuplicateStream;
    private readonly OpenPolicy _requestPolicy = store.Value.UnaryTakesOver ? store.Value.DuplicateStream : OpenPolicy.Reject;

    /// <summary>Finds or creates a stream and makes the caller the call that has it open.</summary>
    /// <param name="request">Which, and how.</param>
    /// <param name="cancel">Ends the wait of a call that takes the stream from another too soon after the last.</param>
    public async Task<(StreamLease Lease, StateOrigin Origin)> OpenAsync(StreamRequest request, CancellationToken cancel = default)
    {
        while (true)
        {
            var (session, begun) = await FindOrCreateAsync(request, _callPolicy, isCall: true).ConfigureAwait(false);
            if (begun is null && session.Use.IsOpen)
            {
                await ContendAsync(session, cancel).ConfigureAwait(false);
            }

            var lease = new StreamLease(session);
            if (session.Deleted && begun is null)
            {
                // Deleted between the look-up and here.
                continue;
            }

            try
            {
                return (lease, begun ?? await ContinueAsync(session, request).ConfigureAwait(false));
            }
            catch
            {
                lease.Dispose();
                throw;
            }
        }
    }

    // Two cameras under one name would push each other out as fast as they can; nobody is served by that.
    private async Task ContendAsync(StreamSession session, CancellationToken cancel)
    {
        var (takeovers, wait) = session.Use.Contend();
        metrics.StreamMoved(session.Model.Name, StreamTransition.CallTakenOver);
        if (wait == TimeSpan.Zero)
        {
            return;
        }

        if (int.IsPow2(takeovers))
        {
            Log.StreamContended(logger, session.Name, takeovers, wait);
        }

        // In real time, as the clients come back in it.
        await Task.Delay(wait, TimeProvider.System, cancel).ConfigureAwait(false);
    }

    /// <summary>Finds or creates a stream for one step; a call that has it open keeps it.</summary>
    public async Task<(StreamSession Session, StateOrigin Origin)> VisitAsync(StreamRequest request)
    {
        var (session, begun) = await FindOrCreateAsync(request, _requestPolicy, isCall: false).ConfigureAwait(false);
        return (session, begun ?? await ContinueAsync(session, request).ConfigureAwait(false));
    }

    /// <summary>Finds a stream, in the store when it is not here.</summary>
    public async Task<StreamSession> LoadAsync(StreamKey key) =>
        (await FindOrCreateAsync(new StreamRequest { Key = key, Mode = ResumeMode.MustExist }, _requestPolicy, isCall: false).ConfigureAwait(false)).Session;

    /// <summary>Creates a stream.</summary>
    public async Task<StreamSession> CreateAsync(StreamRequest request) =>
        (await FindOrCreateAsync(request with { Mode = ResumeMode.MustCreate }, OpenPolicy.Reject, isCall: false).ConfigureAwait(false)).Session;

    /// <summary>Creates a stream that continues from a snapshot.</summary>
    public async Task<StreamSession> ImportAsync(StreamKey key, string modelName, ReadOnlyMemory<byte> snapshot)
    {
        var model = models.Place(modelName);
        using var hold = await directory.HoldAsync(key).ConfigureAwait(false);
        if (directory.Contains(key))
        {
            throw new FailureException(Exists(key.Name));
        }

        await MakeRoomAsync(snapshot.Length).ConfigureAwait(false);
        var opening = await claims.OpenAsync(key, OpenPolicy.Reject).ConfigureAwait(false);
        try
        {
            if (opening.Checkpoint is not null)
            {
                throw new FailureException(Exists(key.Name));
            }

            // A snapshot is about as large as the state in it.
            return await AddAsync(key, model, snapshot.Length, engine => engine.Import(snapshot.Span), StateOrigin.Restored, new StreamSettings(), opening).ConfigureAwait(false);
        }
        catch (SnapshotException refused)
        {
            await claims.GiveUpAsync(opening.Claim).ConfigureAwait(false);
            throw new FailureException(Failure.Invalid("SNAPSHOT_REFUSED", "snapshot", refused.Message));
        }
        catch
        {
            await claims.GiveUpAsync(opening.Claim).ConfigureAwait(false);
            throw;
        }
    }

    /// <summary>Creates a stream that starts from a copy of another's state.</summary>
    public async Task<StreamSession> ForkAsync(StreamSession source, StreamKey key) =>
        await ImportAsync(key, source.Model.Name, await changes.ExportAsync(source).ConfigureAwait(false)).ConfigureAwait(false);

    /// <summary>A stream that belongs to one call and is not listed. It ends with <see cref="StreamDepartures.DiscardAsync"/>.</summary>
    public async Task<StreamSession> CreateUnlistedAsync(StreamRequest request)
    {
        var (model, method) = StreamRequestRules.Resolve(models, request);
        var bytes = model.Engine.Model.StateBytes(method);
        register.ReserveUnlisted(bytes);
        try
        {
            var session = await BeginSessionAsync(
                model,
                bytes,
                engine => engine.CreateState(method, request.Seed ?? 0),
                state => new StreamSession(request.Key, model, state, StateOrigin.Fresh, StreamRequestRules.Settings(request), _options, _replies, clock)).ConfigureAwait(false);
            register.BeginUnlisted(session, bytes);
            return session;
        }
        catch
        {
            register.GiveBackUnlisted(bytes);
            throw;
        }
    }

    // How its state began is null for a stream that was here already.
    private async Task<(StreamSession Session, StateOrigin? Begun)> FindOrCreateAsync(StreamRequest request, OpenPolicy policy, bool isCall)
    {
        while (true)
        {
            if (register.Find(request.Key) is { Deleted: false } session)
            {
                if (request.Mode == ResumeMode.MustCreate)
                {
                    throw new FailureException(Exists(request.Key.Name));
                }

                if (await claims.HoldsAsync(session, now: isCall).ConfigureAwait(false))
                {
                    StreamRequestRules.RequireSame(session, request);
                    return (session, null);
                }
            }

            using var hold = await directory.HoldAsync(request.Key).ConfigureAwait(false);
            if (!directory.Contains(request.Key))
            {
                var (begun, origin) = await BeginAsync(request, policy).ConfigureAwait(false);
                StreamRequestRules.RequireSame(begun, request);
                return (begun, origin);
            }
        }
    }

    // Restores a stream from the store, or creates it. The name is held.
    private async Task<(StreamSession Session, StateOrigin Origin)> BeginAsync(StreamRequest request, OpenPolicy policy)
    {
        await MakeRoomAsync(0).ConfigureAwait(false);
        var opening = await claims.OpenAsync(request.Key, policy).ConfigureAwait(false);
        try
        {
            if (opening.Checkpoint is not null && request.Mode == ResumeMode.MustCreate)
            {
                throw new FailureException(Exists(request.Key.Name));
            }

            if (opening is { Checkpoint: null, Refused: false } && request.Mode == ResumeMode.MustExist)
            {
                throw new FailureException(opening.Claim is null
                    ? new Failure(
                        FailureKind.Unavailable,
                        "STORE_UNAVAILABLE",
                        $"stream '{request.Key.Name}' is not in memory and the state store is out of reach")
                    { RetryAfter = TimeSpan.FromSeconds(1) }
                    : opening.Notice is { } dropped ? Failure.StreamNotFound(request.Key.Name, dropped) : Failure.StreamNotFound(request.Key.Name));
            }

            var (session, refused) = opening.Checkpoint is { } checkpoint && request.Mode != ResumeMode.Reset
                ? await RestoreAsync(request, checkpoint, opening).ConfigureAwait(false)
                : (null, opening.Notice);
            if (session is not null)
            {
                return (session, StateOrigin.Restored);
            }

            var (model, method) = StreamRequestRules.Resolve(models, request);
            var bytes = model.Engine.Model.StateBytes(method);
            await MakeRoomAsync(bytes).ConfigureAwait(false);
            var origin = opening.Refused || opening.Checkpoint is not null ? StateOrigin.Reset : StateOrigin.Fresh;
            var begun = await AddAsync(
                request.Key,
                model,
                bytes,
                engine => engine.CreateState(method, request.Seed ?? 0),
                origin,
                StreamRequestRules.Settings(request),
                opening with { Notice = refused },
                request.Client).ConfigureAwait(false);
            if (origin == StateOrigin.Reset)
            {
                changes.WasReset(begun, request.Mode == ResumeMode.Reset && !opening.Refused ? ResetCause.Request : ResetCause.Corrupt);
            }

            return (begun, origin);
        }
        catch
        {
            await claims.GiveUpAsync(opening.Claim).ConfigureAwait(false);
            throw;
        }
    }

    // No session when the state can't be used, but why.
    private async Task<(StreamSession? Session, string? Refused)> RestoreAsync(StreamRequest request, StoredCheckpoint checkpoint, KeptOpening opening)
    {
        var claim = opening.Claim!.Value;
        var (known, foreign) = models.Of(checkpoint.Description, request.Model);
        if (known is null)
        {
            // Nothing is set aside for a request that can't begin a stream anyway, such as one for a model that is unloaded or broken now.
            _ = StreamRequestRules.Resolve(models, request);
            return (null, await claims.RejectAsync(claim, checkpoint, $"foreign: {foreign}").ConfigureAwait(false));
        }

        var model = models.Place(known.Name);
        await MakeRoomAsync(checkpoint.Snapshot.Length).ConfigureAwait(false);
        var record = StreamRecord.Read(checkpoint.Record);
        var settings = record?.Settings ?? new StreamSettings();
        settings = settings with { Frozen = request.Freeze ?? settings.Frozen, MaxCoalesce = request.MaxCoalesce ?? settings.MaxCoalesce };
        try
        {
            var session = await AddAsync(
                request.Key,
                model,
                checkpoint.Snapshot.Length,
                engine => engine.Import(checkpoint.Snapshot),
                StateOrigin.Restored,
                settings,
                opening,
                request.Client,
                session => session.Restore(record, checkpoint.Description.Sequence, checkpoint.Description.Number)).ConfigureAwait(false);
            return (session, null);
        }
        catch (SnapshotException refused)
        {
            return (null, await claims.RejectAsync(claim, checkpoint, $"foreign: {refused.Message}").ConfigureAwait(false));
        }
    }

    // Streams that nobody uses make room in the store's favour, the longest idle first.
    private async Task MakeRoomAsync(long bytes)
    {
        var waits = 0;
        while (register.WhyFull(bytes) is { } full)
        {
            if (!saving.OutlivesProcess)
            {
                throw new FailureException(full);
            }

            var unused = register.Listed.Where(session => !session.Settings.Pinned && !session.Use.IsOpen).ToList();
            var outcome = unused.Where(session => session.IdleFor(TimeSpan.Zero)).MinBy(session => session.Use.UsedAt) is { } idlest
                ? await departures.TryReleaseAsync(idlest, Failure.Unloaded(idlest.Name), onlyIdle: true).ConfigureAwait(false)
                : ReleaseOutcome.InUse;
            if (outcome == ReleaseOutcome.Unsaved || unused.Count == 0 || waits == MostWaitsForRoom)
            {
                throw new FailureException(full);
            }

            if (outcome == ReleaseOutcome.InUse)
            {
                // No call has it open: it is in a checkpoint or at the end of its last step, and idle in a moment.
                waits++;
                await Task.Delay(WaitForRoom).ConfigureAwait(false);
            }
        }
    }

    private async Task<StateOrigin> ContinueAsync(StreamSession session, StreamRequest request)
    {
        if (request.Freeze is not null || request.MaxCoalesce is not null)
        {
            session.Update(settings => settings with { Frozen = request.Freeze ?? settings.Frozen, MaxCoalesce = request.MaxCoalesce ?? settings.MaxCoalesce });
        }

        if (request.Mode != ResumeMode.Reset)
        {
            return StateOrigin.Continued;
        }

        await changes.RestartAsync(session, request).ConfigureAwait(false);
        return StateOrigin.Reset;
    }

    // The state is in the arena and its stream known there at once, so that it can make room for others from the first moment.
    private static async Task<StreamSession> BeginSessionAsync(ServedModel model, long bytes, Func<AdaptiveModel, StreamState> create, Func<StreamState, StreamSession> begin)
    {
        try
        {
            return await model.Engine.InvokeAsync(engine =>
            {
                var session = begin(model.Residency.Create(engine, bytes, create));
                model.Residency.Add(session);
                return session;
            }).ConfigureAwait(false);
        }
        catch (ArenaFullException full)
        {
            throw new FailureException(StreamChanges.StateMemoryFull(full));
        }
        catch (ObjectDisposedException)
        {
            // It took so long to come here that the model has been replaced and is gone.
            throw new FailureException(Failure.Replaced(model.Name));
        }
        catch (MethodSettingsException fault)
        {
            throw new FailureException(StreamRequestRules.Unavailable(model, $"can't begin a state: {fault.Message}"));
        }
    }

    // The name is held and free.
    private async Task<StreamSession> AddAsync(
        StreamKey key,
        ServedModel model,
        long bytes,
        Func<AdaptiveModel, StreamState> create,
        StateOrigin origin,
        StreamSettings settings,
        KeptOpening opening,
        string client = "",
        Action<StreamSession>? prepare = null)
    {
        var session = await BeginSessionAsync(model, bytes, create, state =>
        {
            var begun = new StreamSession(key, model, state, origin, settings, _options, _replies, clock) { Notice = opening.Notice, Client = client };
            begun.Keeping.Claim = opening.Claim;
            begun.Keeping.OpenedBlind = opening.Claim is null;
            begun.Keeping.ConfirmedAt = clock.GetTimestamp();
            prepare?.Invoke(begun);
            return begun;
        }).ConfigureAwait(false);
        if (register.List(session) is not { } full)
        {
            if (opening.TookOver)
            {
                metrics.StreamMoved(model.Name, StreamTransition.TakenOver);
            }

            metrics.StreamMoved(
                model.Name,
                opening.Claim is null ? StreamTransition.OpenedBlind : origin == StateOrigin.Restored ? StreamTransition.Restored : StreamTransition.Opened);
            Log.StreamOpened(logger, key.Name, origin, session.History.Steps);
            return session;
        }

        await model.Engine.InvokeAsync(engine =>
        {
            model.Residency.Release(engine, session);
            return true;
        }).ConfigureAwait(false);
        throw new FailureException(full);
    }

    private static Failure Exists(string name) =>
        new(FailureKind.AlreadyExists, "STREAM_EXISTS", $"stream '{name}' exists already; open it to continue it, delete it, or use another name");

    private static partial class Log
    {
        [LoggerMessage(EventId = 13, Level = LogLevel.Debug, Message = "StreamOpened {Stream}: {Origin}, {Steps} steps")]
        public static partial void StreamOpened(ILogger logger, string stream, StateOrigin origin, long steps);

        [LoggerMessage(
            EventId = 15,
            Level = LogLevel.Warning,
            Message = "StreamContended {Stream}: {Takeovers} calls took it from each other within a minute each, the next waits {Wait}; two clients use one name")]
        public static partial void StreamContended(ILogger logger, string stream, int takeovers, TimeSpan wait);
    }
}

using System.Collections.Concurrent;
using System.Text.Json.Nodes;
using Microsoft.Extensions.Options;
using TtaService.Engine.Execution;
using TtaService.Engine.Normalization;
using TtaService.Engine.Streams;
using TtaService.Serving.Store;
using TtaService.Serving.Telemetry;

namespace TtaService.Serving.Streams;

/// <summary>All streams by name: creation within the limits, lookup, deletion, and the ways to the store and back.</summary>
internal sealed partial class StreamDirectory
{
    // A second in all.
    private const int MostWaitsForRoom = 100;
    private static readonly TimeSpan WaitForRoom = TimeSpan.FromMilliseconds(10);

    private readonly ModelCatalog _models;
    private readonly StreamKeeper _keeper;
    private readonly TtaMetrics _metrics;
    private readonly TimeProvider _clock;
    private readonly ILogger _logger;
    private readonly StreamRegister _register;
    private readonly ConcurrentDictionary<string, TaskCompletionSource> _heldNames = new(StringComparer.Ordinal);
    private readonly StreamsOptions _options;
    private readonly ReplyBudget _replies;
    private readonly OpenPolicy _callPolicy;
    private readonly OpenPolicy _requestPolicy;

    public StreamDirectory(ModelCatalog models, StreamKeeper keeper, IOptions<StreamsOptions> options, IOptions<StoreOptions> store, TtaMetrics metrics, TimeProvider clock, ILogger<StreamDirectory> logger)
    {
        (_models, _keeper, _metrics, _clock, _logger) = (models, keeper, metrics, clock, logger);
        _options = options.Value;
        _replies = new ReplyBudget(_options.MaxKeptReplyBytes > 0 ? _options.MaxKeptReplyBytes : GC.GetGCMemoryInfo().TotalAvailableMemoryBytes / 16);
        _callPolicy = store.Value.DuplicateStream;
        _requestPolicy = store.Value.UnaryTakesOver ? store.Value.DuplicateStream : OpenPolicy.Reject;
        _register = new StreamRegister(_options);
        keeper.EndStream = EndAsync;
    }

    public int Count => _register.Count;

    /// <summary>The streams that are in this process.</summary>
    public IEnumerable<StreamSession> Loaded => _register.Listed;

    /// <summary>Finds or creates a stream and makes the caller the call that has it open.</summary>
    /// <param name="request">Which, and how.</param>
    /// <param name="cancel">Ends the wait of a call that takes the stream from another too soon after the last.</param>
    public async Task<(StreamLease Lease, StateOrigin Origin)> OpenAsync(StreamRequest request, CancellationToken cancel = default)
    {
        while (true)
        {
            var (session, begun) = await FindOrCreateAsync(request, _callPolicy, isCall: true).ConfigureAwait(false);
            if (begun is null && session.IsOpen)
            {
                await ContendAsync(session, cancel).ConfigureAwait(false);
            }

            var lease = session.TakeOver();
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
        var (takeovers, wait) = session.Contend();
        _metrics.StreamMoved(session.Model.Name, StreamTransition.CallTakenOver);
        if (wait == TimeSpan.Zero)
        {
            return;
        }

        if (int.IsPow2(takeovers))
        {
            Log.StreamContended(_logger, session.Name, takeovers, wait);
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
    public async Task<StreamSession> LoadAsync(string name) =>
        (await FindOrCreateAsync(new StreamRequest { Name = name, Mode = ResumeMode.MustExist }, _requestPolicy, isCall: false).ConfigureAwait(false)).Session;

    /// <summary>Creates a stream.</summary>
    public async Task<StreamSession> CreateAsync(StreamRequest request) =>
        (await FindOrCreateAsync(request with { Mode = ResumeMode.MustCreate }, OpenPolicy.Reject, isCall: false).ConfigureAwait(false)).Session;

    /// <summary>Creates a stream that continues from a snapshot.</summary>
    public async Task<StreamSession> ImportAsync(string name, string modelName, ReadOnlyMemory<byte> snapshot)
    {
        var model = _models.Place(modelName);
        using var hold = await HoldNameAsync(name).ConfigureAwait(false);
        if (Contains(name))
        {
            throw new FailureException(Exists(name));
        }

        await MakeRoomAsync(snapshot.Length).ConfigureAwait(false);
        var opening = await _keeper.OpenAsync(name, OpenPolicy.Reject).ConfigureAwait(false);
        try
        {
            if (opening.Checkpoint is not null)
            {
                throw new FailureException(Exists(name));
            }

            // A snapshot is about as large as the state in it.
            return await AddAsync(name, model, snapshot.Length, engine => engine.Import(snapshot.Span), StateOrigin.Restored, new StreamSettings(), opening).ConfigureAwait(false);
        }
        catch (SnapshotException refused)
        {
            await _keeper.GiveUpAsync(opening.Claim).ConfigureAwait(false);
            throw new FailureException(Failure.Invalid("SNAPSHOT_REFUSED", "snapshot", refused.Message));
        }
        catch
        {
            await _keeper.GiveUpAsync(opening.Claim).ConfigureAwait(false);
            throw;
        }
    }

    /// <summary>Creates a stream that starts from a copy of another's state.</summary>
    public async Task<StreamSession> ForkAsync(StreamSession source, string name) =>
        await ImportAsync(name, source.Model.Name, await ExportAsync(source).ConfigureAwait(false)).ConfigureAwait(false);

    /// <summary>A stream that belongs to one call and is not listed. It ends with <see cref="DiscardAsync"/>.</summary>
    public async Task<StreamSession> CreateUnlistedAsync(StreamRequest request)
    {
        var (model, method) = StreamRequestRules.Resolve(_models, request);
        var bytes = model.Engine.Model.StateBytes(method);
        _register.ReserveUnlisted(bytes);
        try
        {
            return await BeginSessionAsync(
                model,
                bytes,
                engine => engine.CreateState(method, request.Seed ?? 0),
                state => new StreamSession(request.Name, model, state, StateOrigin.Fresh, StreamRequestRules.Settings(request), _options, _replies, _clock) { CountedBytes = bytes }).ConfigureAwait(false);
        }
        catch
        {
            _register.GiveBackUnlisted(bytes);
            throw;
        }
    }

    public StreamSession Get(string name) => _register.Find(name) ?? throw new FailureException(Failure.StreamNotFound(name));

    /// <summary>Whether the stream is in this process.</summary>
    public bool Contains(string name) => _register.Find(name) is not null;

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
            throw new FailureException(new Failure(FailureKind.FailedPrecondition, "CHECKPOINT_REFUSED", $"checkpoint {checkpoint.Description.Number} of stream '{session.Name}' does not fit: {refused.Message}"));
        }

        if (StreamRecord.Read(checkpoint.Record) is { } record)
        {
            session.GrowOlder(record.ResetAt);
        }
    }

    /// <summary>The state between two steps, as safetensors.</summary>
    public Task<byte[]> ExportAsync(StreamSession session) => BetweenStepsAsync(session, (model, state) => model.Export(state, _clock.GetUtcNow()));

    /// <summary>Forgets a stream, here and in the store.</summary>
    public async Task DeleteAsync(string name)
    {
        using var hold = await HoldNameAsync(name).ConfigureAwait(false);
        if (_register.Find(name) is not { } session)
        {
            if (!await _keeper.DeleteAsync(name).ConfigureAwait(false))
            {
                throw new FailureException(Failure.StreamNotFound(name));
            }

            return;
        }

        // After what is being written of it, which must not come back.
        await session.Keeping.Writing.WaitAsync().ConfigureAwait(false);
        try
        {
            await _keeper.DeleteAsync(name).ConfigureAwait(false);
            await DiscardAsync(session).ConfigureAwait(false);
        }
        finally
        {
            session.Keeping.Writing.Release();
        }
    }

    /// <summary>Forgets a stream here: steps that have not begun fail, the call that has it open ends.</summary>
    public Task DiscardAsync(StreamSession session) => EndAsync(session, Deleted(session.Name));

    /// <summary>Looks at all streams as <see cref="UnloadIfIdleAsync"/> does.</summary>
    public async Task UnloadIdleAsync()
    {
        foreach (var session in _register.Listed)
        {
            await UnloadIfIdleAsync(session).ConfigureAwait(false);
        }
    }

    /// <summary>A stream that nobody has used for <see cref="StreamsOptions.IdleTimeout"/> leaves the process, to the store if it outlives it.</summary>
    public async Task UnloadIfIdleAsync(StreamSession session)
    {
        var name = session.Name;
        _metrics.StateAged(session.Model.Name, session.Method.Name, session.Steps);
        if (!IsIdle(session))
        {
            return;
        }

        if (_keeper.OutlivesProcess)
        {
            if (await ReleaseAsync(session, Failure.Unloaded(name), onlyIdle: true).ConfigureAwait(false))
            {
                Log.IdleStreamUnloaded(_logger, name, _options.IdleTimeout);
            }

            return;
        }

        using var hold = await HoldNameAsync(name).ConfigureAwait(false);
        lock (session.Gate)
        {
            // It may have been used, or deleted, while its name was held.
            if (session.Deleted || !IsIdle(session))
            {
                return;
            }

            (session.Deleted, session.Ending) = (true, Deleted(name));
        }

        try
        {
            await _keeper.DeleteAsync(name).ConfigureAwait(false);
        }
        catch
        {
            // It stays, and the next sweep tries again.
            lock (session.Gate)
            {
                (session.Deleted, session.Ending) = (false, null);
            }

            throw;
        }

        await DiscardAsync(session).ConfigureAwait(false);
        Log.IdleStreamDeleted(_logger, name, _options.IdleTimeout);
    }

    private bool IsIdle(StreamSession session) => !session.Settings.Pinned && session.IdleFor(_options.IdleTimeout);

    /// <summary>Ends a call's hold on a stream and gives the stream up, so that the next opening finds it whole on any replica.</summary>
    public async Task HandOverAsync(StreamLease lease, Failure ending)
    {
        if (_keeper.OutlivesProcess && !lease.Lost.IsCancellationRequested)
        {
            lease.Dispose();
            await ReleaseAsync(lease.Session, ending, onlyIdle: false).ConfigureAwait(false);
        }
    }

    /// <summary>Saves a stream, gives it up and forgets it here; its next opening, here or elsewhere, restores it.</summary>
    /// <returns>False when it stays: it is in use, or could not be saved.</returns>
    public async Task<bool> ReleaseAsync(StreamSession session, Failure ending, bool onlyIdle) =>
        await TryReleaseAsync(session, ending, onlyIdle).ConfigureAwait(false) == ReleaseOutcome.Released;

    private async Task<ReleaseOutcome> TryReleaseAsync(StreamSession session, Failure ending, bool onlyIdle)
    {
        using var hold = await HoldNameAsync(session.Name).ConfigureAwait(false);
        lock (session.Gate)
        {
            if (session.Deleted)
            {
                return ReleaseOutcome.Released;
            }

            if (onlyIdle && (session.IsOpen || !session.NothingWaits))
            {
                return ReleaseOutcome.InUse;
            }

            // What was admitted before still runs, and is in what is saved.
            (session.Deleted, session.Ending) = (true, ending);
        }

        var status = SaveStatus.Failed;
        try
        {
            (status, _) = await _keeper.SaveAsync(session, close: true).ConfigureAwait(false);
        }
        finally
        {
            if (status == SaveStatus.Failed)
            {
                // Not lost: it stays and goes on.
                lock (session.Gate)
                {
                    (session.Deleted, session.Ending) = (false, null);
                }
            }
        }

        if (status == SaveStatus.Failed)
        {
            return ReleaseOutcome.Unsaved;
        }

        if (status == SaveStatus.Saved)
        {
            await EndAsync(session, ending).ConfigureAwait(false);
        }

        return ReleaseOutcome.Released;
    }

    /// <summary>Counts a stream's memory anew after its state left the process or came back.</summary>
    public void Recount(StreamSession session) => _register.Recount(session);

    private async Task EndAsync(StreamSession session, Failure ending)
    {
        if (_register.Remove(session))
        {
            _metrics.StreamMoved(session.Model.Name, StreamTransition.Closed);
        }

        var batcher = session.Model.Batcher;
        lock (batcher.Gate)
        {
            (session.Deleted, session.Ending) = (true, ending);
            session.Keeping.Claim = null;
            session.Keeping.Ended = true;
        }

        batcher.Abandon(session, ending);
        session.RevokeLease();
        await batcher.BetweenStepsAsync(session, model =>
        {
            session.Model.Residency.Release(model, session);
            return true;
        }).ConfigureAwait(false);
    }

    // One opening, release or deletion of a name at a time, so that claims follow what is in memory.
    private async Task<NameHold> HoldNameAsync(string name)
    {
        var mine = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        while (true)
        {
            var holder = _heldNames.GetOrAdd(name, mine);
            if (holder == mine)
            {
                return new NameHold(_heldNames, name, mine);
            }

            await holder.Task.ConfigureAwait(false);
        }
    }

    // How its state began is null for a stream that was here already.
    private async Task<(StreamSession Session, StateOrigin? Begun)> FindOrCreateAsync(StreamRequest request, OpenPolicy policy, bool isCall)
    {
        while (true)
        {
            if (_register.Find(request.Name) is { Deleted: false } session)
            {
                if (request.Mode == ResumeMode.MustCreate)
                {
                    throw new FailureException(Exists(request.Name));
                }

                if (await _keeper.HoldsAsync(session, now: isCall).ConfigureAwait(false))
                {
                    StreamRequestRules.RequireSame(session, request);
                    return (session, null);
                }
            }

            using var hold = await HoldNameAsync(request.Name).ConfigureAwait(false);
            if (!Contains(request.Name))
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
        var opening = await _keeper.OpenAsync(request.Name, policy).ConfigureAwait(false);
        try
        {
            if (opening.Checkpoint is not null && request.Mode == ResumeMode.MustCreate)
            {
                throw new FailureException(Exists(request.Name));
            }

            if (opening is { Checkpoint: null, Refused: false } && request.Mode == ResumeMode.MustExist)
            {
                throw new FailureException(opening.Claim is null
                    ? new Failure(FailureKind.Unavailable, "STORE_UNAVAILABLE", $"stream '{request.Name}' is not in memory and the state store is out of reach") { RetryAfter = TimeSpan.FromSeconds(1) }
                    : opening.Notice is { } dropped ? Failure.StreamNotFound(request.Name, dropped) : Failure.StreamNotFound(request.Name));
            }

            var (session, refused) = opening.Checkpoint is { } checkpoint && request.Mode != ResumeMode.Reset
                ? await RestoreAsync(request, checkpoint, opening).ConfigureAwait(false)
                : (null, opening.Notice);
            if (session is not null)
            {
                return (session, StateOrigin.Restored);
            }

            var (model, method) = StreamRequestRules.Resolve(_models, request);
            var bytes = model.Engine.Model.StateBytes(method);
            await MakeRoomAsync(bytes).ConfigureAwait(false);
            var origin = opening.Refused || opening.Checkpoint is not null ? StateOrigin.Reset : StateOrigin.Fresh;
            var begun = await AddAsync(request.Name, model, bytes, engine => engine.CreateState(method, request.Seed ?? 0), origin, StreamRequestRules.Settings(request), opening with { Notice = refused }, request.Client).ConfigureAwait(false);
            if (origin == StateOrigin.Reset)
            {
                WasReset(begun, request.Mode == ResumeMode.Reset && !opening.Refused ? ResetCause.Request : ResetCause.Corrupt);
            }

            return (begun, origin);
        }
        catch
        {
            await _keeper.GiveUpAsync(opening.Claim).ConfigureAwait(false);
            throw;
        }
    }

    // No session when the state can't be used, but why.
    private async Task<(StreamSession? Session, string? Refused)> RestoreAsync(StreamRequest request, StoredCheckpoint checkpoint, KeptOpening opening)
    {
        var claim = opening.Claim!.Value;
        var (known, foreign) = _models.Of(checkpoint.Description, request.Model);
        if (known is null)
        {
            return (null, await _keeper.RejectAsync(claim, checkpoint, $"foreign: {foreign}").ConfigureAwait(false));
        }

        var model = _models.Place(known.Name);
        await MakeRoomAsync(checkpoint.Snapshot.Length).ConfigureAwait(false);
        var record = StreamRecord.Read(checkpoint.Record);
        var settings = record?.Settings ?? new StreamSettings();
        settings = settings with { Frozen = request.Freeze ?? settings.Frozen, MaxCoalesce = request.MaxCoalesce ?? settings.MaxCoalesce };
        try
        {
            var session = await AddAsync(
                request.Name,
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
            return (null, await _keeper.RejectAsync(claim, checkpoint, $"foreign: {refused.Message}").ConfigureAwait(false));
        }
    }

    // Streams that nobody uses make room in the store's favour, the longest idle first.
    private async Task MakeRoomAsync(long bytes)
    {
        var waits = 0;
        while (_register.WhyFull(bytes) is { } full)
        {
            if (!_keeper.OutlivesProcess)
            {
                throw new FailureException(full);
            }

            var unused = _register.Listed.Where(session => !session.Settings.Pinned && !session.IsOpen).ToList();
            var outcome = unused.Where(session => session.IdleFor(TimeSpan.Zero)).MinBy(session => session.UsedAt) is { } idlest
                ? await TryReleaseAsync(idlest, Failure.Unloaded(idlest.Name), onlyIdle: true).ConfigureAwait(false)
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

        await RestartAsync(session, request).ConfigureAwait(false);
        return StateOrigin.Reset;
    }

    private static async Task<T> BetweenStepsAsync<T>(StreamSession session, Func<AdaptiveModel, StreamState, T> work)
    {
        while (true)
        {
            await session.BringBackAsync().ConfigureAwait(false);
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
            throw new FailureException(StateMemoryFull(full));
        }
    }

    private static Failure StateMemoryFull(ArenaFullException full) =>
        new(FailureKind.ResourceExhausted, "STATE_MEMORY_FULL", $"{full.Message} (Models:ArenaBytes); try again") { RetryAfter = TimeSpan.FromSeconds(1) };

    // The name is held and free.
    private async Task<StreamSession> AddAsync(string name, ServedModel model, long bytes, Func<AdaptiveModel, StreamState> create, StateOrigin origin, StreamSettings settings, KeptOpening opening, string client = "", Action<StreamSession>? prepare = null)
    {
        var session = await BeginSessionAsync(model, bytes, create, state =>
        {
            StreamSession begun = null!;
            begun = new StreamSession(name, model, state, origin, settings, _options, _replies, _clock) { Notice = opening.Notice, Client = client, BringBackAsync = () => BringBackAsync(begun) };
            begun.Keeping.Claim = opening.Claim;
            begun.Keeping.OpenedBlind = opening.Claim is null;
            begun.Keeping.ConfirmedAt = _clock.GetTimestamp();
            prepare?.Invoke(begun);
            return begun;
        }).ConfigureAwait(false);
        if (_register.List(session) is not { } full)
        {
            if (opening.TookOver)
            {
                _metrics.StreamMoved(model.Name, StreamTransition.TakenOver);
            }

            _metrics.StreamMoved(model.Name, opening.Claim is null ? StreamTransition.OpenedBlind : origin == StateOrigin.Restored ? StreamTransition.Restored : StreamTransition.Opened);
            Log.StreamOpened(_logger, name, origin, session.Steps);
            return session;
        }

        await model.Engine.InvokeAsync(engine =>
        {
            model.Residency.Release(engine, session);
            return true;
        }).ConfigureAwait(false);
        throw new FailureException(full);
    }

    private async Task BringBackAsync(StreamSession session)
    {
        var back = _keeper.BringBackAsync(session);
        if (!back.IsCompletedSuccessfully)
        {
            await back.ConfigureAwait(false);
            Recount(session);
        }
    }

    private async Task RestartAsync(StreamSession session, StreamRequest request)
    {
        var method = request.Method is null ? session.Method : StreamRequestRules.Resolve(_models, request with { Model = session.Model.Name }).Method;
        var seed = request.Seed ?? session.Seed;
        await ReplaceAsync(session, session.Model.Engine.Model.StateBytes(method), engine => engine.CreateState(method, seed), StateOrigin.Reset).ConfigureAwait(false);
    }

    // A reset by the opening forgets the sequence numbers, a stored state goes on with them.
    private async Task ReplaceAsync(StreamSession session, long bytes, Func<AdaptiveModel, StreamState> create, StateOrigin origin)
    {
        var growth = _register.Reserve(session, bytes);
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
            _register.GiveBack(session, growth);
            throw new FailureException(StateMemoryFull(full));
        }
        catch
        {
            _register.GiveBack(session, growth);
            throw;
        }
    }

    private void WasReset(StreamSession session, ResetCause cause)
    {
        _metrics.StreamReset(session.Model.Name, session.Name, cause);
        Log.StreamReset(_logger, session.Name, cause);
    }

    private static Failure Deleted(string name) => new(FailureKind.Aborted, "STREAM_DELETED", $"stream '{name}' was deleted");

    private static Failure Exists(string name) =>
        new(FailureKind.AlreadyExists, "STREAM_EXISTS", $"stream '{name}' exists already; open it to continue it, delete it, or use another name");

    private enum ReleaseOutcome
    {
        Released,
        InUse,
        Unsaved,
    }

    private readonly struct NameHold(ConcurrentDictionary<string, TaskCompletionSource> held, string name, TaskCompletionSource hold) : IDisposable
    {
        public void Dispose()
        {
            held.TryRemove(KeyValuePair.Create(name, hold));
            hold.SetResult();
        }
    }

    private static partial class Log
    {
        [LoggerMessage(EventId = 13, Level = LogLevel.Debug, Message = "StreamOpened {Stream}: {Origin}, {Steps} steps")]
        public static partial void StreamOpened(ILogger logger, string stream, StateOrigin origin, long steps);

        [LoggerMessage(EventId = 15, Level = LogLevel.Warning, Message = "StreamContended {Stream}: {Takeovers} calls took it from each other within a minute each, the next waits {Wait}; two clients use one name")]
        public static partial void StreamContended(ILogger logger, string stream, int takeovers, TimeSpan wait);

        [LoggerMessage(EventId = 12, Level = LogLevel.Information, Message = "StreamReset {Stream}: back to the source statistics ({Cause})")]
        public static partial void StreamReset(ILogger logger, string stream, ResetCause cause);

        [LoggerMessage(EventId = 11, Level = LogLevel.Information, Message = "IdleStreamUnloaded {Stream}: no step for {IdleTimeout}, it waits in the store")]
        public static partial void IdleStreamUnloaded(ILogger logger, string stream, TimeSpan idleTimeout);

        [LoggerMessage(EventId = 10, Level = LogLevel.Information, Message = "IdleStreamDeleted {Stream}: no step for {IdleTimeout}")]
        public static partial void IdleStreamDeleted(ILogger logger, string stream, TimeSpan idleTimeout);
    }
}

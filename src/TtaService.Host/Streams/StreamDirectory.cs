using System.Collections.Concurrent;
using System.Text.Json.Nodes;
using Microsoft.Extensions.Options;
using TtaService.Engine.Execution;
using TtaService.Engine.Normalization;
using TtaService.Engine.Streams;

namespace TtaService.Host.Streams;

/// <summary>A method as a client names it; empty name for the model's default.</summary>
internal sealed record MethodChoice(string Name, JsonObject? Hyperparameters);

/// <summary>What a client asks for when it opens or creates a stream.</summary>
internal sealed record StreamRequest
{
    public required string Name { get; init; }

    /// <summary>Empty for the only model, or the stream's own.</summary>
    public string Model { get; init; } = string.Empty;

    /// <summary>Null for the model's default, or the stream's own.</summary>
    public MethodChoice? Method { get; init; }

    public ulong? Seed { get; init; }

    public bool? Freeze { get; init; }

    public int? MaxCoalesce { get; init; }

    public IReadOnlyDictionary<string, string>? Labels { get; init; }

    public ResumeMode Mode { get; init; }

    /// <summary>The request's field that says all this, for refusals.</summary>
    public string Root { get; init; } = "open";
}

/// <summary>What to do with a stream that exists already, or does not.</summary>
internal enum ResumeMode
{
    ContinueOrCreate,
    MustExist,
    MustCreate,
    Reset,
}

/// <summary>All streams by name: creation within the limits, lookup, deletion.</summary>
internal sealed partial class StreamDirectory(ModelCatalog models, IOptions<StreamsOptions> options, TimeProvider clock, ILogger<StreamDirectory> logger)
{
    private readonly ConcurrentDictionary<string, StreamSession> _streams = new(StringComparer.Ordinal);
    private readonly StreamsOptions _options = options.Value;
    private readonly long _maxStateBytes = options.Value.MaxStateBytes > 0 ? options.Value.MaxStateBytes : GC.GetGCMemoryInfo().TotalAvailableMemoryBytes / 2;
    private readonly Lock _admission = new();
    private long _stateBytes;
    private int _unlisted;

    public int Count => _streams.Count;

    /// <summary>Finds or creates a stream and makes the caller the call that has it open.</summary>
    public async Task<(StreamLease Lease, StateOrigin Origin)> OpenAsync(StreamRequest request)
    {
        while (true)
        {
            var (session, created) = await FindOrCreateAsync(request).ConfigureAwait(false);
            var lease = session.TakeOver();
            if (session.Deleted && !created)
            {
                // Deleted between the look-up and here.
                continue;
            }

            try
            {
                return (lease, created ? StateOrigin.Fresh : await ContinueAsync(session, request).ConfigureAwait(false));
            }
            catch
            {
                lease.Dispose();
                throw;
            }
        }
    }

    /// <summary>Finds or creates a stream for one step; a call that has it open keeps it.</summary>
    public async Task<(StreamSession Session, StateOrigin Origin)> VisitAsync(StreamRequest request)
    {
        var (session, created) = await FindOrCreateAsync(request).ConfigureAwait(false);
        return (session, created ? StateOrigin.Fresh : await ContinueAsync(session, request).ConfigureAwait(false));
    }

    /// <summary>Creates a stream.</summary>
    public async Task<StreamSession> CreateAsync(StreamRequest request) =>
        await TryCreateAsync(request).ConfigureAwait(false) ?? throw new FailureException(Exists(request.Name));

    /// <summary>Creates a stream that continues from a snapshot.</summary>
    public async Task<StreamSession> ImportAsync(string name, string modelName, ReadOnlyMemory<byte> snapshot)
    {
        var model = models.Find(modelName);
        RequireRoom(name, bytes: 0);
        StreamState state;
        try
        {
            // A snapshot is about as large as the state in it.
            state = await CreateStateAsync(model, snapshot.Length, engine => engine.Import(snapshot.Span)).ConfigureAwait(false);
        }
        catch (SnapshotException refused)
        {
            throw new FailureException(Failure.Invalid("SNAPSHOT_REFUSED", "snapshot", refused.Message));
        }

        return await TryAddAsync(name, model, state, StateOrigin.Restored, new StreamSettings()).ConfigureAwait(false)
            ?? throw new FailureException(Exists(name));
    }

    /// <summary>A stream that belongs to one call and is not listed. It is deleted with <see cref="DeleteAsync"/>.</summary>
    public async Task<StreamSession> CreateUnlistedAsync(StreamRequest request)
    {
        var (model, method) = Resolve(request);
        var bytes = model.Engine.Model.StateBytes(method);
        lock (_admission)
        {
            if (WhyFull(bytes) is { } full)
            {
                throw new FailureException(full);
            }

            _unlisted++;
            _stateBytes += bytes;
        }

        try
        {
            var state = await CreateStateAsync(model, bytes, engine => engine.CreateState(method, request.Seed ?? 0)).ConfigureAwait(false);
            return await RegisterAsync(new StreamSession(request.Name, model, state, StateOrigin.Fresh, Settings(request), _options, clock) { CountedBytes = bytes }).ConfigureAwait(false);
        }
        catch
        {
            lock (_admission)
            {
                _unlisted--;
                _stateBytes -= bytes;
            }

            throw;
        }
    }

    public StreamSession Get(string name) => _streams.TryGetValue(name, out var session) ? session : throw new FailureException(Failure.StreamNotFound(name));

    /// <summary>Up to <paramref name="count"/> streams in the order of their names, from the first name after <paramref name="after"/>.</summary>
    public (IReadOnlyList<StreamSession> Streams, bool More) List(string model, string after, int count)
    {
        var names = _streams
            .Where(stream => string.CompareOrdinal(stream.Key, after) > 0 && (model.Length == 0 || stream.Value.Model.Name == model))
            .Select(stream => stream.Value)
            .OrderBy(session => session.Name, StringComparer.Ordinal)
            .Take(count + 1)
            .ToList();
        return (names.Count > count ? names[..count] : names, names.Count > count);
    }

    /// <summary>Back to the source statistics; sequence numbers go on.</summary>
    public static Task ResetAsync(StreamSession session) => BetweenStepsAsync(session, (model, state) =>
    {
        model.Reset(state);
        session.Begin(state, StateOrigin.Reset);
        return true;
    });

    /// <summary>The state between two steps, as safetensors.</summary>
    public Task<byte[]> ExportAsync(StreamSession session) => BetweenStepsAsync(session, (model, state) => model.Export(state, clock.GetUtcNow()));

    /// <summary>Forgets a stream: steps that have not begun fail, the call that has it open ends.</summary>
    public async Task DeleteAsync(StreamSession session)
    {
        lock (_admission)
        {
            _unlisted -= session.Name.Length == 0 ? 1 : 0;
            _streams.TryRemove(KeyValuePair.Create(session.Name, session));
            _stateBytes -= session.CountedBytes;
            session.CountedBytes = 0;
        }

        var batcher = session.Model.Batcher;
        lock (batcher.Gate)
        {
            session.Deleted = true;
        }

        session.RevokeLease();
        batcher.Abandon(session, new Failure(FailureKind.Aborted, "STREAM_DELETED", $"stream '{session.Name}' was deleted"));
        await batcher.BetweenStepsAsync(session, model =>
        {
            session.Model.Residency.Release(model, session);
            return true;
        }).ConfigureAwait(false);
    }

    /// <summary>Deletes the streams that nobody has used for <see cref="StreamsOptions.IdleTimeout"/>.</summary>
    public async Task DeleteIdleAsync()
    {
        foreach (var (name, session) in _streams)
        {
            if (session.IdleFor(_options.IdleTimeout))
            {
                await DeleteAsync(session).ConfigureAwait(false);
                Log.IdleStreamDeleted(logger, name, _options.IdleTimeout);
            }
        }
    }

    private async Task<(StreamSession Session, bool Created)> FindOrCreateAsync(StreamRequest request)
    {
        while (true)
        {
            if (_streams.TryGetValue(request.Name, out var session))
            {
                if (request.Mode == ResumeMode.MustCreate)
                {
                    throw new FailureException(Exists(request.Name));
                }

                RequireSame(session, request);
                return (session, false);
            }

            if (request.Mode == ResumeMode.MustExist)
            {
                throw new FailureException(Failure.StreamNotFound(request.Name));
            }

            // Null when another call created it meanwhile.
            if (await TryCreateAsync(request).ConfigureAwait(false) is { } created)
            {
                return (created, true);
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

    private static Task<T> BetweenStepsAsync<T>(StreamSession session, Func<AdaptiveModel, StreamState, T> work) =>
        session.Model.Batcher.BetweenStepsAsync(session, model =>
        {
            var state = session.State ?? throw new FailureException(Failure.StreamNotFound(session.Name));
            session.Model.Residency.Enter(model, [session]);
            return work(model, state);
        });

    private static async Task<StreamState> CreateStateAsync(ServedModel model, long bytes, Func<AdaptiveModel, StreamState> create)
    {
        try
        {
            return await model.Engine.InvokeAsync(engine => model.Residency.Create(engine, bytes, create)).ConfigureAwait(false);
        }
        catch (ArenaFullException full)
        {
            throw new FailureException(StateMemoryFull(full));
        }
    }

    private static Failure StateMemoryFull(ArenaFullException full) =>
        new(FailureKind.ResourceExhausted, "STATE_MEMORY_FULL", $"{full.Message} (Models:ArenaBytes); try again") { RetryAfter = TimeSpan.FromSeconds(1) };

    // From here on its state may leave the arena.
    private static Task<StreamSession> RegisterAsync(StreamSession session) => session.Model.Engine.InvokeAsync(_ =>
    {
        if (session.State is { IsResident: true })
        {
            session.Model.Residency.Add(session);
        }

        return session;
    });

    private async Task<StreamSession?> TryCreateAsync(StreamRequest request)
    {
        var (model, method) = Resolve(request);
        var bytes = model.Engine.Model.StateBytes(method);
        RequireRoom(request.Name, bytes);
        var state = await CreateStateAsync(model, bytes, engine => engine.CreateState(method, request.Seed ?? 0)).ConfigureAwait(false);
        return await TryAddAsync(request.Name, model, state, StateOrigin.Fresh, Settings(request)).ConfigureAwait(false);
    }

    // Null when the name is taken.
    private async Task<StreamSession?> TryAddAsync(string name, ServedModel model, StreamState state, StateOrigin origin, StreamSettings settings)
    {
        var session = new StreamSession(name, model, state, origin, settings, _options, clock);
        Failure? full;
        var added = false;
        lock (_admission)
        {
            full = WhyFull(session.StateBytes);
            if (full is null && _streams.TryAdd(name, session))
            {
                added = true;
                session.CountedBytes = session.StateBytes;
                _stateBytes += session.CountedBytes;
            }
        }

        if (added)
        {
            return await RegisterAsync(session).ConfigureAwait(false);
        }

        await model.Engine.InvokeAsync(engine =>
        {
            engine.Release(state);
            return true;
        }).ConfigureAwait(false);
        return full is null ? null : throw new FailureException(full);
    }

    private void RequireRoom(string name, long bytes)
    {
        lock (_admission)
        {
            if (!_streams.ContainsKey(name) && WhyFull(bytes) is { } full)
            {
                throw new FailureException(full);
            }
        }
    }

    private Failure? WhyFull(long bytes)
    {
        var streams = _streams.Count + _unlisted;
        if (streams >= _options.MaxStreams)
        {
            return new Failure(FailureKind.ResourceExhausted, "TOO_MANY_STREAMS", $"there are {streams} streams already, the limit is {_options.MaxStreams} (Streams:MaxStreams); delete streams that are not used") { RetryAfter = TimeSpan.FromSeconds(10) };
        }

        return _stateBytes + bytes > _maxStateBytes ? StatesTooLarge(bytes) : null;
    }

    private Failure StatesTooLarge(long bytes) =>
        new(FailureKind.ResourceExhausted, "STATE_MEMORY_FULL", $"the streams' states take {_stateBytes} bytes and this one needs {bytes} more, the limit is {_maxStateBytes} (Streams:MaxStateBytes); delete streams that are not used") { RetryAfter = TimeSpan.FromSeconds(10) };

    private async Task RestartAsync(StreamSession session, StreamRequest request)
    {
        var method = request.Method is null ? session.Method : Resolve(request with { Model = session.Model.Name }).Method;
        var seed = request.Seed ?? session.Seed;
        var bytes = session.Model.Engine.Model.StateBytes(method);
        long growth;
        lock (_admission)
        {
            if (!_streams.TryGetValue(session.Name, out var listed) || listed != session)
            {
                throw new FailureException(Failure.StreamNotFound(session.Name));
            }

            growth = bytes - session.CountedBytes;
            if (growth > 0 && _stateBytes + growth > _maxStateBytes)
            {
                throw new FailureException(StatesTooLarge(growth));
            }

            session.CountedBytes += growth;
            _stateBytes += growth;
        }

        try
        {
            await BetweenStepsAsync(session, (model, state) =>
            {
                var fresh = session.Model.Residency.Create(model, bytes, engine => engine.CreateState(method, seed), keep: 1);
                model.Release(state);
                session.Begin(fresh, StateOrigin.Reset);
                session.ForgetAnswers();
                return true;
            }).ConfigureAwait(false);
        }
        catch (ArenaFullException full)
        {
            lock (_admission)
            {
                // A deletion has given all of it back.
                if (_streams.TryGetValue(session.Name, out var listed) && listed == session)
                {
                    session.CountedBytes -= growth;
                    _stateBytes -= growth;
                }
            }

            throw new FailureException(StateMemoryFull(full));
        }
    }

    private static void RequireSame(StreamSession session, StreamRequest request)
    {
        if (request.Model.Length > 0 && request.Model != session.Model.Name)
        {
            throw new FailureException(new Failure(FailureKind.FailedPrecondition, "STREAM_OF_ANOTHER_MODEL", $"stream '{session.Name}' belongs to model '{session.Model.Name}', not '{request.Model}'; use another stream name, or delete the stream first") { Field = $"{request.Root}.model" });
        }

        if (request.Mode == ResumeMode.Reset)
        {
            return;
        }

        if (request.Method is { } choice && !Choose(session.Model, choice, request.Root).Equals(session.Method))
        {
            throw new FailureException(new Failure(FailureKind.FailedPrecondition, "STREAM_OF_ANOTHER_METHOD", $"stream '{session.Name}' runs {session.Method.Name} {session.Method.Hyperparameters.ToJsonString()}, which differs from what is asked for; open it with RESUME_POLICY_RESET to change the method, or leave the method out") { Field = $"{request.Root}.method" });
        }

        if (request.Seed is { } seed && seed != session.Seed)
        {
            throw new FailureException(new Failure(FailureKind.FailedPrecondition, "STREAM_OF_ANOTHER_SEED", $"stream '{session.Name}' has seed {session.Seed}, not {seed}; open it with RESUME_POLICY_RESET to change the seed, or leave the seed out") { Field = $"{request.Root}.seed" });
        }
    }

    private static StreamSettings Settings(StreamRequest request)
    {
        var defaults = new StreamSettings();
        return new StreamSettings { Frozen = request.Freeze ?? defaults.Frozen, MaxCoalesce = request.MaxCoalesce ?? defaults.MaxCoalesce, Labels = request.Labels ?? defaults.Labels };
    }

    private (ServedModel Model, MethodSettings Method) Resolve(StreamRequest request)
    {
        var model = models.Find(request.Model);
        var method = request.Method is { } choice ? Choose(model, choice, request.Root) : model.DefaultMethod;
        return model.Engine.Model.WhyUnavailable(method) is { } reason
            ? throw new FailureException(new Failure(FailureKind.FailedPrecondition, "METHOD_UNAVAILABLE", $"model '{model.Name}' can't run {method.Name}: {reason}") { Field = $"{request.Root}.method" })
            : (model, method);
    }

    private static MethodSettings Choose(ServedModel model, MethodChoice choice, string root)
    {
        try
        {
            return MethodSettings.Create(choice.Name.Length > 0 ? choice.Name : model.DefaultMethod.Name, choice.Hyperparameters);
        }
        catch (MethodSettingsException refused)
        {
            throw new FailureException(Failure.Invalid("METHOD_INVALID", $"{root}.method", refused.Message));
        }
    }

    private static Failure Exists(string name) =>
        new(FailureKind.AlreadyExists, "STREAM_EXISTS", $"stream '{name}' exists already; open it to continue it, delete it, or use another name");

    private static partial class Log
    {
        [LoggerMessage(EventId = 10, Level = LogLevel.Information, Message = "IdleStreamDeleted {Stream}: no step for {IdleTimeout}")]
        public static partial void IdleStreamDeleted(ILogger logger, string stream, TimeSpan idleTimeout);
    }
}

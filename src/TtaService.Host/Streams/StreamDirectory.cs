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

    public int Count => _streams.Count;

    /// <summary>Finds or creates a stream and makes the caller the call that has it open.</summary>
    public async Task<(StreamLease Lease, StateOrigin Origin)> OpenAsync(StreamRequest request)
    {
        while (true)
        {
            if (!_streams.TryGetValue(request.Name, out var session))
            {
                if (request.Mode == ResumeMode.MustExist)
                {
                    throw new FailureException(Failure.StreamNotFound(request.Name));
                }

                if (await TryCreateAsync(request).ConfigureAwait(false) is { } created)
                {
                    return (created.TakeOver(), StateOrigin.Fresh);
                }

                // Another call created it meanwhile.
                continue;
            }

            if (request.Mode == ResumeMode.MustCreate)
            {
                throw new FailureException(Exists(request.Name));
            }

            RequireSame(session, request);
            var lease = session.TakeOver();
            Apply(session, request);
            if (request.Mode != ResumeMode.Reset)
            {
                return (lease, StateOrigin.Continued);
            }

            try
            {
                await RestartAsync(session, request).ConfigureAwait(false);
                return (lease, StateOrigin.Reset);
            }
            catch (FailureException)
            {
                lease.Dispose();
                throw;
            }
        }
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
            state = await model.Engine.InvokeAsync(engine => engine.Import(snapshot.Span)).ConfigureAwait(false);
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
        var state = await model.Engine.InvokeAsync(engine => engine.CreateState(method, request.Seed ?? 0)).ConfigureAwait(false);
        return new StreamSession(request.Name, model, state, StateOrigin.Fresh, Settings(request), _options, clock);
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
            if (_streams.TryRemove(KeyValuePair.Create(session.Name, session)))
            {
                _stateBytes -= session.StateBytes;
            }
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
            if (session.State is { } state)
            {
                model.Release(state);
                session.End();
            }

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

    private static Task<T> BetweenStepsAsync<T>(StreamSession session, Func<AdaptiveModel, StreamState, T> work) =>
        session.Model.Batcher.BetweenStepsAsync(session, model => work(model, session.State ?? throw new FailureException(Failure.StreamNotFound(session.Name))));

    private async Task<StreamSession?> TryCreateAsync(StreamRequest request)
    {
        var (model, method) = Resolve(request);
        RequireRoom(request.Name, model.Engine.Model.StateBytes(method));
        var state = await model.Engine.InvokeAsync(engine => engine.CreateState(method, request.Seed ?? 0)).ConfigureAwait(false);
        return await TryAddAsync(request.Name, model, state, StateOrigin.Fresh, Settings(request)).ConfigureAwait(false);
    }

    // Null when the name is taken.
    private async Task<StreamSession?> TryAddAsync(string name, ServedModel model, StreamState state, StateOrigin origin, StreamSettings settings)
    {
        var session = new StreamSession(name, model, state, origin, settings, _options, clock);
        Failure? full;
        lock (_admission)
        {
            full = WhyFull(session.StateBytes);
            if (full is null && _streams.TryAdd(name, session))
            {
                _stateBytes += session.StateBytes;
                return session;
            }
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
        if (_streams.Count >= _options.MaxStreams)
        {
            return new Failure(FailureKind.ResourceExhausted, "TOO_MANY_STREAMS", $"there are {_streams.Count} streams already, the limit is {_options.MaxStreams} (Streams:MaxStreams); delete streams that are not used") { RetryAfter = TimeSpan.FromSeconds(10) };
        }

        return _stateBytes + bytes > _maxStateBytes
            ? new Failure(FailureKind.ResourceExhausted, "STATE_MEMORY_FULL", $"the streams' states take {_stateBytes} bytes and this one {bytes}, the limit is {_maxStateBytes} (Streams:MaxStateBytes); delete streams that are not used") { RetryAfter = TimeSpan.FromSeconds(10) }
            : null;
    }

    private async Task RestartAsync(StreamSession session, StreamRequest request)
    {
        var method = request.Method is null ? session.Method : Resolve(request with { Model = session.Model.Name }).Method;
        var seed = request.Seed ?? session.Seed;
        var growth = session.Model.Engine.Model.StateBytes(method) - session.StateBytes;
        lock (_admission)
        {
            if (growth > 0 && _stateBytes + growth > _maxStateBytes)
            {
                throw new FailureException(WhyFull(growth)!);
            }

            _stateBytes += growth;
        }

        await BetweenStepsAsync(session, (model, state) =>
        {
            var fresh = model.CreateState(method, seed);
            model.Release(state);
            session.Begin(fresh, StateOrigin.Reset);
            session.ForgetAnswers();
            return true;
        }).ConfigureAwait(false);
    }

    private static void RequireSame(StreamSession session, StreamRequest request)
    {
        if (request.Model.Length > 0 && request.Model != session.Model.Name)
        {
            throw new FailureException(new Failure(FailureKind.FailedPrecondition, "STREAM_OF_ANOTHER_MODEL", $"stream '{session.Name}' belongs to model '{session.Model.Name}', not '{request.Model}'; use another stream name, or delete the stream first") { Field = "open.model" });
        }

        if (request.Mode == ResumeMode.Reset)
        {
            return;
        }

        if (request.Method is { } choice && !Choose(session.Model, choice).Equals(session.Method))
        {
            throw new FailureException(new Failure(FailureKind.FailedPrecondition, "STREAM_OF_ANOTHER_METHOD", $"stream '{session.Name}' runs {session.Method.Name} {session.Method.Hyperparameters.ToJsonString()}, which differs from what is asked for; open it with RESUME_POLICY_RESET to change the method, or leave the method out") { Field = "open.method" });
        }

        if (request.Seed is { } seed && seed != session.Seed)
        {
            throw new FailureException(new Failure(FailureKind.FailedPrecondition, "STREAM_OF_ANOTHER_SEED", $"stream '{session.Name}' has seed {session.Seed}, not {seed}; open it with RESUME_POLICY_RESET to change the seed, or leave the seed out") { Field = "open.seed" });
        }
    }

    private static void Apply(StreamSession session, StreamRequest request)
    {
        if (request.Freeze is not null || request.MaxCoalesce is not null)
        {
            session.Update(settings => settings with { Frozen = request.Freeze ?? settings.Frozen, MaxCoalesce = request.MaxCoalesce ?? settings.MaxCoalesce });
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
        var method = request.Method is { } choice ? Choose(model, choice) : model.DefaultMethod;
        return model.Engine.Model.WhyUnavailable(method) is { } reason
            ? throw new FailureException(new Failure(FailureKind.FailedPrecondition, "METHOD_UNAVAILABLE", $"model '{model.Name}' can't run {method.Name}: {reason}") { Field = "open.method" })
            : (model, method);
    }

    private static MethodSettings Choose(ServedModel model, MethodChoice choice)
    {
        try
        {
            return MethodSettings.Create(choice.Name.Length > 0 ? choice.Name : model.DefaultMethod.Name, choice.Hyperparameters);
        }
        catch (MethodSettingsException refused)
        {
            throw new FailureException(Failure.Invalid("METHOD_INVALID", "open.method", refused.Message));
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

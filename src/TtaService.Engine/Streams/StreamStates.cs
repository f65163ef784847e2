using TtaService.Engine.Drift;
using TtaService.Engine.Normalization;

namespace TtaService.Engine.Streams;

/// <summary>The states of a model's resident streams: admits them to the arenas, fills their rows, gives the memory back. Runs nothing.</summary>
/// <param name="arenas">Where rows lie.</param>
/// <param name="arenaBytes">Most bytes of them.</param>
/// <param name="observed">What is kept beside each method's state; null for nothing. Disposed with the states.</param>
/// <param name="modelKey">Seeds what methods draw at random, with the stream's seed.</param>
/// <param name="collapseFrames">Frames of one class that make a stream suspect; 0 for never.</param>
internal sealed class StreamStates(ArenaPool arenas, long arenaBytes, ObservedStatistics? observed, ulong modelKey, int collapseFrames) : IDisposable
{
    private readonly Dictionary<MethodSettings, MethodRuntime> _runtimes = [];
    private readonly HashSet<StreamState> _resident = new(ReferenceEqualityComparer.Instance);

    /// <summary>What methods are bound to.</summary>
    public required MethodTarget Target { get; set; }

    public IReadOnlyCollection<StreamState> Resident => _resident;

    /// <summary>Bytes that resident streams take.</summary>
    public long ResidentBytes { get; private set; }

    /// <summary>Bytes that are held for states, free rows included.</summary>
    public long HeldBytes => arenas.Bytes;

    /// <summary>Bytes of a stream's observed statistics.</summary>
    public long ObservedBytes => observed?.RowBytes ?? 0;

    /// <summary>A fresh stream.</summary>
    /// <exception cref="ArenaFullException">No room for another resident stream.</exception>
    public StreamState Create(MethodSettings method, ulong seed)
    {
        var state = new StreamState(method, seed, collapseFrames);
        Admit(state);
        try
        {
            Initialize(state);
            return state;
        }
        catch
        {
            Release(state);
            throw;
        }
    }

    /// <summary>A stream from a snapshot that was checked.</summary>
    public StreamState Import(in StreamSnapshot.Checked content, ReadOnlySpan<byte> snapshot)
    {
        var state = new StreamState(content.Method, content.Seed, collapseFrames);
        Fill(state, content, snapshot);
        return state;
    }

    /// <summary>Gives the state's memory back. Idempotent.</summary>
    public void Release(StreamState state)
    {
        if (state.Runtime is not { } runtime)
        {
            return;
        }

        runtime.Arena.Return(state.Row);
        runtime.Streams--;
        arenas.Held(-runtime.FilterBytes);
        (state.Runtime, state.Row, state.Filter) = (null, -1, []);
        if (observed is not null)
        {
            observed.Arena.Return(state.ObservedRow);
            state.ObservedRow = -1;
        }

        _resident.Remove(state);
        ResidentBytes -= runtime.RowBytes + runtime.FilterBytes + ObservedBytes;
        if (runtime.Streams == 0)
        {
            // Settings come from clients: what nobody uses any more must not stay.
            _runtimes.Remove(runtime.Settings);
            runtime.Dispose();
        }

        Compact(runtime.Arena);
        Compact(observed?.Arena);
    }

    /// <summary>Admits a stream with the state of a snapshot that was checked; it stays out when that fails.</summary>
    public void Fill(StreamState state, in StreamSnapshot.Checked content, ReadOnlySpan<byte> snapshot)
    {
        try
        {
            Admit(state);
            using (var row = state.Runtime!.Arena.Edit(state.Row))
            {
                if (StreamSnapshot.Lacks(content, Target.Sites))
                {
                    state.Runtime.Initialize(row.Values, state.Seed);
                }
                else
                {
                    row.Values.Clear();
                }

                StreamSnapshot.Fill(content, snapshot, state.Runtime, Target.Sites, row.Values);
            }

            state.Filter = StreamSnapshot.FilterOf(content, snapshot, state.Runtime);

            ForgetObservation(state);
            if (observed is not null)
            {
                using var row = observed.Arena.Edit(state.ObservedRow);
                StreamSnapshot.FillObserved(content, snapshot, observed.Layout, Target.Sites, row.Values, state);
            }
        }
        catch (SnapshotException)
        {
            Release(state);
            throw;
        }
        catch (MethodSettingsException fault)
        {
            Release(state);
            throw new SnapshotException(fault.Message);
        }

        state.Steps = content.Steps;
        state.Frames = content.Frames;
    }

    /// <summary>Back to the beginning, but for the counters of steps and frames.</summary>
    public void Initialize(StreamState state)
    {
        using (var row = state.Runtime!.Arena.Edit(state.Row))
        {
            state.Runtime.Initialize(row.Values, state.Seed);
        }

        state.Filter = state.Runtime.InitialFilter();
        ForgetObservation(state);
    }

    /// <summary>Fails for a stream that is not resident here.</summary>
    public void RequireLive(StreamState state)
    {
        if (!state.IsResident)
        {
            throw new InvalidOperationException("the stream's state is not resident: it was released or evicted");
        }

        if (!_runtimes.TryGetValue(state.Method, out var runtime) || !ReferenceEquals(runtime, state.Runtime))
        {
            throw new ArgumentException("the state belongs to another model", nameof(state));
        }
    }

    /// <summary>What a stream would go back to, beside the resident ones: for one call, behind which <see cref="ReturnTwin"/> frees it.</summary>
    public StreamState FreshTwin(StreamState state) => Beside(state.Runtime!, state.Seed);

    /// <summary>Frees the rows of a stream that is not resident.</summary>
    public void ReturnTwin(StreamState twin)
    {
        twin.Runtime!.Arena.Return(twin.Row);
        observed?.Arena.Return(twin.ObservedRow);
    }

    /// <summary>Runs something with fresh streams of a method that are not resident, and frees them behind it.</summary>
    public T Try<T>(MethodSettings method, int streams, Func<StreamState[], T> run)
    {
        using var runtime = new MethodRuntime(method, Target, modelKey, arenas);
        StreamState[] states = [.. Enumerable.Range(0, streams).Select(_ => Beside(runtime, seed: 0))];
        try
        {
            return run(states);
        }
        finally
        {
            Array.ForEach(states, ReturnTwin);
        }
    }

    public void Dispose()
    {
        foreach (var runtime in _runtimes.Values)
        {
            runtime.Dispose();
        }

        _runtimes.Clear();
        observed?.Dispose();
    }

    // A fresh stream that is not resident, and that nobody watches for a collapse.
    private StreamState Beside(MethodRuntime runtime, ulong seed)
    {
        var state = new StreamState(runtime.Settings, seed, collapseFrames: 0) { Runtime = runtime, Row = runtime.Arena.Rent(), ObservedRow = observed?.Arena.Rent() ?? -1 };
        try
        {
            Initialize(state);
            return state;
        }
        catch
        {
            ReturnTwin(state);
            throw;
        }
    }

    // Gives the state a row, of undefined content.
    private void Admit(StreamState state)
    {
        if (!_runtimes.TryGetValue(state.Method, out var runtime))
        {
            runtime = new MethodRuntime(state.Method, Target, modelKey, arenas);
        }

        if (ResidentBytes + runtime.RowBytes + runtime.FilterBytes + ObservedBytes > arenaBytes)
        {
            if (runtime.Streams == 0)
            {
                runtime.Dispose();
            }

            throw new ArenaFullException(_resident.Count, ResidentBytes, arenaBytes);
        }

        // What is held is what counts: free rows of other sizes make room.
        var alsoObserved = runtime.Arena == observed?.Arena;
        var growth = runtime.FilterBytes + Growth(runtime.Arena, alsoObserved ? 2 : 1) + (alsoObserved || observed is null ? 0 : Growth(observed.Arena, 1));
        if (growth > arenas.Room)
        {
            arenas.Trim(Tighten);
        }

        _runtimes[state.Method] = runtime;
        (state.Runtime, state.Row) = (runtime, runtime.Arena.Rent(alsoNeeded: ObservedBytes));
        runtime.Streams++;
        arenas.Held(runtime.FilterBytes);
        state.ObservedRow = observed?.Arena.Rent() ?? -1;
        _resident.Add(state);
        ResidentBytes += runtime.RowBytes + runtime.FilterBytes + ObservedBytes;
    }

    private static long Growth(StateArena arena, int rows) => Math.Max(0, rows - arena.FreeRows) * arena.RowBytes;

    private void ForgetObservation(StreamState state)
    {
        state.ObservedFrames = 0;
        state.UnobservedSteps = 0;
        state.Collapse.Restart();
        state.Changes.Restart();
        if (observed is not null)
        {
            using var row = observed.Arena.Edit(state.ObservedRow);
            row.Values.Clear();
        }
    }

    // Gives memory on a device back once most of its rows are free.
    private void Compact(StateArena? arena)
    {
        // An arena without rows in use is gone, but for that of the observations.
        if (arena is not DeviceArena { IsSparse: true } sparse || (sparse.Leased == 0 && sparse != observed?.Arena))
        {
            return;
        }

        Tighten(sparse);
    }

    private void Tighten(DeviceArena arena)
    {
        // An arena may hold rows of both kinds.
        StreamState[] states = [.. _resident.Where(state => state.Runtime!.Arena == arena)];
        StreamState[] watched = observed?.Arena == arena ? [.. _resident] : [];
        arena.Compact([.. states.Select(state => state.Row), .. watched.Select(state => state.ObservedRow)]);
        var place = 0;
        Array.ForEach(states, state => state.Row = place++);
        Array.ForEach(watched, state => state.ObservedRow = place++);
    }
}

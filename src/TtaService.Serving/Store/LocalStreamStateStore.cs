using TtaService.Engine.Streams;

namespace TtaService.Serving.Store;

/// <summary>A store that one process has to itself: ownership, bounds and expiry; where the bytes lie is up to the derived class.</summary>
/// <remarks>The newest checkpoint decides: when it was refused, the stream starts anew, and the older ones are there to roll back to.</remarks>
internal abstract class LocalStreamStateStore(StoreOptions options, CheckpointSeal seal, TimeProvider clock) : IStreamStateStore
{
    // Marks of dropped streams.
    private const int MaxDropped = 10_000;

    private static readonly TimeSpan SweepInterval = TimeSpan.FromMinutes(1);

    // What is remembered of a deleted stream, so that its owner hears that it is fenced.
    private static readonly TimeSpan EmptyExpiry = TimeSpan.FromMinutes(10);

    private readonly Lock _gate = new();
    private readonly Dictionary<string, Entry> _entries = new(StringComparer.Ordinal);
    private readonly SortedSet<string> _names = new(StringComparer.Ordinal);

    // Those that nobody has open, the longest idle first: with checkpoints, and without.
    private readonly LinkedList<Entry> _idle = new();
    private readonly LinkedList<Entry> _empty = new();
    private readonly NewStreams<Entry> _new = new(options, clock);
    private readonly Queue<Entry> _dropped = new();
    private int _streams;
    private long _bytes;
    private long _swept = clock.GetTimestamp();

    // Over all streams, so that no claim of a forgotten stream fits a later opening.
    private long _epoch = clock.GetUtcNow().ToUnixTimeMilliseconds();

    /// <summary>Bytes of all checkpoints.</summary>
    public long Bytes
    {
        get
        {
            lock (_gate)
            {
                return _bytes;
            }
        }
    }

    /// <summary>Hears of streams that were dropped to make room.</summary>
    public Action<string>? Dropped { get; set; }

    protected TimeProvider Clock => clock;

    public Task<StreamOpening> OpenAsync(string stream, string owner, OpenPolicy policy, CancellationToken cancellation) =>
        Task.Run(
            () =>
            {
                Sweep();
                return InEntry(stream, create: true, entry =>
                {
                    var opening = entry.Ownership.Open(stream, owner, policy, NextEpoch(), options, clock);
                    if (opening.Status != OpenStatus.Owned)
                    {
                        return opening;
                    }

                    Use(entry);
                    return Restore(entry, opening);
                })!;
            },
            cancellation);

    public abstract bool OutlivesProcess { get; }

    public Task<CheckpointWrite> CheckpointAsync(StreamClaim claim, PendingCheckpoint checkpoint, CancellationToken cancellation) =>
        Task.Run(() => Write(claim, checkpoint, close: false), cancellation);

    public Task<CheckpointWrite> CloseAsync(StreamClaim claim, PendingCheckpoint? last, CancellationToken cancellation) =>
        Task.Run(() => Write(claim, last, close: true), cancellation);

    public Task<IReadOnlyList<FencedClaim>> RenewAsync(IReadOnlyCollection<StreamClaim> claims, CancellationToken cancellation)
    {
        var fenced = new List<FencedClaim>();
        foreach (var claim in claims)
        {
            var renewed = InEntry(claim.Stream, create: false, entry =>
            {
                if (!entry.Ownership.Holds(claim))
                {
                    fenced.Add(new FencedClaim(claim, entry.Ownership.Epoch, entry.Ownership.Owner));
                    return true;
                }

                entry.Ownership.Renew(clock);
                entry.LastUsed = clock.GetTimestamp();
                return true;
            });
            if (!renewed)
            {
                fenced.Add(new FencedClaim(claim, 0, null));
            }
        }

        return Task.FromResult<IReadOnlyList<FencedClaim>>(fenced);
    }

    public Task<IReadOnlyList<StoredStream>> ListAsync(string? after, int limit, CancellationToken cancellation) =>
        Task.Run<IReadOnlyList<StoredStream>>(
            () =>
            {
                Sweep();
                string[] streams;
                lock (_gate)
                {
                    var from = after is { Length: > 0 } && _names.Max is { } last && string.CompareOrdinal(after, last) <= 0 ? _names.GetViewBetween(after, last) : after is { Length: > 0 } ? [] : _names;
                    streams = [.. from.SkipWhile(name => name == after).Take(limit)];
                }

                return [.. streams.Select(Summarize).OfType<StoredStream>()];
            },
            cancellation);

    public Task<bool> DeleteAsync(string stream, CancellationToken cancellation) =>
        Task.Run(
            () => InEntry(stream, create: false, entry =>
            {
                var any = entry.Kept.Count > 0;
                Empty(entry, stream);
                entry.Ownership.Release();
                Use(entry);
                return any;
            }),
            cancellation);

    public Task<IReadOnlyList<CheckpointDescription>> CheckpointsAsync(string stream, CancellationToken cancellation) =>
        Task.Run<IReadOnlyList<CheckpointDescription>>(
            () => InEntry(stream, create: false, entry => entry.Kept.AsEnumerable().Reverse().Select(kept => Guarded(() => Describe(stream, kept.Number))).OfType<CheckpointDescription>().ToList()) ?? [],
            cancellation);

    public Task<StoredCheckpoint?> ReadAsync(string stream, long number, CancellationToken cancellation) =>
        Task.Run(
            () => InEntry(stream, create: false, entry => entry.Kept.Exists(kept => kept.Number == number)
                ? seal.Unseal(stream, number, Guarded(() => Get(stream, number)))
                : null),
            cancellation);

    public Task RejectAsync(StreamClaim claim, long number, string reason, CancellationToken cancellation) =>
        Task.Run(
            () => InEntry(claim.Stream, create: false, entry =>
            {
                if (entry.Ownership.Holds(claim) && entry.Kept.Exists(kept => kept.Number == number))
                {
                    SetAside(entry, claim.Stream, number, reason);
                }

                return true;
            }),
            cancellation);

    public async ValueTask DisposeAsync()
    {
        await DisposeCoreAsync().ConfigureAwait(false);
        GC.SuppressFinalize(this);
    }

    /// <summary>Takes up a checkpoint that was there before this process. Called by the constructor of the derived class, which ends with <see cref="Arrange"/>.</summary>
    protected void Adopt(string stream, long number, long bytes, TimeSpan age, AdoptedAs kind)
    {
        if (!_entries.TryGetValue(stream, out var entry))
        {
            _entries.Add(stream, entry = new Entry(stream) { LastUsed = long.MinValue });
        }

        // As if this process had last used it that long ago; a clock that ran backwards makes nothing older.
        var ticks = (long)(Math.Max(0, age.TotalSeconds) * clock.TimestampFrequency);
        entry.LastUsed = Math.Max(entry.LastUsed, clock.GetTimestamp() - ticks);
        entry.LastNumber = Math.Max(entry.LastNumber, number);
        switch (kind)
        {
            case AdoptedAs.Refused:
                entry.RefusedNumber = Math.Max(entry.RefusedNumber, number);
                break;
            case AdoptedAs.Dropped:
                entry.DroppedNumber = Math.Max(entry.DroppedNumber, number);
                break;
            default:
                _streams += entry.Kept.Count == 0 ? 1 : 0;
                _bytes += bytes;
                entry.Kept.Add((number, bytes));
                entry.Kept.Sort();
                _names.Add(stream);
                break;
        }
    }

    /// <summary>Puts what was taken up in order.</summary>
    protected void Arrange()
    {
        foreach (var entry in _entries.Values.OrderBy(entry => entry.LastUsed))
        {
            Place(entry);
            List(entry);
        }
    }

    /// <summary>Stores bytes so that after return they survive a crash, and after a failure are not there.</summary>
    protected abstract void Put(string stream, long number, byte[] file);

    protected abstract byte[] Get(string stream, long number);

    /// <summary>What the checkpoint says of itself; null when it can't be read.</summary>
    protected abstract CheckpointDescription? Describe(string stream, long number);

    protected abstract void Remove(string stream, long number);

    /// <summary>Keeps the bytes for who looks into it, where no opening finds them.</summary>
    protected abstract void SetAside(string stream, long number);

    /// <summary>Forgets what was set aside of a stream.</summary>
    protected abstract void RemoveSetAside(string stream, long number);

    /// <summary>Notes, so that it outlives the process if checkpoints do, that a stream was dropped to make room.</summary>
    protected abstract void MarkDropped(string stream, long number);

    /// <summary>Takes back <see cref="MarkDropped"/>.</summary>
    protected abstract void UnmarkDropped(string stream, long number);

    protected virtual ValueTask DisposeCoreAsync() => ValueTask.CompletedTask;

    private static T Guarded<T>(Func<T> access)
    {
        try
        {
            return access();
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new StoreUnavailableException($"the store's folder can't be used: {e.Message}", e);
        }
    }

    private long NextEpoch()
    {
        lock (_gate)
        {
            return ++_epoch;
        }
    }

    private T? InEntry<T>(string stream, bool create, Func<Entry, T> act)
    {
        while (true)
        {
            Entry? entry;
            lock (_gate)
            {
                if (!_entries.TryGetValue(stream, out entry))
                {
                    if (!create)
                    {
                        return default;
                    }

                    _entries.Add(stream, entry = new Entry(stream) { LastUsed = clock.GetTimestamp() });
                    Place(entry);
                }
            }

            lock (entry.Gate)
            {
                if (!entry.Forgotten)
                {
                    return act(entry);
                }
            }
        }
    }

    private StreamOpening Restore(Entry entry, StreamOpening opening)
    {
        var stream = opening.Claim!.Value.Stream;
        if (entry.RefusedNumber > 0 && entry.RefusedNumber == entry.LastNumber)
        {
            return opening with { Refused = entry.RefusedReason ?? "the latest checkpoint was refused before and set aside" };
        }

        if (entry.Kept.Count == 0)
        {
            return entry.DroppedNumber == 0 ? opening : opening with { Dropped = $"its stored state was dropped to make room for other streams (Store:MaxStreams is {options.MaxStreams}, Store:MaxBytes {options.MaxBytes})" };
        }

        var number = entry.Kept[^1].Number;
        try
        {
            var checkpoint = seal.Unseal(stream, number, Guarded(() => Get(stream, number)));
            if (checkpoint.Description.Epoch >= opening.Claim.Value.Epoch)
            {
                // The clock ran backwards since that was stored.
                lock (_gate)
                {
                    _epoch = Math.Max(_epoch, checkpoint.Description.Epoch + 1);
                    entry.Ownership.GoOnFrom(++_epoch);
                }

                opening = opening with { Claim = opening.Claim.Value with { Epoch = entry.Ownership.Epoch } };
            }

            return opening with { Checkpoint = checkpoint };
        }
        catch (CheckpointRefusedException e)
        {
            SetAside(entry, stream, number, e.Message);
            return opening with { Refused = e.Message };
        }
        catch (StoreUnavailableException)
        {
            entry.Ownership.Release();
            Use(entry);
            throw;
        }
    }

    private CheckpointWrite Write(StreamClaim claim, PendingCheckpoint? checkpoint, bool close)
    {
        byte[]? file = null;
        if (checkpoint is not null)
        {
            // Before sealing, which costs: does the claim hold at all?
            if (InEntry<CheckpointWrite?>(claim.Stream, create: false, entry => Refuse(entry, claim)) is { } refused)
            {
                return refused;
            }

            file = seal.Seal(claim, checkpoint);
            MakeRoom(claim.Stream, file.Length);
        }

        var reserved = (long)(file?.Length ?? 0);
        try
        {
            var write = InEntry<CheckpointWrite?>(claim.Stream, create: false, entry =>
            {
                if (Refuse(entry, claim) is { } refused)
                {
                    return refused;
                }

                var late = checkpoint is not null && !entry.Ownership.Accept(checkpoint.Version);
                if (file is not null && !late)
                {
                    Store(entry, file, checkpoint!.Client);
                    // From here on they are the checkpoint's, whatever else fails.
                    reserved = 0;
                    entry.Ownership.Accepted(checkpoint.Version);
                    CleanUp(entry);
                }

                entry.Ownership.Renew(clock);
                if (close)
                {
                    entry.Ownership.Release();
                }

                Use(entry);
                return new CheckpointWrite(WriteStatus.Saved, claim.Epoch, claim.Owner, file is null ? 0 : entry.LastNumber, late ? 0 : file?.Length ?? 0);
            }) ?? new CheckpointWrite(WriteStatus.Lost, 0, null, 0, 0);
            if (close && write.Status == WriteStatus.Saved)
            {
                ForgetEmpty(claim.Stream);
            }

            return write;
        }
        finally
        {
            Count(-reserved);
        }
    }

    private static CheckpointWrite? Refuse(Entry entry, StreamClaim claim) => entry.Ownership.Holds(claim)
        ? null
        : new CheckpointWrite(WriteStatus.Fenced, entry.Ownership.Epoch, entry.Ownership.Owner, 0, 0);

    // The bytes are reserved already.
    private void Store(Entry entry, byte[] file, string client)
    {
        var number = ++entry.LastNumber;
        Guarded(() =>
        {
            Put(entry.Stream, number, file);
            return true;
        });
        lock (_gate)
        {
            if (entry.Kept.Count == 0)
            {
                _streams++;
                _names.Add(entry.Stream);
                _new.Add(client, entry);
            }

            entry.Kept.Add((number, file.Length));
        }
    }

    // The checkpoint is stored; what can't be removed now is removed with the next one.
    private void CleanUp(Entry entry)
    {
        try
        {
            if (entry.RefusedNumber > 0)
            {
                Guarded(() =>
                {
                    RemoveSetAside(entry.Stream, entry.RefusedNumber);
                    return true;
                });
                (entry.RefusedNumber, entry.RefusedReason) = (0, null);
            }

            Unmark(entry);
            while (entry.Kept.Count > options.KeepCheckpoints)
            {
                Drop(entry, entry.Stream, entry.Kept[0].Number);
            }
        }
        catch (StoreUnavailableException)
        {
        }
    }

    private void Unmark(Entry entry)
    {
        if (entry.DroppedNumber > 0)
        {
            Guarded(() =>
            {
                UnmarkDropped(entry.Stream, entry.DroppedNumber);
                return true;
            });
            entry.DroppedNumber = 0;
        }
    }

    private void Use(Entry entry)
    {
        lock (_gate)
        {
            entry.LastUsed = clock.GetTimestamp();
            Place(entry);
        }
    }

    // Puts an entry at the end of the list that it belongs to. Under the gate.
    private void Place(Entry entry)
    {
        entry.Place?.List!.Remove(entry.Place);
        entry.Place = entry.Forgotten || entry.Ownership.Owner is not null ? null : (entry.Kept.Count > 0 ? _idle : _empty).AddLast(entry);
    }

    private void Drop(Entry entry, string stream, long number)
    {
        Guarded(() =>
        {
            Remove(stream, number);
            return true;
        });
        Uncount(entry, number);
    }

    private void SetAside(Entry entry, string stream, long number, string reason)
    {
        Guarded(() =>
        {
            SetAside(stream, number);
            return true;
        });
        Uncount(entry, number);
        (entry.RefusedNumber, entry.RefusedReason) = (number, reason);
    }

    private void Uncount(Entry entry, long number)
    {
        lock (_gate)
        {
            var index = entry.Kept.FindIndex(kept => kept.Number == number);
            _bytes -= entry.Kept[index].Bytes;
            entry.Kept.RemoveAt(index);
            if (entry.Kept.Count == 0)
            {
                _streams--;
                _names.Remove(entry.Stream);
                _new.Remove(entry);
                Place(entry);
            }
        }
    }

    private void Count(long bytes)
    {
        lock (_gate)
        {
            _bytes += bytes;
        }
    }

    // Reserves room for a file of a stream. Idle streams are dropped for it: the newest of a client that floods the store, else the longest idle.
    private void MakeRoom(string stream, long bytes)
    {
        while (true)
        {
            Entry? victim;
            lock (_gate)
            {
                var isNew = !_entries.TryGetValue(stream, out var own) || own.Kept.Count == 0;
                // The file that it replaces leaves.
                var replaced = own is not null && own.Kept.Count >= options.KeepCheckpoints ? own.Kept[0].Bytes : 0;
                if (_bytes - replaced + bytes <= options.MaxBytes && (!isNew || _streams < options.MaxStreams))
                {
                    _bytes += bytes;
                    return;
                }

                victim = _new.NewestOfFlood(_streams == 0 ? 0 : _bytes / _streams, candidate => candidate.Place?.List == _idle) ?? _idle.First?.Value;
                if (victim is null)
                {
                    throw new StoreFullException(
                        $"the store holds {_bytes} bytes (limit {options.MaxBytes}, Store:MaxBytes) of {_streams} streams (limit {options.MaxStreams}, Store:MaxStreams), none of them idle; {bytes} more do not fit: raise the limits, or keep fewer checkpoints (Store:KeepCheckpoints)");
                }
            }

            if (Forget(victim, dropped: true))
            {
                Dropped?.Invoke(victim.Stream);
            }
        }
    }

    // Drops what nobody used for long, now and then.
    private void Sweep()
    {
        var expired = new List<Entry>();
        lock (_gate)
        {
            if (clock.GetElapsedTime(_swept) < SweepInterval && clock.GetElapsedTime(_swept) < options.IdleExpiry)
            {
                return;
            }

            _swept = clock.GetTimestamp();
            expired.AddRange(_idle.TakeWhile(entry => clock.GetElapsedTime(entry.LastUsed) >= options.IdleExpiry));
            expired.AddRange(_empty.Where(entry => clock.GetElapsedTime(entry.LastUsed) is var age && (age >= options.IdleExpiry || (age >= EmptyExpiry && entry is { RefusedNumber: 0, DroppedNumber: 0 }))));
        }

        foreach (var entry in expired)
        {
            Forget(entry, dropped: false);
        }
    }

    // A stream of which nothing is stored need not be remembered.
    private void ForgetEmpty(string stream)
    {
        Entry? entry;
        lock (_gate)
        {
            if (!_entries.TryGetValue(stream, out entry) || !entry.IsEmpty)
            {
                return;
            }
        }

        lock (entry.Gate)
        {
            if (!entry.Forgotten && entry.Ownership.Owner is null && entry.IsEmpty)
            {
                Remove(entry);
            }
        }
    }

    // What is dropped leaves a mark, so that the stream hears of it when it is opened again.
    private bool Forget(Entry entry, bool dropped)
    {
        lock (entry.Gate)
        {
            if (entry.Forgotten || entry.Ownership.Owner is not null)
            {
                return false;
            }

            Empty(entry, entry.Stream);
            if (!dropped)
            {
                Remove(entry);
                return true;
            }

            entry.DroppedNumber = entry.LastNumber;
            Guarded(() =>
            {
                MarkDropped(entry.Stream, entry.DroppedNumber);
                return true;
            });
        }

        ForgetOldestMarks(entry);
        return true;
    }

    private void ForgetOldestMarks(Entry marked)
    {
        while (true)
        {
            Entry? oldest;
            lock (_gate)
            {
                List(marked);
                if (_dropped.Count <= MaxDropped || !_dropped.TryDequeue(out oldest))
                {
                    return;
                }

                oldest.IsListedAsDropped = false;
            }

            lock (oldest.Gate)
            {
                if (oldest is { Forgotten: false, DroppedNumber: > 0, Kept.Count: 0 } && oldest.Ownership.Owner is null)
                {
                    Empty(oldest, oldest.Stream);
                    Remove(oldest);
                }
            }
        }
    }

    private void List(Entry marked)
    {
        if (marked is { DroppedNumber: > 0, IsListedAsDropped: false })
        {
            marked.IsListedAsDropped = true;
            _dropped.Enqueue(marked);
        }
    }

    // Under the entry's lock.
    private void Remove(Entry entry)
    {
        entry.Forgotten = true;
        lock (_gate)
        {
            Place(entry);
            _entries.Remove(entry.Stream);
        }
    }

    private void Empty(Entry entry, string stream)
    {
        while (entry.Kept.Count > 0)
        {
            Drop(entry, stream, entry.Kept[^1].Number);
        }

        if (entry.RefusedNumber > 0)
        {
            Guarded(() =>
            {
                RemoveSetAside(stream, entry.RefusedNumber);
                return true;
            });
            (entry.RefusedNumber, entry.RefusedReason) = (0, null);
        }

        Unmark(entry);
    }

    private StoredStream? Summarize(string stream) => InEntry(stream, create: false, entry =>
    {
        return entry.Kept.Count > 0 && Guarded(() => Describe(stream, entry.Kept[^1].Number)) is { } latest
            ? new StoredStream(latest, entry.Ownership.Owner, entry.Kept.Sum(kept => kept.Bytes))
            : null;
    });

    /// <summary>How something that was there before this process is taken up.</summary>
    protected enum AdoptedAs
    {
        Checkpoint,
        Refused,
        Dropped,
    }

    /// <summary>What is known of a stream. <see cref="Kept"/>, <see cref="LastUsed"/> and its places change under both locks, the rest under the entry's.</summary>
    private sealed class Entry(string stream)
    {
        public string Stream { get; } = stream;

        /// <summary>Where it stands among those that nobody has open.</summary>
        public LinkedListNode<Entry>? Place { get; set; }

        /// <summary>Stands among the marked ones.</summary>
        public bool IsListedAsDropped { get; set; }

        public bool IsEmpty => Kept.Count == 0 && RefusedNumber == 0 && DroppedNumber == 0;

        public Lock Gate { get; } = new();

        public Ownership Ownership { get; } = new();

        // Oldest first.
        public List<(long Number, long Bytes)> Kept { get; } = [];

        public long LastNumber { get; set; }

        public long RefusedNumber { get; set; }

        public string? RefusedReason { get; set; }

        /// <summary>Its last checkpoint when it was dropped to make room; 0 when it was not.</summary>
        public long DroppedNumber { get; set; }

        public long LastUsed { get; set; }

        public bool Forgotten { get; set; }
    }
}

namespace TtaService.Serving.Store;

/// <summary>Knows which checkpoints of which streams there are, keeps them within the store's bounds, and forgets what is idle for long. Thread-safe.</summary>
internal sealed class CheckpointLedger
{
    // Marks of dropped streams.
    private const int MaxDropped = 10_000;

    private static readonly TimeSpan SweepInterval = TimeSpan.FromMinutes(1);

    // What is remembered of a deleted stream, so that its owner hears that it is fenced.
    private static readonly TimeSpan EmptyExpiry = TimeSpan.FromMinutes(10);

    private readonly ICheckpointBlobs _blobs;
    private readonly StoreOptions _options;
    private readonly TimeProvider _clock;
    private readonly Action<string>? _hearDropped;
    private readonly Lock _gate = new();
    private readonly Dictionary<string, LedgerEntry> _entries = new(StringComparer.Ordinal);
    private readonly SortedSet<string> _names = new(StringComparer.Ordinal);

    // Those that nobody has open, the longest idle first: with checkpoints, and without.
    private readonly LinkedList<LedgerEntry> _idle = new();
    private readonly LinkedList<LedgerEntry> _empty = new();
    private readonly NewStreams<LedgerEntry> _new;
    private readonly Queue<LedgerEntry> _dropped = new();
    private int _streams;
    private long _bytes;
    private long _swept;

    // Over all streams, so that no claim of a forgotten stream fits a later opening.
    private long _epoch;

    /// <param name="blobs">Where the bytes lie; what is there is taken up.</param>
    /// <param name="options">The bounds.</param>
    /// <param name="clock">Tells how idle a stream is.</param>
    /// <param name="dropped">Hears of streams that were dropped to make room.</param>
    public CheckpointLedger(ICheckpointBlobs blobs, StoreOptions options, TimeProvider clock, Action<string>? dropped)
    {
        (_blobs, _options, _clock, _hearDropped) = (blobs, options, clock, dropped);
        _new = new NewStreams<LedgerEntry>(options, clock);
        _swept = clock.GetTimestamp();
        _epoch = clock.GetUtcNow().ToUnixTimeMilliseconds();
        foreach (var found in blobs.Find())
        {
            Adopt(found);
        }

        Arrange();
    }

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

    /// <summary>Streams with checkpoints in ordinal order, from the first after <paramref name="after"/>.</summary>
    public string[] Names(string? after, int limit)
    {
        lock (_gate)
        {
            var from = after is not { Length: > 0 } ? _names
                : _names.Max is { } last && string.CompareOrdinal(after, last) <= 0 ? _names.GetViewBetween(after, last)
                : Enumerable.Empty<string>();
            return [.. from.SkipWhile(name => name == after).Take(limit)];
        }
    }

    /// <summary>Gives a stream an epoch past one that was stored.</summary>
    public void GoPast(long epoch, Ownership ownership)
    {
        lock (_gate)
        {
            _epoch = Math.Max(_epoch, epoch + 1);
            ownership.GoOnFrom(++_epoch);
        }
    }

    /// <summary>An epoch that no opening had.</summary>
    public long NextEpoch()
    {
        lock (_gate)
        {
            return ++_epoch;
        }
    }

    /// <summary>Acts on what is known of a stream, one at a time; default when nothing is and <paramref name="create"/> is false.</summary>
    public T? InEntry<T>(string stream, bool create, Func<LedgerEntry, T> act)
    {
        while (true)
        {
            LedgerEntry? entry;
            lock (_gate)
            {
                if (!_entries.TryGetValue(stream, out entry))
                {
                    if (!create)
                    {
                        return default;
                    }

                    _entries.Add(stream, entry = new LedgerEntry(stream) { LastUsed = _clock.GetTimestamp() });
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

    /// <summary>Keeps a further checkpoint of a stream. The bytes are reserved already.</summary>
    public void Store(LedgerEntry entry, byte[] file, string client)
    {
        var number = ++entry.LastNumber;
        _blobs.Put(entry.Stream, number, file);
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

    /// <summary>Removes what a stored checkpoint replaces; what can't be removed now is removed with the next one.</summary>
    public void CleanUp(LedgerEntry entry)
    {
        try
        {
            if (entry.RefusedNumber > 0)
            {
                _blobs.RemoveSetAside(entry.Stream, entry.RefusedNumber);
                (entry.RefusedNumber, entry.RefusedReason) = (0, null);
            }

            Unmark(entry);
            while (entry.Kept.Count > _options.KeepCheckpoints)
            {
                Drop(entry, entry.Stream, entry.Kept[0].Number);
            }
        }
        catch (StoreUnavailableException)
        {
        }
    }

    private void Unmark(LedgerEntry entry)
    {
        if (entry.DroppedNumber > 0)
        {
            _blobs.UnmarkDropped(entry.Stream, entry.DroppedNumber);
            entry.DroppedNumber = 0;
        }
    }

    /// <summary>The stream was used now, or changed hands.</summary>
    public void Use(LedgerEntry entry)
    {
        lock (_gate)
        {
            entry.LastUsed = _clock.GetTimestamp();
            Place(entry);
        }
    }

    // Puts an entry at the end of the list that it belongs to. Under the gate.
    private void Place(LedgerEntry entry)
    {
        entry.Place?.List!.Remove(entry.Place);
        entry.Place = entry.Forgotten || entry.Ownership.Owner is not null ? null : (entry.Kept.Count > 0 ? _idle : _empty).AddLast(entry);
    }

    private void Drop(LedgerEntry entry, string stream, long number)
    {
        _blobs.Remove(stream, number);
        Uncount(entry, number);
    }

    /// <summary>Sets a checkpoint aside that can't be used.</summary>
    public void SetAside(LedgerEntry entry, string stream, long number, string reason)
    {
        _blobs.SetAside(stream, number);
        Uncount(entry, number);
        (entry.RefusedNumber, entry.RefusedReason) = (number, reason);
    }

    private void Uncount(LedgerEntry entry, long number)
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

    /// <summary>Counts reserved bytes; negative ones are given back.</summary>
    public void Count(long bytes)
    {
        lock (_gate)
        {
            _bytes += bytes;
        }
    }

    /// <summary>Reserves room for a file of a stream. Idle streams are dropped for it: the newest of a client that floods the store, else the longest idle.</summary>
    public void MakeRoom(string stream, long bytes)
    {
        while (true)
        {
            LedgerEntry? victim;
            lock (_gate)
            {
                var isNew = !_entries.TryGetValue(stream, out var own) || own.Kept.Count == 0;
                // The file that it replaces leaves.
                var replaced = own is not null && own.Kept.Count >= _options.KeepCheckpoints ? own.Kept[0].Bytes : 0;
                if (_bytes - replaced + bytes <= _options.MaxBytes && (!isNew || _streams < _options.MaxStreams))
                {
                    _bytes += bytes;
                    return;
                }

                victim = _new.NewestOfFlood(_streams == 0 ? 0 : _bytes / _streams, candidate => candidate.Place?.List == _idle) ?? _idle.First?.Value;
                if (victim is null)
                {
                    throw new StoreFullException(
                        $"the store holds {_bytes} bytes (limit {_options.MaxBytes}, Store:MaxBytes) of {_streams} streams (limit {_options.MaxStreams}, Store:MaxStreams), "
                            + $"none of them idle; {bytes} more do not fit: raise the limits, or keep fewer checkpoints (Store:KeepCheckpoints)");
                }
            }

            if (Forget(victim, mark: true))
            {
                _hearDropped?.Invoke(victim.Stream);
            }
        }
    }

    /// <summary>Drops what nobody used for long, now and then.</summary>
    public void Sweep()
    {
        var expired = new List<LedgerEntry>();
        lock (_gate)
        {
            if (_clock.GetElapsedTime(_swept) < SweepInterval && _clock.GetElapsedTime(_swept) < _options.IdleExpiry)
            {
                return;
            }

            _swept = _clock.GetTimestamp();
            expired.AddRange(_idle.TakeWhile(entry => _clock.GetElapsedTime(entry.LastUsed) >= _options.IdleExpiry));
            expired.AddRange(_empty.Where(entry => _clock.GetElapsedTime(entry.LastUsed) is var age
                && (age >= _options.IdleExpiry || (age >= EmptyExpiry && entry is { RefusedNumber: 0, DroppedNumber: 0 }))));
        }

        foreach (var entry in expired)
        {
            Forget(entry, mark: false);
        }
    }

    /// <summary>A stream of which nothing is stored need not be remembered.</summary>
    public void ForgetEmpty(string stream)
    {
        LedgerEntry? entry;
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
    private bool Forget(LedgerEntry entry, bool mark)
    {
        lock (entry.Gate)
        {
            if (entry.Forgotten || entry.Ownership.Owner is not null)
            {
                return false;
            }

            Empty(entry, entry.Stream);
            if (!mark)
            {
                Remove(entry);
                return true;
            }

            entry.DroppedNumber = entry.LastNumber;
            _blobs.MarkDropped(entry.Stream, entry.DroppedNumber);
        }

        ForgetOldestMarks(entry);
        return true;
    }

    private void ForgetOldestMarks(LedgerEntry marked)
    {
        while (true)
        {
            LedgerEntry? oldest;
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

    private void List(LedgerEntry marked)
    {
        if (marked is { DroppedNumber: > 0, IsListedAsDropped: false })
        {
            marked.IsListedAsDropped = true;
            _dropped.Enqueue(marked);
        }
    }

    // Under the entry's lock.
    private void Remove(LedgerEntry entry)
    {
        entry.Forgotten = true;
        lock (_gate)
        {
            Place(entry);
            _entries.Remove(entry.Stream);
        }
    }

    /// <summary>Removes all that is stored of a stream.</summary>
    public void Empty(LedgerEntry entry, string stream)
    {
        while (entry.Kept.Count > 0)
        {
            Drop(entry, stream, entry.Kept[^1].Number);
        }

        if (entry.RefusedNumber > 0)
        {
            _blobs.RemoveSetAside(stream, entry.RefusedNumber);
            (entry.RefusedNumber, entry.RefusedReason) = (0, null);
        }

        Unmark(entry);
    }

    private void Adopt(FoundBlob found)
    {
        var (stream, number, bytes, age, kind) = found;
        if (!_entries.TryGetValue(stream, out var entry))
        {
            _entries.Add(stream, entry = new LedgerEntry(stream) { LastUsed = long.MinValue });
        }

        // As if this process had last used it that long ago; a clock that ran backwards makes nothing older.
        var ticks = (long)(Math.Max(0, age.TotalSeconds) * _clock.TimestampFrequency);
        entry.LastUsed = Math.Max(entry.LastUsed, _clock.GetTimestamp() - ticks);
        entry.LastNumber = Math.Max(entry.LastNumber, number);
        switch (kind)
        {
            case BlobKind.Refused:
                entry.RefusedNumber = Math.Max(entry.RefusedNumber, number);
                break;
            case BlobKind.Dropped:
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

    // Puts what was taken up in order.
    private void Arrange()
    {
        foreach (var entry in _entries.Values.OrderBy(entry => entry.LastUsed))
        {
            Place(entry);
            List(entry);
        }
    }
}

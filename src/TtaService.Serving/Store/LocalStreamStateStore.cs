namespace TtaService.Serving.Store;

/// <summary>A store that one process has to itself: who owns which stream, and a ledger of checkpoints over blobs.</summary>
/// <remarks>The newest checkpoint decides: when it was refused, the stream starts anew, and the older ones are there to roll back to.</remarks>
internal sealed class LocalStreamStateStore(GuardedBlobs blobs, CheckpointLedger ledger, StoreOptions options, CheckpointSeal seal, TimeProvider clock) : IStreamStateStore
{
    /// <summary>Bytes of all checkpoints.</summary>
    public long Bytes => ledger.Bytes;

    public bool OutlivesProcess => blobs.OutlivesProcess;

    /// <summary>A store over blobs, which are its own from here on.</summary>
    /// <param name="blobs">Where the bytes lie.</param>
    /// <param name="options">The store's bounds.</param>
    /// <param name="seal">Puts checkpoints into bytes and back.</param>
    /// <param name="clock">Tells how idle a stream is.</param>
    /// <param name="dropped">Hears of streams that were dropped to make room.</param>
    public static LocalStreamStateStore Over(ICheckpointBlobs blobs, StoreOptions options, CheckpointSeal seal, TimeProvider clock, Action<string>? dropped = null)
    {
        var guarded = new GuardedBlobs(blobs);
        return new LocalStreamStateStore(guarded, new CheckpointLedger(guarded, options, clock, dropped), options, seal, clock);
    }

    public Task<StreamOpening> OpenAsync(string stream, string owner, OpenPolicy policy, CancellationToken cancellation) =>
        Task.Run(
            () =>
            {
                ledger.Sweep();
                return ledger.InEntry(stream, create: true, entry =>
                {
                    var opening = entry.Ownership.Open(stream, owner, policy, ledger.NextEpoch(), options, clock);
                    if (opening.Status != OpenStatus.Owned)
                    {
                        return opening;
                    }

                    ledger.Use(entry);
                    return Restore(entry, opening);
                })!;
            },
            cancellation);

    public Task<CheckpointWrite> CheckpointAsync(StreamClaim claim, PendingCheckpoint checkpoint, CancellationToken cancellation) =>
        Task.Run(() => Write(claim, checkpoint, close: false), cancellation);

    public Task<CheckpointWrite> CloseAsync(StreamClaim claim, PendingCheckpoint? last, CancellationToken cancellation) =>
        Task.Run(() => Write(claim, last, close: true), cancellation);

    public Task<IReadOnlyList<FencedClaim>> RenewAsync(IReadOnlyCollection<StreamClaim> claims, CancellationToken cancellation)
    {
        var fenced = new List<FencedClaim>();
        foreach (var claim in claims)
        {
            var renewed = ledger.InEntry(claim.Stream, create: false, entry =>
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
                ledger.Sweep();
                return [.. ledger.Names(after, limit).Select(Summarize).OfType<StoredStream>()];
            },
            cancellation);

    public Task<bool> DeleteAsync(string stream, CancellationToken cancellation) =>
        Task.Run(
            () => ledger.InEntry(stream, create: false, entry =>
            {
                var any = entry.Kept.Count > 0;
                ledger.Empty(entry, stream);
                entry.Ownership.Release();
                ledger.Use(entry);
                return any;
            }),
            cancellation);

    public Task<IReadOnlyList<CheckpointDescription>> CheckpointsAsync(string stream, CancellationToken cancellation) =>
        Task.Run<IReadOnlyList<CheckpointDescription>>(
            () => ledger.InEntry(
                stream,
                create: false,
                entry => entry.Kept.AsEnumerable().Reverse().Select(kept => blobs.Describe(stream, kept.Number)).OfType<CheckpointDescription>().ToList()) ?? [],
            cancellation);

    public Task<StoredCheckpoint?> ReadAsync(string stream, long number, CancellationToken cancellation) =>
        Task.Run(
            () => ledger.InEntry(stream, create: false, entry => entry.Kept.Exists(kept => kept.Number == number)
                ? seal.Unseal(stream, number, blobs.Get(stream, number))
                : null),
            cancellation);

    public Task RejectAsync(StreamClaim claim, long number, string reason, CancellationToken cancellation) =>
        Task.Run(
            () => ledger.InEntry(claim.Stream, create: false, entry =>
            {
                if (entry.Ownership.Holds(claim) && entry.Kept.Exists(kept => kept.Number == number))
                {
                    ledger.SetAside(entry, claim.Stream, number, reason);
                }

                return true;
            }),
            cancellation);

    private StreamOpening Restore(LedgerEntry entry, StreamOpening opening)
    {
        var stream = opening.Claim!.Value.Stream;
        if (entry.RefusedNumber > 0 && entry.RefusedNumber == entry.LastNumber)
        {
            return opening with { Refused = entry.RefusedReason ?? "the latest checkpoint was refused before and set aside" };
        }

        if (entry.Kept.Count == 0)
        {
            return entry.DroppedNumber == 0
                ? opening
                : opening with
                {
                    Dropped = $"its stored state was dropped to make room for other streams (Store:MaxStreams is {options.MaxStreams}, "
                    + $"Store:MaxBytes {options.MaxBytes})"
                };
        }

        var number = entry.Kept[^1].Number;
        try
        {
            var checkpoint = seal.Unseal(stream, number, blobs.Get(stream, number));
            if (checkpoint.Description.Epoch >= opening.Claim.Value.Epoch)
            {
                // The clock ran backwards since that was stored.
                ledger.GoPast(checkpoint.Description.Epoch, entry.Ownership);
                opening = opening with { Claim = opening.Claim.Value with { Epoch = entry.Ownership.Epoch } };
            }

            return opening with { Checkpoint = checkpoint };
        }
        catch (CheckpointRefusedException e)
        {
            ledger.SetAside(entry, stream, number, e.Message);
            return opening with { Refused = e.Message };
        }
        catch (StoreUnavailableException)
        {
            entry.Ownership.Release();
            ledger.Use(entry);
            throw;
        }
    }

    private CheckpointWrite Write(StreamClaim claim, PendingCheckpoint? checkpoint, bool close)
    {
        byte[]? file = null;
        if (checkpoint is not null)
        {
            // Before sealing, which costs: does the claim hold at all?
            if (ledger.InEntry<CheckpointWrite?>(claim.Stream, create: false, entry => Refuse(entry, claim)) is { } refused)
            {
                return refused;
            }

            file = seal.Seal(claim, checkpoint);
            ledger.MakeRoom(claim.Stream, file.Length);
        }

        var reserved = (long)(file?.Length ?? 0);
        try
        {
            var write = ledger.InEntry<CheckpointWrite?>(claim.Stream, create: false, entry =>
            {
                if (Refuse(entry, claim) is { } refused)
                {
                    return refused;
                }

                var late = checkpoint is not null && !entry.Ownership.Accept(checkpoint.Version);
                if (file is not null && !late)
                {
                    ledger.Store(entry, file, checkpoint!.Client);
                    // From here on they are the checkpoint's, whatever else fails.
                    reserved = 0;
                    entry.Ownership.Accepted(checkpoint.Version);
                    ledger.CleanUp(entry);
                }

                entry.Ownership.Renew(clock);
                if (close)
                {
                    entry.Ownership.Release();
                }

                ledger.Use(entry);
                return new CheckpointWrite(WriteStatus.Saved, claim.Epoch, claim.Owner, file is null ? 0 : entry.LastNumber, late ? 0 : file?.Length ?? 0);
            }) ?? new CheckpointWrite(WriteStatus.Lost, 0, null, 0, 0);
            if (close && write.Status == WriteStatus.Saved)
            {
                ledger.ForgetEmpty(claim.Stream);
            }

            return write;
        }
        finally
        {
            ledger.Count(-reserved);
        }
    }

    private static CheckpointWrite? Refuse(LedgerEntry entry, StreamClaim claim) => entry.Ownership.Holds(claim)
        ? null
        : new CheckpointWrite(WriteStatus.Fenced, entry.Ownership.Epoch, entry.Ownership.Owner, 0, 0);

    private StoredStream? Summarize(string stream) => ledger.InEntry(stream, create: false, entry =>
    {
        return entry.Kept.Count > 0 && blobs.Describe(stream, entry.Kept[^1].Number) is { } latest
            ? new StoredStream(latest, entry.Ownership.Owner, entry.Kept.Sum(kept => kept.Bytes))
            : null;
    });

    public ValueTask DisposeAsync()
    {
        blobs.Dispose();
        return ValueTask.CompletedTask;
    }
}

namespace TtaService.Serving.Store;

/// <summary>The store as the streams see it: after a failure nothing waits for it until it is tried again, and a full store counts as one that does not serve. Opened once, before
/// the listeners open. Thread-safe.</summary>
internal sealed class RetryingStreamStateStore(StoreHealth health) : IStreamStateStore
{
    private IStreamStateStore? _store;

    public bool OutlivesProcess => Store.OutlivesProcess;

    /// <summary>Whether it is tried now.</summary>
    public bool MayTry => health.MayTry;

    private IStreamStateStore Store => _store ?? throw new InvalidOperationException("the store is not open");

    /// <summary>Puts it before a store.</summary>
    public void Use(IStreamStateStore store) => _store = store;

    public Task<StreamOpening> OpenAsync(string stream, string owner, OpenPolicy policy, CancellationToken cancellation) =>
        TryAsync(() => Store.OpenAsync(stream, owner, policy, cancellation));

    public Task<CheckpointWrite> CheckpointAsync(StreamClaim claim, PendingCheckpoint checkpoint, CancellationToken cancellation) =>
        TryAsync(() => Store.CheckpointAsync(claim, checkpoint, cancellation));

    public Task<CheckpointWrite> CloseAsync(StreamClaim claim, PendingCheckpoint? last, CancellationToken cancellation) =>
        TryAsync(() => Store.CloseAsync(claim, last, cancellation));

    public Task<IReadOnlyList<FencedClaim>> RenewAsync(IReadOnlyCollection<StreamClaim> claims, CancellationToken cancellation) =>
        TryAsync(() => Store.RenewAsync(claims, cancellation));

    public Task<IReadOnlyList<StoredStream>> ListAsync(string? after, int limit, CancellationToken cancellation) =>
        TryAsync(() => Store.ListAsync(after, limit, cancellation));

    public Task<bool> DeleteAsync(string stream, CancellationToken cancellation) => TryAsync(() => Store.DeleteAsync(stream, cancellation));

    public Task<IReadOnlyList<CheckpointDescription>> CheckpointsAsync(string stream, CancellationToken cancellation) =>
        TryAsync(() => Store.CheckpointsAsync(stream, cancellation));

    public Task<StoredCheckpoint?> ReadAsync(string stream, long number, CancellationToken cancellation) => TryAsync(() => Store.ReadAsync(stream, number, cancellation));

    public Task RejectAsync(StreamClaim claim, long number, string reason, CancellationToken cancellation) => TryAsync(async () =>
    {
        await Store.RejectAsync(claim, number, reason, cancellation).ConfigureAwait(false);
        return true;
    });

    public ValueTask DisposeAsync() => _store?.DisposeAsync() ?? ValueTask.CompletedTask;

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
}

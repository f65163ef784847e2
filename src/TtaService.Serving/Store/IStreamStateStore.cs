namespace TtaService.Serving.Store;

/// <summary>Keeps the states of streams across restarts, crashes and replicas. The last opener of a stream owns it; who opened it before can no longer write.
/// Thread-safe.</summary>
/// <remarks>
/// Every operation may throw <see cref="StoreUnavailableException"/>: nothing is known to have happened, and the same call may be made again. Those on one stream may also throw
/// <see cref="StoredStreamException"/>: what is stored of that stream can't be read.
/// </remarks>
internal interface IStreamStateStore : IAsyncDisposable
{
    /// <summary>Whether what is stored survives this process.</summary>
    bool OutlivesProcess { get; }

    /// <summary>Makes a replica the owner of a stream and reads what is stored of it.</summary>
    /// <param name="stream">The stream's key, unique over all tenants and models.</param>
    /// <param name="owner">The replica, as others can reach it.</param>
    /// <param name="policy">What happens when another replica owns the stream.</param>
    /// <param name="cancellation">Gives up waiting.</param>
    Task<StreamOpening> OpenAsync(string stream, string owner, OpenPolicy policy, CancellationToken cancellation);

    /// <summary>Stores a state, if the claim still holds.</summary>
    /// <exception cref="StoreFullException">The store's bounds leave no room.</exception>
    Task<CheckpointWrite> CheckpointAsync(StreamClaim claim, PendingCheckpoint checkpoint, CancellationToken cancellation);

    /// <summary>Gives the stream up, with a last state when there is one, if the claim still holds.</summary>
    /// <exception cref="StoreFullException">The store's bounds leave no room; the claim still holds.</exception>
    Task<CheckpointWrite> CloseAsync(StreamClaim claim, PendingCheckpoint? last, CancellationToken cancellation);

    /// <summary>Says that these streams are in use, and learns which of them have another owner by now.</summary>
    Task<IReadOnlyList<FencedClaim>> RenewAsync(IReadOnlyCollection<StreamClaim> claims, CancellationToken cancellation);

    /// <summary>Streams that have a checkpoint, by key in ordinal order.</summary>
    /// <param name="after">The page begins behind this key; null for the first page.</param>
    /// <param name="limit">Most entries of the page; one that has fewer is the last.</param>
    /// <param name="cancellation">Gives up waiting.</param>
    Task<IReadOnlyList<StoredStream>> ListAsync(string? after, int limit, CancellationToken cancellation);

    /// <summary>Deletes all checkpoints of a stream; its owner, if any, can no longer write.</summary>
    /// <returns>Whether there was one.</returns>
    Task<bool> DeleteAsync(string stream, CancellationToken cancellation);

    /// <summary>The checkpoints that are kept of a stream, newest first.</summary>
    Task<IReadOnlyList<CheckpointDescription>> CheckpointsAsync(string stream, CancellationToken cancellation);

    /// <summary>Reads one of the kept checkpoints, to roll back to it, to fork or export it; null when it is not kept.</summary>
    /// <exception cref="CheckpointRefusedException">It can't be used; the exception says why.</exception>
    Task<StoredCheckpoint?> ReadAsync(string stream, long number, CancellationToken cancellation);

    /// <summary>Sets a checkpoint aside that its model refuses, so that the stream starts anew.</summary>
    Task RejectAsync(StreamClaim claim, long number, string reason, CancellationToken cancellation);
}

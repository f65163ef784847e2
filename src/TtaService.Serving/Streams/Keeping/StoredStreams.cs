using Microsoft.Extensions.Options;
using TtaService.Serving.Store;

namespace TtaService.Serving.Streams.Keeping;

/// <summary>What is stored of streams, wherever they are open. Thread-safe.</summary>
internal sealed class StoredStreams(RetryingStreamStateStore store, IOptions<StoreOptions> options)
{
    private readonly StoreOptions _options = options.Value;

    /// <summary>Stored streams by name, from the first after <paramref name="after"/>; fewer than <paramref name="limit"/> are the last.</summary>
    /// <exception cref="StoreUnavailableException">The store is out of reach.</exception>
    public Task<IReadOnlyList<StoredStream>> ListAsync(string after, int limit) => store.ListAsync(after, limit, CancellationToken.None);

    /// <summary>The checkpoints that are kept of a stream, newest first.</summary>
    /// <exception cref="FailureException">The store is out of reach.</exception>
    public async Task<IReadOnlyList<CheckpointDescription>> CheckpointsAsync(StreamKey stream)
    {
        try
        {
            return await store.CheckpointsAsync(stream.Word, CancellationToken.None).ConfigureAwait(false);
        }
        catch (StoreUnavailableException trouble)
        {
            throw new FailureException(StoreFailures.OutOfReach(_options, $"the checkpoints of stream '{stream}' can't be read now: {trouble.Message}"));
        }
        catch (StoredStreamException bad)
        {
            throw new FailureException(StoreFailures.Unreadable(bad));
        }
    }

    /// <summary>Reads one of the kept checkpoints.</summary>
    /// <exception cref="FailureException">It is not kept, is refused, or the store is out of reach.</exception>
    public async Task<StoredCheckpoint> ReadAsync(StreamKey stream, long number)
    {
        try
        {
            return await store.ReadAsync(stream.Word, number, CancellationToken.None).ConfigureAwait(false)
                ?? throw new FailureException(new Failure(
                    FailureKind.NotFound,
                    "CHECKPOINT_NOT_FOUND",
                    $"checkpoint {number} of stream '{stream}' is not kept; ListCheckpoints names those that are (Store:KeepCheckpoints, {_options.KeepCheckpoints})"));
        }
        catch (StoreUnavailableException trouble)
        {
            throw new FailureException(StoreFailures.OutOfReach(_options, $"checkpoint {number} of stream '{stream}' can't be read now: {trouble.Message}"));
        }
        catch (StoredStreamException bad)
        {
            throw new FailureException(StoreFailures.Unreadable(bad));
        }
        catch (CheckpointRefusedException refused)
        {
            throw new FailureException(new Failure(
                FailureKind.FailedPrecondition,
                "CHECKPOINT_REFUSED",
                $"checkpoint {number} of stream '{stream}' is refused ({refused.Message}); take another"));
        }
    }

    /// <summary>Deletes what is stored of a stream.</summary>
    /// <returns>Whether something was.</returns>
    /// <exception cref="FailureException">The store is out of reach.</exception>
    public async Task<bool> DeleteAsync(StreamKey stream)
    {
        try
        {
            return await store.DeleteAsync(stream.Word, CancellationToken.None).ConfigureAwait(false);
        }
        catch (StoreUnavailableException trouble)
        {
            throw new FailureException(StoreFailures.OutOfReach(_options, $"stream '{stream}' can't be deleted now, it would come back: {trouble.Message}"));
        }
        catch (StoredStreamException bad)
        {
            throw new FailureException(StoreFailures.Unreadable(bad));
        }
    }
}

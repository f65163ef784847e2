using Microsoft.Extensions.Options;
using TtaService.Serving.Store;

namespace TtaService.Serving.Streams.Keeping;

/// <summary>States that left the arena: they leave the process once they are stored, and come back when a step wants them. Thread-safe.</summary>
internal sealed partial class ColdStates(RetryingStreamStateStore store, StreamRegister register, StreamEnding ending, IOptions<StoreOptions> options, ILogger<ColdStates> logger)
{
    private readonly StoreOptions _options = options.Value;

    /// <summary>Brings a stream's state back into the process when it is in the store only, and counts its memory.</summary>
    /// <exception cref="FailureException">It can't be read now, or not at all.</exception>
    public async ValueTask BringBackAsync(StreamSession session)
    {
        Task back;
        lock (session.Gate)
        {
            if (!session.Keeping.Spilled)
            {
                return;
            }

            back = session.Keeping.BringingBack ??= Task.Run(() => FetchAsync(session));
        }

        await back.ConfigureAwait(false);
        register.Recount(session);
    }

    /// <summary>Lets go of a state that has left the arena and is stored, while nobody waits for it.</summary>
    /// <param name="session">The stream.</param>
    /// <param name="snapshot">What was stored; null for what was stored before.</param>
    public async Task SpillAsync(StreamSession session, byte[]? snapshot)
    {
        if (!store.OutlivesProcess || !session.Keeping.Evicted)
        {
            return;
        }

        await session.Model.Engine.InvokeAsync(_ =>
        {
            lock (session.Gate)
            {
                var keeping = session.Keeping;
                if (session.Place.Cold is { } cold && (snapshot is null || ReferenceEquals(cold, snapshot)) && !keeping.Dirty && keeping.Number > 0 && session.NothingWaits)
                {
                    session.Place.Cold = null;
                    (keeping.Spilled, keeping.Evicted) = (true, false);
                }
            }

            return true;
        }).ConfigureAwait(false);
    }

    private async Task FetchAsync(StreamSession session)
    {
        try
        {
            var number = session.Keeping.Number;
            var stored = await store.ReadAsync(session.Key.Word, number, CancellationToken.None).ConfigureAwait(false)
                ?? throw new CheckpointRefusedException("damaged", $"checkpoint {number} is gone from the store");
            await session.Model.Engine.InvokeAsync(_ =>
            {
                lock (session.Gate)
                {
                    session.Place.Cold = stored.Snapshot;
                    (session.Keeping.Spilled, session.Keeping.Evicted) = (false, true);
                }

                return true;
            }).ConfigureAwait(false);
        }
        catch (StoreUnavailableException trouble)
        {
            throw new FailureException(StoreFailures.OutOfReach(_options, $"the state of stream '{session.Name}' is in the store and can't be read now: {trouble.Message}"));
        }
        catch (StoredStreamException bad)
        {
            throw new FailureException(StoreFailures.Unreadable(bad));
        }
        catch (CheckpointRefusedException refused)
        {
            var lost = new Failure(
                FailureKind.Unavailable,
                "STREAM_STATE_LOST",
                $"the state of stream '{session.Name}' was in the store and is refused now ({refused.Message}); open the stream again, it says what it starts from");
            Log.CheckpointRefused(logger, session.Name, refused.Message);
            _ = Task.Run(() => ending.EndAsync(session, lost));
            throw new FailureException(lost);
        }
        finally
        {
            lock (session.Gate)
            {
                session.Keeping.BringingBack = null;
            }
        }
    }

    private static partial class Log
    {
        [LoggerMessage(EventId = 52, Level = LogLevel.Warning, Message = "CheckpointRefused {Stream}: {Reason}")]
        public static partial void CheckpointRefused(ILogger logger, string stream, string reason);
    }
}

using System.Collections.Concurrent;

namespace TtaService.Serving.Streams;

/// <summary>The streams of this process: look-up, and the right to bring one in or out. Thread-safe.</summary>
internal sealed class StreamDirectory(StreamRegister register)
{
    private readonly ConcurrentDictionary<StreamKey, TaskCompletionSource> _held = new();

    public int Count => register.Count;

    /// <summary>The streams that are in this process.</summary>
    public IEnumerable<StreamSession> Loaded => register.Listed;

    /// <summary>The stream when it is in this process, else null.</summary>
    public StreamSession? Find(StreamKey key) => register.Find(key);

    public StreamSession Get(StreamKey key) => register.Find(key) ?? throw new FailureException(Failure.StreamNotFound(key.Name));

    /// <summary>Whether the stream is in this process.</summary>
    public bool Contains(StreamKey key) => register.Find(key) is not null;

    /// <summary>Holds a name: one opening, release or deletion of it at a time, so that claims follow what is in memory.</summary>
    public async Task<IDisposable> HoldAsync(StreamKey key)
    {
        var mine = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        while (true)
        {
            var holder = _held.GetOrAdd(key, mine);
            if (holder == mine)
            {
                return new NameHold(_held, key, mine);
            }

            await holder.Task.ConfigureAwait(false);
        }
    }

    private sealed class NameHold(ConcurrentDictionary<StreamKey, TaskCompletionSource> held, StreamKey key, TaskCompletionSource hold) : IDisposable
    {
        public void Dispose()
        {
            held.TryRemove(KeyValuePair.Create(key, hold));
            hold.SetResult();
        }
    }
}

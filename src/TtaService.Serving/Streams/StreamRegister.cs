using System.Collections.Concurrent;

namespace TtaService.Serving.Streams;

/// <summary>The streams of this process by name, and the memory of all states; both within their limits.</summary>
internal sealed class StreamRegister(StreamsOptions options)
{
    private readonly ConcurrentDictionary<StreamKey, StreamSession> _streams = new();
    private readonly long _maxStateBytes = options.MaxStateBytes > 0 ? options.MaxStateBytes : GC.GetGCMemoryInfo().TotalAvailableMemoryBytes / 2;
    private readonly Lock _gate = new();

    // What is counted for each stream, listed or not.
    private readonly Dictionary<StreamSession, long> _counted = [];
    private long _stateBytes;
    private int _unlisted;

    public int Count => _streams.Count;

    public IEnumerable<StreamSession> Listed => _streams.Select(stream => stream.Value);

    public StreamSession? Find(StreamKey key) => _streams.GetValueOrDefault(key);

    /// <summary>Why a further stream of so many bytes has no place; null when it has.</summary>
    public Failure? WhyFull(long bytes)
    {
        lock (_gate)
        {
            var streams = _streams.Count + _unlisted;
            if (streams >= options.MaxStreams)
            {
                return new Failure(
                    FailureKind.ResourceExhausted,
                    "TOO_MANY_STREAMS",
                    $"there are {streams} streams already, the limit is {options.MaxStreams} (Streams:MaxStreams); "
                        + "delete streams that are not used")
                { RetryAfter = TimeSpan.FromSeconds(10) };
            }

            return _stateBytes + bytes > _maxStateBytes ? TooLarge(bytes) : null;
        }
    }

    /// <summary>Lists a stream and counts its memory, unless there is no place.</summary>
    public Failure? List(StreamSession session)
    {
        lock (_gate)
        {
            if (WhyFull(session.StateBytes) is { } full)
            {
                return full;
            }

            _streams[session.Key] = session;
            Account(session, session.StateBytes);
            return null;
        }
    }

    /// <summary>Forgets a stream, listed or not, and its memory.</summary>
    /// <returns>Whether it was listed.</returns>
    public bool Remove(StreamSession session)
    {
        lock (_gate)
        {
            _unlisted -= session.Key == default ? 1 : 0;
            Account(session, 0);
            _counted.Remove(session);
            return _streams.TryRemove(KeyValuePair.Create(session.Key, session));
        }
    }

    /// <summary>Counts a stream that will not be listed, and its memory.</summary>
    /// <exception cref="FailureException">There is no place.</exception>
    public void ReserveUnlisted(long bytes)
    {
        lock (_gate)
        {
            if (WhyFull(bytes) is { } full)
            {
                throw new FailureException(full);
            }

            _unlisted++;
            _stateBytes += bytes;
        }
    }

    /// <summary>The stream that was reserved for has come to be.</summary>
    public void BeginUnlisted(StreamSession session, long bytes)
    {
        lock (_gate)
        {
            _counted[session] = bytes;
        }
    }

    /// <summary>Takes back <see cref="ReserveUnlisted"/> for a stream that did not come to be.</summary>
    public void GiveBackUnlisted(long bytes)
    {
        lock (_gate)
        {
            _unlisted--;
            _stateBytes -= bytes;
        }
    }

    /// <summary>Counts a listed stream with the bytes of the state that it gets.</summary>
    /// <returns>By how many bytes it grew.</returns>
    /// <exception cref="FailureException">There is no place, or the stream is gone.</exception>
    public long Reserve(StreamSession session, long bytes)
    {
        lock (_gate)
        {
            if (!IsListed(session))
            {
                throw new FailureException(Failure.StreamNotFound(session.Name));
            }

            var growth = bytes - BytesOf(session);
            if (growth > 0 && _stateBytes + growth > _maxStateBytes)
            {
                throw new FailureException(TooLarge(growth));
            }

            Account(session, bytes);
            return growth;
        }
    }

    /// <summary>Takes back <see cref="Reserve"/>.</summary>
    public void GiveBack(StreamSession session, long growth)
    {
        lock (_gate)
        {
            // A deletion has given all of it back.
            if (IsListed(session))
            {
                Account(session, BytesOf(session) - growth);
            }
        }
    }

    /// <summary>Counts a stream's memory anew after its state left the process or came back.</summary>
    public void Recount(StreamSession session)
    {
        lock (_gate)
        {
            if (IsListed(session))
            {
                Account(session, session.Keeping.Spilled ? 0 : session.StateBytes);
            }
        }
    }

    /// <summary>What is counted for the stream's state; 0 when nothing is.</summary>
    public long BytesOf(StreamSession session)
    {
        lock (_gate)
        {
            return _counted.GetValueOrDefault(session);
        }
    }

    private void Account(StreamSession session, long bytes)
    {
        _stateBytes += bytes - _counted.GetValueOrDefault(session);
        _counted[session] = bytes;
    }

    private bool IsListed(StreamSession session) => _streams.TryGetValue(session.Key, out var listed) && listed == session;

    private Failure TooLarge(long bytes) =>
        new(
            FailureKind.ResourceExhausted,
            "STATE_MEMORY_FULL",
            $"the streams' states take {_stateBytes} bytes and this one needs {bytes} more, the limit is {_maxStateBytes} (Streams:MaxStateBytes); "
                + "delete streams that are not used")
        { RetryAfter = TimeSpan.FromSeconds(10) };
}

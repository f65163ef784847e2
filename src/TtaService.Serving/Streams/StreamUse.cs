namespace TtaService.Serving.Streams;

/// <summary>Which call has a stream open, and when it was last used. Guarded by the stream's gate.</summary>
internal sealed class StreamUse(Lock gate, TimeProvider clock)
{
    private readonly TakeoverPace _takeovers = new(clock);
    private CancellationTokenSource? _lease;
    private long _usedAt = clock.GetTimestamp();

    /// <summary>A call has the stream open.</summary>
    public bool IsOpen
    {
        get
        {
            lock (gate)
            {
                return _lease is not null;
            }
        }
    }

    /// <summary>When it was last used, a timestamp.</summary>
    public long UsedAt
    {
        get
        {
            lock (gate)
            {
                return _usedAt;
            }
        }
    }

    /// <summary>Notes that it is used.</summary>
    public void Touch()
    {
        lock (gate)
        {
            _usedAt = clock.GetTimestamp();
        }
    }

    /// <summary>No call has it open, and its last use is this long ago.</summary>
    public bool IsOver(TimeSpan span)
    {
        lock (gate)
        {
            return _lease is null && clock.GetElapsedTime(_usedAt) >= span;
        }
    }

    /// <summary>A call is about to take the stream from another: how often that happened lately, and how long it is to wait first.</summary>
    public (int Takeovers, TimeSpan Wait) Contend()
    {
        lock (gate)
        {
            return _takeovers.Next();
        }
    }

    /// <summary>Makes the caller the one call that has the stream open; the token of the call before is cancelled.</summary>
    public CancellationTokenSource TakeOver()
    {
        var mine = new CancellationTokenSource();
        Replace(mine);
        return mine;
    }

    /// <summary>Ends the call that has the stream open.</summary>
    public void Revoke() => Replace(null);

    /// <summary>A call is over; one that lost the stream before returns nothing.</summary>
    public void Return(CancellationTokenSource lease)
    {
        lock (gate)
        {
            if (ReferenceEquals(_lease, lease))
            {
                _lease = null;
                _usedAt = clock.GetTimestamp();
            }
        }
    }

    private void Replace(CancellationTokenSource? next)
    {
        CancellationTokenSource? before;
        lock (gate)
        {
            (before, _lease) = (_lease, next);
        }

        // Outside the gate: it runs what waits for it.
        before?.Cancel();
    }
}

/// <summary>A call's hold on a stream.</summary>
internal sealed class StreamLease(StreamSession session) : IDisposable
{
    private readonly CancellationTokenSource _source = session.Use.TakeOver();

    public StreamSession Session { get; } = session;

    /// <summary>Cancelled when another call opens the stream, or it is deleted.</summary>
    public CancellationToken Lost => _source.Token;

    // The source is not disposed: a later opener may be about to cancel it, and it holds no timer.
    public void Dispose() => Session.Use.Return(_source);
}

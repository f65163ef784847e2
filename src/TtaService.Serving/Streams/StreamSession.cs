using System.Diagnostics.CodeAnalysis;
using TtaService.Engine.Normalization;
using TtaService.Engine.Streams;
using TtaService.Serving.Frames;
using TtaService.Serving.Streams.Keeping;
using TtaService.Serving.Telemetry;

namespace TtaService.Serving.Streams;

/// <summary>How a stream's state began.</summary>
public enum StateOrigin
{
    /// <summary>At the source statistics.</summary>
    Fresh,

    /// <summary>From the store, or from a snapshot.</summary>
    Restored,

    /// <summary>It was in memory.</summary>
    Continued,

    /// <summary>At the source statistics, because it was asked for.</summary>
    Reset,
}

/// <summary>What may be set on a stream while its state stays.</summary>
public sealed record StreamSettings
{
    /// <summary>The state is used, not updated.</summary>
    public bool Frozen { get; init; }

    /// <summary>Waiting steps that may be joined into one; 1 is never.</summary>
    public int MaxCoalesce { get; init; } = 1;

    /// <summary>Stays in memory, whoever else needs the place.</summary>
    public bool Pinned { get; init; }

    /// <summary>The user's own words.</summary>
    public IReadOnlyDictionary<string, string> Labels { get; init; } = new Dictionary<string, string>();
}

/// <summary>A stream as it is at one moment.</summary>
public sealed record StreamDescription(
    string Name,
    string Model,
    MethodSettings Method,
    ulong Seed,
    StreamSettings Settings,
    StateOrigin Origin,
    long Steps,
    long Frames,
    TimeSpan Age,
    ulong LastSequence,
    long StateBytes,
    bool Resident,
    DateTimeOffset Created,
    DateTimeOffset Updated,
    DateTimeOffset ResetAt,
    string? Owner);

/// <summary>One stream: its order, what it has answered, its settings. Everything that changes is guarded by the gate of its model's batcher.</summary>
internal sealed class StreamSession
{
    private readonly TimeProvider _clock;
    private readonly Lock _gate;
    private readonly TakeoverPace _takeovers;
    private StreamSettings _settings;
    private CancellationTokenSource? _lease;
    private long _resetTimestamp;
    private long _usedTimestamp;
    private bool _noticeTold;
    private DateTimeOffset _updated;
    private DateTimeOffset _resetAt;

    public StreamSession(
        StreamKey key,
        ServedModel model,
        StreamState state,
        StateOrigin origin,
        StreamSettings settings,
        StreamsOptions limits,
        ReplyBudget replies,
        TimeProvider clock)
    {
        Key = key;
        Model = model;
        _settings = settings;
        _clock = clock;
        _gate = model.Batcher.Gate;
        Answered = new AnsweredSteps(limits.KeptReplies, limits.KeptReplyBytes, replies);
        _takeovers = new TakeoverPace(clock);
        Created = clock.GetUtcNow();
        Begin(state, origin);
    }

    public StreamKey Key { get; }

    public string Name => Key.Name;

    public ServedModel Model { get; }

    public MethodSettings Method { get; private set; }

    public ulong Seed { get; private set; }

    public DateTimeOffset Created { get; private set; }

    /// <summary>Guards what changes.</summary>
    public Lock Gate => _gate;

    /// <summary>What is known of the stream's drift.</summary>
    public StreamWatch Watch { get; private set; }

    /// <summary>The last frame that could teach the stream something; null when none could since the state began.</summary>
    public PictureFacts? LastPicture { get; set; }

    /// <summary>How the stream stands with the store.</summary>
    public StreamKeeping Keeping { get; } = new();

    /// <summary>What a client should know about how the state began; null when nothing, and from the first step on after it was told.</summary>
    public string? Notice { get; set; }

    /// <summary>Who brought the stream, as far as the network tells; empty for unknown.</summary>
    public string Client { get; init; } = "";

    /// <summary>The highest sequence number answered; 0 when none.</summary>
    public ulong LastSequence
    {
        get
        {
            lock (_gate)
            {
                return Answered.Last;
            }
        }
    }

    /// <summary>Why it takes no further work; null for deletion.</summary>
    public Failure? Ending { get; set; }

    /// <summary>A call has it open.</summary>
    public bool IsOpen
    {
        get
        {
            lock (_gate)
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
            lock (_gate)
            {
                return _usedTimestamp;
            }
        }
    }

    /// <summary>No work waits or runs.</summary>
    public bool NothingWaits => Waiting.IsEmpty;

    /// <summary>Null after release. Its content belongs to the engine's thread.</summary>
    public StreamState? State { get; private set; }

    /// <summary>The state's snapshot while it is not in the arena. Belongs to the engine's thread.</summary>
    public byte[]? ColdState { get; set; }

    /// <summary>The stream's place among the resident ones. Belongs to the engine's thread.</summary>
    public LinkedListNode<StreamSession>? ResidentPlace { get; set; }

    /// <summary>What the directory counts for the state. Guarded by the directory.</summary>
    public long CountedBytes { get; set; }

    public StateOrigin Origin { get; private set; }

    /// <summary>Takes no further work.</summary>
    public bool Deleted { get; set; }

    public AnsweredSteps Answered { get; }

    /// <summary>Its work in its order.</summary>
    public StreamQueue Waiting { get; } = new();

    public LinkedList<QueuedWork> Queue => Waiting.Work;

    public StreamPhase Phase => Waiting.Phase;

    /// <summary>Its share of the decoding.</summary>
    public DecodeShare Decoding { get; } = new();

    /// <summary>Steps that were admitted and have no outcome yet.</summary>
    public int PendingSteps => Waiting.PendingSteps;

    public long Steps { get; private set; }

    public long Frames { get; private set; }

    public TimeSpan Age => _clock.GetElapsedTime(_resetTimestamp);

    public StreamSettings Settings
    {
        get
        {
            lock (_gate)
            {
                return _settings;
            }
        }
    }

    /// <summary>Gives the stream a state. Called between steps.</summary>
    [MemberNotNull(nameof(State), nameof(Method), nameof(Watch))]
    public void Begin(StreamState state, StateOrigin origin)
    {
        lock (_gate)
        {
            State = state;
            Method = state.Method;
            // A camera that is reset or moved is watched anew.
            Watch = new StreamWatch(Model.Drift.NewHealth(state.Method));
            LastPicture = null;
            Seed = state.Seed;
            StateBytes = Model.Engine.Model.StateBytes(state.Method);
            Origin = origin;
            (Steps, Frames) = (state.Steps, state.Frames);
            _resetAt = _updated = _clock.GetUtcNow();
            _resetTimestamp = _usedTimestamp = _clock.GetTimestamp();
            Keeping.Change(_resetTimestamp);
        }
    }

    /// <summary>What the store keeps beside the state. Called under the gate, between steps.</summary>
    public StreamRecord Record() => new(_settings, Created, _resetAt, Answered.Kept);

    /// <summary>Goes on from what the store kept; called before anybody else knows the session.</summary>
    public void Restore(StreamRecord? record, ulong sequence, long number)
    {
        Answered.Restore(sequence, record?.Answers ?? []);
        if (record is not null)
        {
            Created = record.Created;
            GrowOlder(record.ResetAt);
        }

        Keeping.Stored(Keeping.Version, number, _clock.GetTimestamp());
    }

    /// <summary>Dates the state back to when it was at the source statistics.</summary>
    public void GrowOlder(DateTimeOffset resetAt)
    {
        lock (_gate)
        {
            _resetAt = resetAt;
            // What the clock of the other machine says can't be in the future here.
            var age = Math.Max(0, (_clock.GetUtcNow() - resetAt).TotalSeconds);
            _resetTimestamp = _clock.GetTimestamp() - (long)(age * _clock.TimestampFrequency);
        }
    }

    /// <summary>Bytes of the stream's state.</summary>
    public long StateBytes { get; private set; }

    /// <summary>Sequence numbers begin anew.</summary>
    public void ForgetAnswers()
    {
        lock (_gate)
        {
            Answered.Clear();
        }
    }

    /// <summary>The state was released.</summary>
    public void End()
    {
        lock (_gate)
        {
            State = null;
            Answered.Release();
        }
    }

    /// <summary>What a client that opens the stream should know now.</summary>
    public IReadOnlyList<string> Tell()
    {
        lock (_gate)
        {
            _noticeTold |= Notice is not null;
            string?[] warnings =
            [
                Notice,
                Model.Engine.Model.Advice,
                Keeping.OpenedBlind
                    ? "the state store is out of reach: whatever is stored of this stream is not known here, and what it learns is kept in memory only until the store is back"
                    : null,
            ];
            return [.. warnings.OfType<string>()];
        }
    }

    /// <summary>A call is about to take the stream from another: how often that happened lately, and how long it is to wait first.</summary>
    public (int Takeovers, TimeSpan Wait) Contend()
    {
        lock (_gate)
        {
            return _takeovers.Next();
        }
    }

    /// <summary>Notes a committed step.</summary>
    public void Stepped(long steps, long frames)
    {
        lock (_gate)
        {
            (Steps, Frames) = (steps, frames);
            Notice = _noticeTold ? null : Notice;
            _updated = _clock.GetUtcNow();
            _usedTimestamp = _clock.GetTimestamp();
            Keeping.Change(_usedTimestamp);
        }
    }

    public void Update(Func<StreamSettings, StreamSettings> change)
    {
        lock (_gate)
        {
            _settings = change(_settings);
            _updated = _clock.GetUtcNow();
            Keeping.Change(_clock.GetTimestamp());
        }
    }

    /// <summary>Makes the caller the one call that has the stream open; the token of the call before is cancelled.</summary>
    public StreamLease TakeOver()
    {
        var mine = new CancellationTokenSource();
        CancellationTokenSource? before;
        lock (_gate)
        {
            (before, _lease) = (_lease, mine);
        }

        before?.Cancel();
        return new StreamLease(this, mine);
    }

    /// <summary>Ends the call that has the stream open.</summary>
    public void RevokeLease()
    {
        CancellationTokenSource? before;
        lock (_gate)
        {
            (before, _lease) = (_lease, null);
        }

        before?.Cancel();
    }

    public void Return(CancellationTokenSource lease)
    {
        lock (_gate)
        {
            if (ReferenceEquals(_lease, lease))
            {
                _lease = null;
                _usedTimestamp = _clock.GetTimestamp();
            }
        }
    }

    /// <summary>Nothing waits, no call has it open, and the last step is this long ago.</summary>
    public bool IdleFor(TimeSpan span)
    {
        lock (_gate)
        {
            return _lease is null && PendingSteps == 0 && Phase == StreamPhase.Idle && _clock.GetElapsedTime(_usedTimestamp) >= span;
        }
    }

    public StreamDescription Describe()
    {
        lock (_gate)
        {
            return new StreamDescription(
                Name,
                Model.Name,
                Method,
                Seed,
                _settings,
                Origin,
                Steps,
                Frames,
                Age,
                Answered.Last,
                StateBytes,
                State is { IsResident: true },
                Created,
                _updated,
                _resetAt,
                Keeping.Claim?.Owner);
        }
    }
}

/// <summary>A call's hold on a stream.</summary>
internal sealed class StreamLease(StreamSession session, CancellationTokenSource source) : IDisposable
{
    public StreamSession Session { get; } = session;

    /// <summary>Cancelled when another call opens the stream, or it is deleted.</summary>
    public CancellationToken Lost { get; } = source.Token;

    // The source is not disposed: a later opener may be about to cancel it, and it holds no timer.
    public void Dispose() => Session.Return(source);
}

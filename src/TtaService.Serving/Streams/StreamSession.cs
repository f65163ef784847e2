using System.Diagnostics.CodeAnalysis;
using TtaService.Engine.Normalization;
using TtaService.Engine.Streams;
using TtaService.Serving.Frames;
using TtaService.Serving.Streams.Keeping;
using TtaService.Serving.Telemetry;

namespace TtaService.Serving.Streams;

/// <summary>One stream: its order, what it has answered, its settings. Everything that changes is guarded by the gate of its model's batcher, but <see cref="Place"/>.</summary>
internal sealed class StreamSession
{
    private readonly TimeProvider _clock;
    private StreamSettings _settings;
    private bool _noticeTold;

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
        Gate = model.Batcher.Gate;
        Answered = new AnsweredSteps(limits.KeptReplies, limits.KeptReplyBytes, replies);
        Use = new StreamUse(Gate, clock);
        History = new StateHistory(clock);
        Begin(state, origin);
    }

    public StreamKey Key { get; }

    public string Name => Key.Name;

    public ServedModel Model { get; }

    public MethodSettings Method { get; private set; }

    public ulong Seed { get; private set; }

    /// <summary>Bytes of the stream's state.</summary>
    public long StateBytes { get; private set; }

    public StateOrigin Origin { get; private set; }

    /// <summary>Guards what changes.</summary>
    public Lock Gate { get; }

    /// <summary>Who has it open.</summary>
    public StreamUse Use { get; }

    /// <summary>How far its state has come.</summary>
    public StateHistory History { get; }

    /// <summary>Where its state is.</summary>
    public StatePlace Place { get; } = new();

    /// <summary>How the stream stands with the store.</summary>
    public StreamKeeping Keeping { get; } = new();

    /// <summary>What is known of the stream's drift.</summary>
    public StreamWatch Watch { get; private set; }

    /// <summary>What it has answered.</summary>
    public AnsweredSteps Answered { get; }

    /// <summary>Its work in its order.</summary>
    public StreamQueue Waiting { get; } = new();

    /// <summary>Its share of the decoding.</summary>
    public DecodeShare Decoding { get; } = new();

    /// <summary>The last frame that could teach the stream something; null when none could since the state began.</summary>
    public PictureFacts? LastPicture { get; set; }

    /// <summary>What a client should know about how the state began; null when nothing, and from the first step on after it was told.</summary>
    public string? Notice { get; set; }

    /// <summary>Who brought the stream, as far as the network tells; empty for unknown.</summary>
    public string Client { get; init; } = "";

    /// <summary>Takes no further work.</summary>
    public bool Deleted { get; private set; }

    /// <summary>Why it takes no further work; null for deletion.</summary>
    public Failure? Ending { get; private set; }

    /// <summary>The highest sequence number answered; 0 when none.</summary>
    public ulong LastSequence
    {
        get
        {
            lock (Gate)
            {
                return Answered.Last;
            }
        }
    }

    /// <summary>No work waits or runs.</summary>
    public bool NothingWaits => Waiting.IsEmpty;

    /// <summary>Null after release. Its content belongs to the engine's thread.</summary>
    public StreamState? State => Place.State;

    public StreamSettings Settings
    {
        get
        {
            lock (Gate)
            {
                return _settings;
            }
        }
    }

    /// <summary>Gives the stream a state. Called between steps, on the engine's thread.</summary>
    [MemberNotNull(nameof(Method), nameof(Watch))]
    public void Begin(StreamState state, StateOrigin origin)
    {
        lock (Gate)
        {
            Place.State = state;
            Method = state.Method;
            // A camera that is reset or moved is watched anew.
            Watch = new StreamWatch(Model.Drift.NewHealth(state.Method));
            LastPicture = null;
            Seed = state.Seed;
            StateBytes = Model.Engine.Model.StateBytes(state.Method);
            Origin = origin;
            History.Begin(state.Steps, state.Frames);
            Use.Touch();
            Keeping.Change(Use.UsedAt);
        }
    }

    /// <summary>What the store keeps beside the state. Called under the gate, between steps.</summary>
    public StreamRecord Record() => new(_settings, History.Created, History.ResetAt, Answered.Kept);

    /// <summary>Goes on from what the store kept; called before anybody else knows the session.</summary>
    public void Restore(StreamRecord? record, ulong sequence, long number)
    {
        Answered.Restore(sequence, record?.Answers ?? []);
        if (record is not null)
        {
            History.Restore(record.Created);
            History.GrowOlder(record.ResetAt);
        }

        Keeping.Stored(Keeping.Version, number, Use.UsedAt);
    }

    /// <summary>Dates the state back to when it was at the source statistics.</summary>
    public void GrowOlder(DateTimeOffset resetAt)
    {
        lock (Gate)
        {
            History.GrowOlder(resetAt);
        }
    }

    /// <summary>Sequence numbers begin anew.</summary>
    public void ForgetAnswers()
    {
        lock (Gate)
        {
            Answered.Clear();
        }
    }

    /// <summary>The state was released. Called on the engine's thread.</summary>
    public void End()
    {
        lock (Gate)
        {
            Place.State = null;
            Answered.Release();
        }
    }

    /// <summary>Takes no further work from here on; what was admitted before still runs.</summary>
    public void Leave(Failure why)
    {
        lock (Gate)
        {
            (Deleted, Ending) = (true, why);
        }
    }

    /// <summary>Takes <see cref="Leave"/> back.</summary>
    public void Stay()
    {
        lock (Gate)
        {
            (Deleted, Ending) = (false, null);
        }
    }

    /// <summary>What a client that opens the stream should know now.</summary>
    public IReadOnlyList<string> Tell()
    {
        lock (Gate)
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

    /// <summary>Notes a committed step.</summary>
    public void Stepped(long steps, long frames)
    {
        lock (Gate)
        {
            History.Stepped(steps, frames);
            Notice = _noticeTold ? null : Notice;
            Use.Touch();
            Keeping.Change(Use.UsedAt);
        }
    }

    public void Update(Func<StreamSettings, StreamSettings> change)
    {
        lock (Gate)
        {
            _settings = change(_settings);
            History.Changed();
            Keeping.Change(_clock.GetTimestamp());
        }
    }

    /// <summary>Nothing waits, no call has it open, and the last step is this long ago.</summary>
    public bool IdleFor(TimeSpan span)
    {
        lock (Gate)
        {
            return Waiting.PendingSteps == 0 && Waiting.Phase == StreamPhase.Idle && Use.IsOver(span);
        }
    }

    public StreamDescription Describe()
    {
        lock (Gate)
        {
            return new StreamDescription(
                Name,
                Model.Name,
                Method,
                Seed,
                _settings,
                Origin,
                History.Steps,
                History.Frames,
                History.Age,
                Answered.Last,
                StateBytes,
                State is { IsResident: true },
                History.Created,
                History.Updated,
                History.ResetAt,
                Keeping.Claim?.Owner);
        }
    }
}

namespace TtaService.Serving.Streams;

/// <summary>How far a stream has come since it was at the source statistics, and when. Guarded by the stream's gate.</summary>
internal sealed class StateHistory(TimeProvider clock)
{
    private long _resetAt;

    /// <summary>Committed steps.</summary>
    public long Steps { get; private set; }

    /// <summary>Frames of these steps.</summary>
    public long Frames { get; private set; }

    /// <summary>When the stream came to be.</summary>
    public DateTimeOffset Created { get; private set; } = clock.GetUtcNow();

    /// <summary>When its state or settings last changed.</summary>
    public DateTimeOffset Updated { get; private set; }

    /// <summary>When its state was last at the source statistics.</summary>
    public DateTimeOffset ResetAt { get; private set; }

    /// <summary>Time since then.</summary>
    public TimeSpan Age => clock.GetElapsedTime(_resetAt);

    /// <summary>A state begins that has seen so much.</summary>
    public void Begin(long steps, long frames)
    {
        (Steps, Frames) = (steps, frames);
        ResetAt = Updated = clock.GetUtcNow();
        _resetAt = clock.GetTimestamp();
    }

    /// <summary>A step was committed.</summary>
    public void Stepped(long steps, long frames)
    {
        (Steps, Frames) = (steps, frames);
        Changed();
    }

    /// <summary>Something else was changed.</summary>
    public void Changed() => Updated = clock.GetUtcNow();

    /// <summary>Dates the stream back to when it came to be.</summary>
    public void Restore(DateTimeOffset created) => Created = created;

    /// <summary>Dates the state back to when it was at the source statistics.</summary>
    public void GrowOlder(DateTimeOffset resetAt)
    {
        ResetAt = resetAt;
        // What the clock of the other machine says can't be in the future here.
        var age = Math.Max(0, (clock.GetUtcNow() - resetAt).TotalSeconds);
        _resetAt = clock.GetTimestamp() - (long)(age * clock.TimestampFrequency);
    }
}

using TtaService.Engine.Normalization;

namespace TtaService.Serving.Streams;

/// <summary>How a stream's state began.</summary>
internal enum StateOrigin
{
    Fresh,
    Restored,
    Continued,
    Reset,
}

/// <summary>What may be set on a stream while its state stays.</summary>
internal sealed record StreamSettings
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
internal sealed record StreamDescription(
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

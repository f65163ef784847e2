using TtaService.Engine.Normalization;

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
/// <param name="Name">Its name.</param>
/// <param name="Model">Its model's name.</param>
/// <param name="Method">Its method, with all hyperparameters.</param>
/// <param name="Seed">Seeds what the method draws at random.</param>
/// <param name="Settings">What is set on it.</param>
/// <param name="Origin">How its state began.</param>
/// <param name="Steps">Committed steps of the state.</param>
/// <param name="Frames">Committed frames of the state.</param>
/// <param name="Age">Since the start or the last reset.</param>
/// <param name="LastSequence">The highest sequence number committed; 0 for none.</param>
/// <param name="StateBytes">Of its state.</param>
/// <param name="Resident">Whether the state is in memory.</param>
/// <param name="Created">When the stream began.</param>
/// <param name="Updated">When something of it changed last.</param>
/// <param name="ResetAt">When the state began.</param>
/// <param name="Owner">The replica that has it open; null when none has.</param>
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

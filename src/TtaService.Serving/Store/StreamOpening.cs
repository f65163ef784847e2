using System.ComponentModel;

namespace TtaService.Serving.Store;

/// <summary>What happens when a stream is opened that another replica owns. On the wire <c>replace</c>, <c>reject</c>.</summary>
[TypeConverter(typeof(SnakeCaseEnumConverter<OpenPolicy>))]
internal enum OpenPolicy
{
    /// <summary>The last opener wins.</summary>
    Replace,

    /// <summary>The owner keeps the stream for as long as it shows signs of life.</summary>
    Reject,
}

/// <summary>How an opening went.</summary>
internal enum OpenStatus
{
    /// <summary>The opener owns the stream.</summary>
    Owned,

    /// <summary>Another replica owns it, and the policy is to reject.</summary>
    Held,

    /// <summary>It was taken over too often lately: two clients use one key.</summary>
    TakeoverLimited,

    /// <summary>The store is down: the stream runs without a claim until the store is back.</summary>
    Unfenced,
}

/// <summary>The answer to an opening.</summary>
internal sealed record StreamOpening
{
    public required OpenStatus Status { get; init; }

    /// <summary>The right to write; null unless <see cref="OpenStatus.Owned"/>.</summary>
    public StreamClaim? Claim { get; init; }

    /// <summary>Who had not given the stream up: the replica it was taken over from, or the one that holds it. Null when nobody.</summary>
    public string? PreviousOwner { get; init; }

    /// <summary>How often this stream was taken over so far.</summary>
    public long Takeovers { get; init; }

    /// <summary>When to try again, if <see cref="OpenStatus.Held"/> or <see cref="OpenStatus.TakeoverLimited"/>.</summary>
    public TimeSpan RetryAfter { get; init; }

    /// <summary>The state to go on from; null when there is none, or it was refused.</summary>
    public StoredCheckpoint? Checkpoint { get; init; }

    /// <summary>Why nothing is stored any more of a stream that was; null when nothing ever was, or it is.</summary>
    public string? Dropped { get; init; }

    /// <summary>Why the latest checkpoint is not used; the stream starts from the source statistics.</summary>
    public string? Refused { get; init; }
}

using System.Security.Cryptography;
using TtaService.Serving.Store;

namespace TtaService.Serving.Streams.Keeping;

/// <summary>How a stream stands with the store. Guarded by the gate of its model's batcher.</summary>
internal sealed class StreamKeeping
{
    /// <summary>Held while the stream is written, so that one write follows the other.</summary>
    public SemaphoreSlim Writing { get; } = new(1);

    /// <summary>Part of the checkpoint interval after which a change is written, 0.4 to 0.7.</summary>
    public double Spread { get; } = 0.4 + (RandomNumberGenerator.GetInt32(1000) * 0.3 / 1000);

    /// <summary>The right to write; null while there is none.</summary>
    public StreamClaim? Claim { get; set; }

    /// <summary>The stream has ended here: nothing of it is claimed or written any more, another session may have its name.</summary>
    public bool Ended { get; set; }

    /// <summary>When the store last said that the claim holds, a timestamp.</summary>
    public long ConfirmedAt { get; set; }

    /// <summary>Opened while the store was out of reach: it may hold an older state that this one does not know.</summary>
    public bool OpenedBlind { get; set; }

    /// <summary>Rises with every change.</summary>
    public long Version { get; private set; }

    /// <summary>The version that is stored.</summary>
    public long SavedVersion { get; private set; }

    /// <summary>When the oldest change was made that is not stored, a timestamp.</summary>
    public long DirtySince { get; private set; }

    /// <summary>The stored checkpoint's number; 0 when none.</summary>
    public long Number { get; private set; }

    /// <summary>The state left the arena, and may leave the process as soon as it is stored.</summary>
    public bool Evicted { get; set; }

    /// <summary>The state is in the store only.</summary>
    public bool Spilled { get; set; }

    /// <summary>Runs while the state comes back from the store.</summary>
    public Task? BringingBack { get; set; }

    /// <summary>The drift score of the last sweep; null before one.</summary>
    public double? Score { get; set; }

    /// <summary>The drift score when the stored version was current.</summary>
    private double? StoredScore { get; set; }

    public bool Dirty => Version != SavedVersion;

    public void Change(long timestamp)
    {
        if (!Dirty)
        {
            DirtySince = timestamp;
        }

        Version++;
    }

    /// <summary>Whether the drift score has moved by so much since the stored version.</summary>
    public bool DriftedBy(double threshold) => threshold > 0 && Score is { } now && Math.Abs(now - (StoredScore ?? 0)) >= threshold;

    /// <summary>Notes that a version is stored which was current at this time.</summary>
    public void Stored(long version, long number, long capturedAt)
    {
        (SavedVersion, Number, DirtySince, StoredScore) = (version, number, capturedAt, Score);
    }

    /// <summary>Notes that the store has nothing: everything is to be written again.</summary>
    public void Forgotten(long timestamp)
    {
        (SavedVersion, Number, DirtySince) = (-1, 0, timestamp);
    }
}

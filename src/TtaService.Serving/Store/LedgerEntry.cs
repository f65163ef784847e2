namespace TtaService.Serving.Store;

/// <summary>What is known of a stream. <see cref="Kept"/>, <see cref="LastUsed"/> and its places change under both locks, the rest under the entry's.</summary>
internal sealed class LedgerEntry(string stream)
{
    public string Stream { get; } = stream;

    /// <summary>Where it stands among those that nobody has open.</summary>
    public LinkedListNode<LedgerEntry>? Place { get; set; }

    /// <summary>Stands among the marked ones.</summary>
    public bool IsListedAsDropped { get; set; }

    public bool IsEmpty => Kept.Count == 0 && RefusedNumber == 0 && DroppedNumber == 0;

    public Lock Gate { get; } = new();

    public Ownership Ownership { get; } = new();

    // Oldest first.
    public List<(long Number, long Bytes)> Kept { get; } = [];

    public long LastNumber { get; set; }

    public long RefusedNumber { get; set; }

    public string? RefusedReason { get; set; }

    /// <summary>Its last checkpoint when it was dropped to make room; 0 when it was not.</summary>
    public long DroppedNumber { get; set; }

    public long LastUsed { get; set; }

    public bool Forgotten { get; set; }
}

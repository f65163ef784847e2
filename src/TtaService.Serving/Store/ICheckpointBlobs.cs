namespace TtaService.Serving.Store;

/// <summary>What a blob that was there before this process is.</summary>
internal enum BlobKind
{
    /// <summary>A checkpoint.</summary>
    Checkpoint,

    /// <summary>A checkpoint that was set aside.</summary>
    Refused,

    /// <summary>The mark of a stream that was dropped to make room.</summary>
    Dropped,
}

/// <summary>A blob that was there before this process.</summary>
internal readonly record struct FoundBlob(string Stream, long Number, long Bytes, TimeSpan Age, BlobKind Kind);

/// <summary>Where the bytes of checkpoints lie, for a ledger that knows what they are. Thread-safe over streams; one stream's calls follow each other.</summary>
internal interface ICheckpointBlobs : IDisposable
{
    /// <summary>Whether they survive this process.</summary>
    bool OutlivesProcess { get; }

    /// <summary>What was there before this process. Asked once, before all else.</summary>
    IEnumerable<FoundBlob> Find();

    /// <summary>Stores bytes so that after return they survive a crash, and after a failure are not there.</summary>
    void Put(string stream, long number, byte[] file);

    /// <exception cref="CheckpointRefusedException">They were there and are gone.</exception>
    byte[] Get(string stream, long number);

    /// <summary>What the checkpoint says of itself; null when it can't be read.</summary>
    CheckpointDescription? Describe(string stream, long number);

    void Remove(string stream, long number);

    /// <summary>Keeps the bytes for who looks into it, where no opening finds them.</summary>
    void SetAside(string stream, long number);

    /// <summary>Forgets what was set aside of a stream.</summary>
    void RemoveSetAside(string stream, long number);

    /// <summary>Notes, so that it outlives the process if checkpoints do, that a stream was dropped to make room.</summary>
    void MarkDropped(string stream, long number);

    /// <summary>Takes back <see cref="MarkDropped"/>.</summary>
    void UnmarkDropped(string stream, long number);
}

namespace TtaService.Serving.Store;

/// <summary>A state to store.</summary>
/// <param name="Snapshot">The engine's snapshot, safetensors (<c>tta.stream.v1</c>).</param>
/// <param name="Sequence">The last sequence number that is committed in it; 0 when the client numbers nothing.</param>
/// <param name="Version">Rises from one checkpoint of a claim to the next: one that was delayed on its way can't replace a later one.</param>
/// <param name="Record">What else belongs to the stream (settings, kept answers), opaque to the store; ASCII.</param>
internal sealed record PendingCheckpoint(byte[] Snapshot, ulong Sequence, long Version, string Record = "")
{
    /// <summary>The model's name: two models may be one file.</summary>
    public string ModelName { get; init; } = "";

    /// <summary>Who brought the stream, as far as the network tells; empty for unknown. Not stored.</summary>
    public string Client { get; init; } = "";
}

/// <summary>What is known of a stored checkpoint without its tensors.</summary>
/// <param name="Stream">The stream's key.</param>
/// <param name="Number">Rises with every checkpoint of the stream.</param>
/// <param name="Epoch">Of the opening that wrote it.</param>
/// <param name="Owner">The replica that wrote it.</param>
/// <param name="Sequence">The last sequence number committed in it.</param>
/// <param name="Step">Committed steps.</param>
/// <param name="Model">SHA-256 of the ONNX file, lower-case hex.</param>
/// <param name="Method">The method's name.</param>
/// <param name="Saved">When it was stored.</param>
/// <param name="Bytes">Size as stored.</param>
internal sealed record CheckpointDescription(
    string Stream,
    long Number,
    long Epoch,
    string Owner,
    ulong Sequence,
    long Step,
    string Model,
    string Method,
    DateTimeOffset Saved,
    long Bytes)
{
    /// <summary>The model's name; empty in checkpoints of versions that did not tell it.</summary>
    public string ModelName { get; init; } = "";
}

/// <summary>A stored state.</summary>
/// <param name="Description">What it is.</param>
/// <param name="Snapshot">Safetensors that the engine takes back.</param>
/// <param name="Record">What else was stored with it.</param>
internal sealed record StoredCheckpoint(CheckpointDescription Description, byte[] Snapshot, string Record);

/// <summary>A stream of which a checkpoint is stored.</summary>
/// <param name="Latest">Its newest checkpoint.</param>
/// <param name="Owner">Who has it open; null when nobody.</param>
/// <param name="Bytes">Of all its kept checkpoints.</param>
internal sealed record StoredStream(CheckpointDescription Latest, string? Owner, long Bytes);

/// <summary>How a write went.</summary>
internal enum WriteStatus
{
    /// <summary>Stored, and on disk if the store has one.</summary>
    Saved,

    /// <summary>Refused: the stream has another owner, was closed or deleted.</summary>
    Fenced,

    /// <summary>Refused: the store knows nothing of the stream; it lost its content, or the stream expired. Open it again.</summary>
    Lost,
}

/// <summary>The answer to a write.</summary>
/// <param name="Status">How it went.</param>
/// <param name="Epoch">The stream's epoch in the store.</param>
/// <param name="Owner">The stream's owner in the store; null when nobody.</param>
/// <param name="Number">The number that the checkpoint has now; 0 when none was written.</param>
/// <param name="Bytes">Bytes written.</param>
internal readonly record struct CheckpointWrite(WriteStatus Status, long Epoch, string? Owner, long Number, long Bytes);

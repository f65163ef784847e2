namespace TtaService.Serving.Store;

/// <summary>The store does not answer or can't write now. Streams go on in memory.</summary>
internal sealed class StoreUnavailableException(string message, Exception? cause = null) : Exception(message, cause);

/// <summary>What the store holds under a stream's key is not what this program stores there. Concerns that stream alone: the store serves.</summary>
internal sealed class StoredStreamException(string stream, string message) : Exception(message)
{
    public string Stream { get; } = stream;
}

/// <summary>The store's bounds leave no room for the checkpoint, and no idle stream is left to expire.</summary>
internal sealed class StoreFullException(string message) : Exception(message);

/// <summary>A stored checkpoint that can't be used.</summary>
/// <param name="reason">For programs: <c>damaged</c>, <c>foreign</c>, <c>future_version</c>, <c>forged</c>.</param>
/// <param name="message">What is wrong with it.</param>
internal sealed class CheckpointRefusedException(string reason, string message) : Exception($"{reason}: {message}")
{
    /// <summary>For programs.</summary>
    public string Reason { get; } = reason;
}

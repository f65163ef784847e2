using TtaService.Serving.Store;

namespace TtaService.Serving.Streams.Keeping;

/// <summary>What the store's troubles are to those who use a stream.</summary>
internal static class StoreFailures
{
    public static Failure OutOfReach(StoreOptions options, string message) => new(FailureKind.Unavailable, "STORE_UNAVAILABLE", message) { RetryAfter = options.RetryDelay };

    public static Failure Unreadable(StoredStreamException bad) =>
        new(FailureKind.FailedPrecondition, "STORED_STREAM_UNREADABLE", $"stream '{bad.Stream}' can't be read: {bad.Message}; DeleteStream removes it, or use another name");

    /// <summary>The stream is not this replica's any more.</summary>
    public static Failure Moved(StreamSession session, string? owner) => owner is null
        ? new Failure(FailureKind.Aborted, "STREAM_DELETED", $"stream '{session.Name}' was deleted or closed elsewhere")
        : new Failure(FailureKind.Aborted, "STREAM_TAKEN_OVER", $"stream '{session.Name}' was opened on replica '{owner}'; one replica at a time has a stream") { Owner = owner };
}

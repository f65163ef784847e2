namespace TtaService.Serving;

/// <summary>What sort of trouble a request met; each maps to one gRPC status.</summary>
public enum FailureKind
{
    /// <summary>What was sent can never be taken.</summary>
    InvalidArgument,

    /// <summary>There is none of this name.</summary>
    NotFound,

    /// <summary>The name is taken.</summary>
    AlreadyExists,

    /// <summary>Not in the state that things are in.</summary>
    FailedPrecondition,

    /// <summary>A limit is reached; later it may fit.</summary>
    ResourceExhausted,

    /// <summary>It did not begin in the time that was given.</summary>
    DeadlineExceeded,

    /// <summary>It was taken back before it ran.</summary>
    Cancelled,

    /// <summary>Another has taken over.</summary>
    Aborted,

    /// <summary>Not now, or not here.</summary>
    Unavailable,

    /// <summary>A defect, of the program or of a method; the log has its cause.</summary>
    Internal,
}

/// <summary>Why a request was refused or failed. Expected trouble: a value, not a defect.</summary>
/// <param name="Kind">The sort.</param>
/// <param name="Reason">For programs, upper snake case: <c>FRAME_TOO_LARGE</c>.</param>
/// <param name="Message">What was wrong, the limit, the value seen, what to do.</param>
public sealed record Failure(FailureKind Kind, string Reason, string Message)
{
    internal const string UnloadedReason = "STREAM_UNLOADED";
    internal const string ReplacedReason = "MODEL_REPLACED";

    /// <summary>The request's field, when one is to blame.</summary>
    public string? Field { get; init; }

    /// <summary>When to try again; null when that won't help.</summary>
    public TimeSpan? RetryAfter { get; init; }

    /// <summary>The replica that can do it, when it is another one.</summary>
    public string? Owner { get; init; }

    internal static Failure Invalid(string reason, string field, string message) => new(FailureKind.InvalidArgument, reason, message) { Field = field };

    internal static Failure StreamNotFound(string stream) =>
        new(FailureKind.NotFound, "STREAM_NOT_FOUND", $"stream '{stream}' does not exist; create it, or open it without RESUME_POLICY_MUST_EXIST");

    /// <summary>A stream that was and is gone.</summary>
    /// <param name="stream">Its name.</param>
    /// <param name="why">What became of it.</param>
    internal static Failure StreamNotFound(string stream, string why) =>
        new(FailureKind.NotFound, "STREAM_NOT_FOUND", $"stream '{stream}' does not exist: {why}; create it, or open it without RESUME_POLICY_MUST_EXIST");

    internal static Failure Stopping() =>
        new(FailureKind.Unavailable, "SERVER_STOPPING", "the server is stopping; reconnect and resend what was not answered") { RetryAfter = TimeSpan.FromMilliseconds(50) };

    /// <summary>The stream has left this process while the request was on its way; it comes back when it is asked for again.</summary>
    internal static Failure Unloaded(string stream) =>
        new(FailureKind.Unavailable, UnloadedReason, $"stream '{stream}' was idle and has just gone to the store; send again") { RetryAfter = TimeSpan.FromMilliseconds(10) };

    /// <summary>The model was replaced while the request was on its way; asked for again, the stream is on the new one.</summary>
    internal static Failure Replaced(string model) =>
        new(FailureKind.Unavailable, ReplacedReason, $"model '{model}' has just been replaced by a newer one; send again") { RetryAfter = TimeSpan.FromMilliseconds(10) };

    /// <summary>The model is served no more.</summary>
    internal static Failure ModelUnloaded(string model) =>
        new(FailureKind.FailedPrecondition, "MODEL_UNLOADED", $"model '{model}' was unloaded; what its streams learned waits in the store until it is loaded again")
        {
            Field = "model",
        };

    internal static Failure Cancelled() => new(FailureKind.Cancelled, "STEP_CANCELLED", "the step was cancelled before it ran; the stream's state is as it was");

    internal static Failure Internal(string traceId) =>
        new(FailureKind.Internal, "INTERNAL", $"the server failed on this request; its log has the cause under trace {traceId}");
}

/// <summary>Carries a failure out of an operation that has no answer without it.</summary>
public sealed class FailureException(Failure failure) : Exception(failure.Message)
{
    /// <summary>What was refused, and why.</summary>
    public Failure Failure { get; } = failure;
}

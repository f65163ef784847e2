using System.Net;
using Grpc.Core;
using TtaService.Serving.Streams;

namespace TtaService.Host.Protocols;

/// <summary>A failure's status in the protocols there are.</summary>
internal readonly record struct FailureStatus(StatusCode Grpc, HttpStatusCode Http);

/// <summary>The one place that maps failures to statuses, for every protocol.</summary>
internal static class FailureStatuses
{
    // What HTTP calls a request that its client gave up; no server framework has a name for it.
    private const HttpStatusCode ClientClosedRequest = (HttpStatusCode)499;

    public static FailureStatus Of(FailureKind kind) => kind switch
    {
        FailureKind.InvalidArgument => new(StatusCode.InvalidArgument, HttpStatusCode.BadRequest),
        FailureKind.NotFound => new(StatusCode.NotFound, HttpStatusCode.NotFound),
        FailureKind.AlreadyExists => new(StatusCode.AlreadyExists, HttpStatusCode.Conflict),
        FailureKind.FailedPrecondition => new(StatusCode.FailedPrecondition, HttpStatusCode.Conflict),
        FailureKind.ResourceExhausted => new(StatusCode.ResourceExhausted, HttpStatusCode.TooManyRequests),
        FailureKind.DeadlineExceeded => new(StatusCode.DeadlineExceeded, HttpStatusCode.GatewayTimeout),
        FailureKind.Cancelled => new(StatusCode.Cancelled, ClientClosedRequest),
        FailureKind.Aborted => new(StatusCode.Aborted, HttpStatusCode.Conflict),
        FailureKind.Unavailable => new(StatusCode.Unavailable, HttpStatusCode.ServiceUnavailable),
        _ => new(StatusCode.Internal, HttpStatusCode.InternalServerError),
    };
}

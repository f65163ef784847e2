using Google.Protobuf.WellKnownTypes;
using Google.Rpc;
using Grpc.Core;
using TtaService.Engine;
using TtaService.Host.Protocols;
using TtaService.Serving.Streams;
using TtaService.V1;

namespace TtaService.Host.Grpc;

/// <summary>Failures as gRPC sees them: a status with google.rpc details, or an in-band error of one step. What a client wrote into them leaves short and without control
/// characters.</summary>
internal static class RpcErrors
{
    /// <summary>ErrorInfo's domain.</summary>
    public const string Domain = "tta.v1";

    public static RpcException ToRpcException(this Failure failure)
    {
        var message = ErrorText.Of(failure.Message);
        var status = new Google.Rpc.Status { Code = (int)FailureStatuses.Of(failure.Kind).Grpc, Message = message };
        var info = new ErrorInfo { Domain = Domain, Reason = failure.Reason };
        if (failure.Owner is not null)
        {
            info.Metadata["owner"] = failure.Owner;
        }

        status.Details.Add(Any.Pack(info));
        if (failure.Field is { } field)
        {
            var violation = new BadRequest.Types.FieldViolation { Field = ForeignText.Clip(field), Description = ForeignText.Clip(message), Reason = failure.Reason };
            status.Details.Add(Any.Pack(new BadRequest { FieldViolations = { violation } }));
        }

        if (failure.RetryAfter is { } delay)
        {
            status.Details.Add(Any.Pack(new RetryInfo { RetryDelay = Duration.FromTimeSpan(delay) }));
        }

        var exception = status.ToRpcException();
        if (failure.Owner is { } owner)
        {
            // For load balancers, which do not read details.
            exception.Trailers.Add("tta-owner", owner);
        }

        return exception;
    }

    public static StepError ToStepError(this Failure failure, ulong sequence)
    {
        var error = new StepError { Sequence = sequence, Code = (int)FailureStatuses.Of(failure.Kind).Grpc, Message = ErrorText.Of(failure.Message), Reason = failure.Reason };
        if (failure.Field is { } field)
        {
            error.Metadata["field"] = ForeignText.Clip(field);
        }

        if (failure.RetryAfter is { } delay)
        {
            error.RetryDelay = Duration.FromTimeSpan(delay);
        }

        return error;
    }
}

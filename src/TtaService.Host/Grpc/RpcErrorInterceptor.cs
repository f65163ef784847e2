using System.Diagnostics;
using Google.Protobuf;
using Grpc.Core;
using Grpc.Core.Interceptors;
using Microsoft.Extensions.Options;
using TtaService.Host.Hosting;
using TtaService.Host.Streams;

namespace TtaService.Host.Grpc;

/// <summary>The border of every call: refuses calls while the server stops, turns failures into statuses, and keeps the text of defects in the log.</summary>
internal sealed partial class RpcErrorInterceptor(IHostApplicationLifetime lifetime, IOptions<ServerOptions> server, ILogger<RpcErrorInterceptor> logger) : Interceptor
{
    public override async Task<TResponse> UnaryServerHandler<TRequest, TResponse>(TRequest request, ServerCallContext context, UnaryServerMethod<TRequest, TResponse> continuation)
    {
        try
        {
            RefuseWhenStopping(context);
            return await continuation(request, context).ConfigureAwait(false);
        }
        catch (Exception thrown) when (Explain(thrown, context) is { } status)
        {
            throw status;
        }
    }

    public override async Task DuplexStreamingServerHandler<TRequest, TResponse>(IAsyncStreamReader<TRequest> requestStream, IServerStreamWriter<TResponse> responseStream, ServerCallContext context, DuplexStreamingServerMethod<TRequest, TResponse> continuation)
    {
        try
        {
            RefuseWhenStopping(context);
            await continuation(requestStream, responseStream, context).ConfigureAwait(false);
        }
        catch (Exception thrown) when (Explain(thrown, context) is { } status)
        {
            throw status;
        }
    }

    public override async Task ServerStreamingServerHandler<TRequest, TResponse>(TRequest request, IServerStreamWriter<TResponse> responseStream, ServerCallContext context, ServerStreamingServerMethod<TRequest, TResponse> continuation)
    {
        try
        {
            await continuation(request, responseStream, context).ConfigureAwait(false);
        }
        catch (Exception thrown) when (Explain(thrown, context) is { } status)
        {
            throw status;
        }
    }

    private void RefuseWhenStopping(ServerCallContext context)
    {
        // Probes must be able to ask until the end.
        if (lifetime.ApplicationStopping.IsCancellationRequested && !context.Method.StartsWith("/grpc.health.", StringComparison.Ordinal))
        {
            throw new FailureException(Failure.Stopping());
        }
    }

    private RpcException? Explain(Exception thrown, ServerCallContext context)
    {
        switch (thrown)
        {
            case RpcException { StatusCode: StatusCode.ResourceExhausted } tooLarge:
                // The reader's own, of a message of a duplex call.
                return new Failure(FailureKind.ResourceExhausted, "MESSAGE_TOO_LARGE", $"{tooLarge.Status.Detail} The limit is {server.Value.MaxMessageBytes} bytes (Server:MaxMessageBytes); send smaller frames, or fewer a step").ToRpcException();
            case RpcException:
                return null;
            case InvalidProtocolBufferException unreadable:
                return Failure.Invalid("MESSAGE_UNREADABLE", "message", $"a message of the call is not what protos/tta/v1 says: {unreadable.Message}").ToRpcException();
            case FailureException expected:
                return expected.Failure.ToRpcException();
            case OperationCanceledException or IOException when context.CancellationToken.IsCancellationRequested:
                return new RpcException(new Status(StatusCode.Cancelled, "the client ended the call"));
            default:
                var traceId = (Activity.Current?.TraceId ?? ActivityTraceId.CreateRandom()).ToHexString();
                Log.CallFailed(logger, context.Method, traceId, thrown);
                return Failure.Internal(traceId).ToRpcException();
        }
    }

    private static partial class Log
    {
        [LoggerMessage(EventId = 20, Level = LogLevel.Error, Message = "CallFailed {Method}, trace {TraceId}")]
        public static partial void CallFailed(ILogger logger, string method, string traceId, Exception defect);
    }
}

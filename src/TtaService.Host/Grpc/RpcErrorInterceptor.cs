using System.Diagnostics;
using Google.Protobuf;
using Grpc.AspNetCore.Server;
using Grpc.Core;
using Grpc.Core.Interceptors;
using Microsoft.AspNetCore.Connections;
using Microsoft.AspNetCore.Http.Features;
using TtaService.Serving.Streams;
using TtaService.Serving.Telemetry;

namespace TtaService.Host.Grpc;

/// <summary>The border of every service: refuses calls while the server stops, turns failures into statuses, and keeps the text of defects in the log.</summary>
internal sealed partial class RpcErrorInterceptor(IHostApplicationLifetime lifetime, TtaMetrics metrics, ILogger<RpcErrorInterceptor> logger) : Interceptor
{
    public override async Task<TResponse> UnaryServerHandler<TRequest, TResponse>(TRequest request, ServerCallContext context, UnaryServerMethod<TRequest, TResponse> continuation)
    {
        var began = Stopwatch.GetTimestamp();
        var ended = StatusCode.Unknown;
        try
        {
            RefuseWhenStopping(context);
            var response = await continuation(request, context).ConfigureAwait(false);
            ended = context.Status.StatusCode;
            return response;
        }
        catch (Exception thrown) when (Explain(thrown, context) is { } status)
        {
            ended = status.StatusCode;
            throw status;
        }
        catch (RpcException refused)
        {
            ended = refused.StatusCode;
            throw;
        }
        finally
        {
            metrics.CallCompleted(MethodName(context), Stopwatch.GetElapsedTime(began), ended, failed: ended != StatusCode.OK);
        }
    }

    public override async Task DuplexStreamingServerHandler<TRequest, TResponse>(IAsyncStreamReader<TRequest> requestStream, IServerStreamWriter<TResponse> responseStream, ServerCallContext context, DuplexStreamingServerMethod<TRequest, TResponse> continuation)
    {
        LeaveOutOfHttpMetrics(context);
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
        LeaveOutOfHttpMetrics(context);
        try
        {
            await continuation(request, responseStream, context).ConfigureAwait(false);
        }
        catch (Exception thrown) when (Explain(thrown, context) is { } status)
        {
            throw status;
        }
    }

    // Such a call lasts as long as its client likes; among durations of requests that says nothing.
    private static void LeaveOutOfHttpMetrics(ServerCallContext context)
    {
        if (context.GetHttpContext().Features.Get<IHttpMetricsTagsFeature>() is { } http)
        {
            http.MetricsDisabled = true;
        }
    }

    // As it is mapped: routes don't heed case, so the path is what the client makes of it.
    private static string MethodName(ServerCallContext context) =>
        context.GetHttpContext().GetEndpoint()?.Metadata.GetMetadata<GrpcMethodMetadata>()?.Method.FullName.TrimStart('/') ?? "unknown";

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
            case RpcException:
                return null;
            case InvalidProtocolBufferException unreadable:
                return MessageFields.Unreadable(unreadable.Message).ToRpcException();
            case FailureException expected:
                return expected.Failure.ToRpcException();
            case ConnectionResetException:
            // The last is what gRPC says to who writes to a call that has ended.
            case OperationCanceledException or IOException or InvalidOperationException when context.CancellationToken.IsCancellationRequested:
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

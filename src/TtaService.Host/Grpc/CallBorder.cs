using System.Collections.Concurrent;
using System.Text;
using Grpc.AspNetCore.Server;
using Grpc.Core;
using Microsoft.AspNetCore.Http.Features;
using Microsoft.AspNetCore.Server.Kestrel.Core.Features;
using Microsoft.Extensions.Options;
using TtaService.Host.Hosting;
using TtaService.Serving.Streams;

namespace TtaService.Host.Grpc;

/// <summary>The border of every gRPC call of every service, also those that come with libraries: bounds what its request may cost and what its error says, and ends it when the server stops.</summary>
internal sealed class CallBorder(MessageBudget budget, OpenCalls calls, IHostApplicationLifetime lifetime, IOptions<ServerOptions> server, IOptions<StreamsOptions> streams, TimeProvider clock)
{
    private const string Message = "grpc-message";

    private readonly ConcurrentDictionary<IMethod, RequestLimits?> _limits = new();

    /// <summary>Runs a request that is a gRPC call inside of the border, others as they are.</summary>
    public async Task RunAsync(HttpContext context, RequestDelegate next)
    {
        if (context.GetEndpoint()?.Metadata.GetMetadata<GrpcMethodMetadata>()?.Method is not { } method || _limits.GetOrAdd(method, LimitsOf) is not { } limits)
        {
            await next(context).ConfigureAwait(false);
            return;
        }

        // Kestrel's own limits end a call without a word to its client.
        if (context.Features.Get<IHttpMaxRequestBodySizeFeature>() is { IsReadOnly: false } size)
        {
            size.MaxRequestBodySize = null;
        }

        if (context.Features.Get<IHttpMinRequestBodyDataRateFeature>() is { } rate)
        {
            rate.MinDataRate = null;
        }

        calls.Add(context);
        var connection = context.Features.Get<ConnectionMessages>() ?? new ConnectionMessages();
        var stopping = lifetime.ApplicationStopping;
        var late = stopping.IsCancellationRequested;
        using var messages = new RequestMessages(context.Request.BodyReader, late ? limits.WhileStopping() : limits, connection, budget, clock);
        context.Features.Set<IRequestBodyPipeFeature>(new Body(messages));
        await using var stop = late ? default : stopping.UnsafeRegister(static call => ((RequestMessages)call!).End(Failure.Stopping()), messages);
        await next(context).ConfigureAwait(false);
        BoundError(context.Response);
    }

    // What gRPC itself refuses, such as an encoding that it does not know, it quotes.
    private static void BoundError(HttpResponse response)
    {
        foreach (var headers in new[] { response.HasStarted ? null : response.Headers, response.HttpContext.Features.Get<IHttpResponseTrailersFeature>()?.Trailers })
        {
            if (headers is { IsReadOnly: false } && headers.TryGetValue(Message, out var said) && said.ToString() is { } text && text.Length > ErrorText.MaxBytes)
            {
                headers[Message] = Uri.EscapeDataString(ErrorText.Of(Uri.UnescapeDataString(text)));
            }
        }
    }

    private RequestLimits? LimitsOf(IMethod method)
    {
        var request = method.GetType().GetGenericArguments().FirstOrDefault();
        return request is not null && MessageFields.Of(request) is { } fields
            ? RequestLimits.Of(fields, method.Type is MethodType.Unary or MethodType.ServerStreaming, server.Value, streams.Value)
            : null;
    }

    private sealed class Body(RequestMessages messages) : IRequestBodyPipeFeature
    {
        public System.IO.Pipelines.PipeReader Reader => messages;
    }
}

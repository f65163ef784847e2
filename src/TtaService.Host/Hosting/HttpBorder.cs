using System.Diagnostics;
using System.Globalization;
using System.Net;
using System.Text.Json.Serialization;
using Microsoft.Extensions.Options;
using TtaService.Engine;
using TtaService.Host.Grpc;
using TtaService.Host.Protocols;
using TtaService.Serving.Streams;

namespace TtaService.Host.Hosting;

/// <summary>The border of the HTTP port: answers under the server's own names only, and says what went wrong as short JSON.</summary>
/// <remarks>A page of another site whose name leads to this address (DNS rebinding) asks under that name. Addresses can't be a site's name.</remarks>
internal sealed partial class HttpBorder(IOptions<ServerOptions> server, ILogger<HttpBorder> logger)
{
    private readonly string[] _allowed = [.. AllowedHostsAttribute.Split(server.Value.AllowedHosts), "localhost", Environment.MachineName];

    /// <summary>Runs an HTTP/1.1 request inside of the border, others as they are.</summary>
    public async Task RunAsync(HttpContext context, RequestDelegate next)
    {
        if (HttpProtocol.IsHttp2(context.Request.Protocol))
        {
            await next(context).ConfigureAwait(false);
            return;
        }

        if (!IsAllowed(context.Request.Host.Host))
        {
            await TellAsync(
                context,
                HttpStatusCode.Forbidden,
                $"the server does not answer as '{ForeignText.Clip(context.Request.Host.Host)}'; "
                    + "ask by its address, or name the host in Server:AllowedHosts").ConfigureAwait(false);
            return;
        }

        try
        {
            await next(context).ConfigureAwait(false);
        }
        catch (FailureException refused) when (!context.Response.HasStarted)
        {
            await TellAsync(context, FailureStatuses.Of(refused.Failure.Kind).Http, refused.Failure.Message, refused.Failure).ConfigureAwait(false);
        }
        catch (BadHttpRequestException bad) when (!context.Response.HasStarted)
        {
            await TellAsync(context, (HttpStatusCode)bad.StatusCode, bad.Message).ConfigureAwait(false);
        }
        catch (Exception gone) when (context.RequestAborted.IsCancellationRequested && gone is OperationCanceledException or IOException)
        {
            // Nobody is there to answer.
        }
        catch (Exception defect) when (!context.Response.HasStarted)
        {
            var traceId = (Activity.Current?.TraceId ?? ActivityTraceId.CreateRandom()).ToHexString();
            Log.RequestFailed(logger, traceId, defect);
            await TellAsync(context, HttpStatusCode.InternalServerError, Failure.Internal(traceId).Message).ConfigureAwait(false);
        }
    }

    // Without a name, as HTTP/1.0 may ask, no page can ask.
    private bool IsAllowed(string host) => host.Length == 0 || IPAddress.TryParse(host, out _) || Array.Exists(_allowed, name => IsUnder(name, host));

    private static bool IsUnder(string name, string host) =>
        name == "*" || host.Equals(name, StringComparison.OrdinalIgnoreCase)
            || (name.StartsWith("*.", StringComparison.Ordinal) && host.EndsWith(name[1..], StringComparison.OrdinalIgnoreCase));

    private static Task TellAsync(HttpContext context, HttpStatusCode status, string error, Failure? failure = null)
    {
        context.Response.Clear();
        context.Response.StatusCode = (int)status;
        if (failure?.RetryAfter is { } delay)
        {
            // Whole seconds are all that HTTP has.
            context.Response.Headers.RetryAfter = Math.Ceiling(delay.TotalSeconds).ToString(CultureInfo.InvariantCulture);
        }

        return context.Response.WriteAsJsonAsync(new ErrorBody(ErrorText.Of(error), failure?.Reason), context.RequestAborted);
    }

    private static partial class Log
    {
        [LoggerMessage(EventId = 42, Level = LogLevel.Error, Message = "RequestFailed, trace {TraceId}")]
        public static partial void RequestFailed(ILogger logger, string traceId, Exception defect);
    }
}

/// <summary>What is told of a request that was refused or failed.</summary>
/// <param name="Error">What was wrong, the value seen, what to do.</param>
/// <param name="Reason">For programs, upper snake case; not of what HTTP itself refuses.</param>
internal sealed record ErrorBody(string Error, [property: JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)] string? Reason);

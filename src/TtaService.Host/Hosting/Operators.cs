using System.Net;
using Microsoft.Extensions.Options;
using TtaService.Host.Dashboard;

namespace TtaService.Host.Hosting;

/// <summary>Who may change streams over HTTP, and take their states away: those whom <see cref="DashboardOptions.AllowActions"/> names.</summary>
internal static class Operators
{
    /// <summary>Set on every request that changes something, to whatever value.</summary>
    public const string Header = "x-tta-action";

    private static readonly string[] ProxyHeaders = ["Forwarded", "X-Forwarded-For", "X-Real-IP", "Via"];

    /// <summary>Lets a route answer operators only.</summary>
    public static RouteHandlerBuilder ForOperators(this RouteHandlerBuilder route) => route.AddEndpointFilter(RefuseOthersAsync).WithMetadata(new OperatorsOnly());

    // By the name that was asked for as well: a foreign name that leads to this machine is not the server's.
    public static bool MayAct(HttpContext context) => context.RequestServices.GetRequiredService<IOptions<DashboardOptions>>().Value.AllowActions switch
    {
        DashboardActions.Always => true,
        DashboardActions.Loopback => context.Connection.RemoteIpAddress is { } remote && IPAddress.IsLoopback(remote) && IsLoopbackName(context.Request.Host.Host)
            && !WasForwarded(context.Request.Headers),
        _ => false,
    };

    private static async ValueTask<object?> RefuseOthersAsync(EndpointFilterInvocationContext context, EndpointFilterDelegate next)
    {
        var request = context.HttpContext.Request;
        return !MayAct(context.HttpContext)
            ? Refused("OPERATORS_ONLY", "actions are for operators: ask from the server's own machine, by localhost or its address, or set Dashboard:AllowActions to always")
            // A page of another site can't set the header without asking first, which is never allowed.
            : !HttpMethods.IsGet(request.Method) && !request.Headers.ContainsKey(Header)
            ? Refused("ACTION_HEADER_MISSING", $"what changes a stream needs the header {Header}, with any value: pages of other sites can't send it")
            : await next(context).ConfigureAwait(false);
    }

    private static IResult Refused(string reason, string error) => Results.Json(new ErrorBody(error, reason), statusCode: StatusCodes.Status403Forbidden);

    // A proxy on this machine brings requests of others.
    private static bool WasForwarded(IHeaderDictionary headers) => Array.Exists(ProxyHeaders, headers.ContainsKey);

    private static bool IsLoopbackName(string host) => host == "localhost" || (IPAddress.TryParse(host.Trim('[', ']'), out var address) && IPAddress.IsLoopback(address));
}

/// <summary>Says of a route that it is <see cref="Operators.ForOperators"/>.</summary>
internal sealed class OperatorsOnly;

using System.Net;
using System.Text.Json;
using Microsoft.Extensions.Options;
using TtaService.Engine.Execution;
using TtaService.Serving.Front;
using TtaService.Serving.Streams;
using TtaService.Serving.Telemetry;

namespace TtaService.Host.Dashboard;

/// <summary>The page, its JSON and its actions, on the HTTP port.</summary>
internal static class DashboardEndpoints
{
    // The page is the server's own: nothing from elsewhere runs in it, and nothing elsewhere frames it.
    private const string Policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
        + "frame-ancestors 'none'";
    private const string ActionHeader = "x-tta-action";
    private const int MaxRows = 1000;

    private static readonly string[] ProxyHeaders = ["Forwarded", "X-Forwarded-For", "X-Real-IP", "Via"];

    /// <summary>Maps nothing when <see cref="DashboardOptions.Enabled"/> is false.</summary>
    public static IEndpointConventionBuilder MapDashboard(this IEndpointRouteBuilder endpoints)
    {
        var page = endpoints.MapGroup("").AddEndpointFilter(async (context, next) =>
        {
            var headers = context.HttpContext.Response.Headers;
            headers.ContentSecurityPolicy = Policy;
            headers.XContentTypeOptions = "nosniff";
            headers["Referrer-Policy"] = "no-referrer";
            return await next(context).ConfigureAwait(false);
        });
        if (endpoints.ServiceProvider.GetRequiredService<IOptions<DashboardOptions>>().Value.Enabled)
        {
            // Counts from the start on, not from the first look at the page.
            endpoints.ServiceProvider.GetRequiredService<ServiceFigures>();
            DashboardFiles.Map(page);
            var api = page.MapGroup("/api/v1");
            MapReading(api);
            MapActions(api);
        }

        return page;
    }

    private static void MapReading(IEndpointRouteBuilder api)
    {
        api.MapGet(
            "/fleet",
            (HttpContext context, FleetReader reader, IOptions<DashboardOptions> options, string? model) => reader.Fleet(model ?? string.Empty, MayAct(context, options.Value)));
        api.MapGet("/streams", (FleetReader reader, string? model, string? sort, string? filter, int? offset, int? limit) =>
            reader.List(new StreamQuery(model ?? string.Empty, sort ?? "drift", filter ?? string.Empty, Math.Max(0, offset ?? 0), Math.Clamp(limit ?? 100, 1, MaxRows))));
        api.MapGet("/strip", (FleetReader reader, string? model, int? rows) => reader.FleetStrip(model ?? string.Empty, Math.Clamp(rows ?? 400, 1, MaxRows)));
        api.MapGet("/streams/{name}", (FleetReader reader, string name) => reader.Find(name));
        api.MapGet("/streams/{name}/drift", (FleetReader reader, string name) => reader.Drift(name));
        api.MapGet("/service", (ServiceFigures figures, ModelCatalog models, IOptions<BatchingOptions> batching) => new
        {
            Window = figures.Read(),
            Models = models.Engines.Select(served => new
            {
                served.Name,
                served.Device,
                served.Engine.Model.ResidentStreams,
                ArenaBytes = served.Engine.Model.ResidentBytes,
                ArenaLimit = served.Engine.Model.ArenaBytes,
                served.Batcher.QueuedSteps,
                QueueLimit = batching.Value.MaxQueuedSteps,
            }),
            models.Broken,
        });
        api.MapGet("/events", EventsAsync);
    }

    private static void MapActions(IEndpointRouteBuilder api)
    {
        api.MapPost("/streams/{name}/reset", async (IStreamOperations streams, StreamDirectory directory, string name) =>
        {
            (await streams.ResetAsync(Here(directory, name)).ConfigureAwait(false)).OrThrow();
            return new { Name = name };
        }).AddEndpointFilter(OperatorsOnlyAsync);
        api.MapPost("/streams/{name}/freeze", async (IStreamOperations streams, StreamDirectory directory, string name, FreezeRequest request) =>
        {
            (await streams.UpdateAsync(Here(directory, name), settings => settings with { Frozen = request.Frozen }).ConfigureAwait(false)).OrThrow();
            return new { Name = name, request.Frozen };
        }).AddEndpointFilter(OperatorsOnlyAsync);
        api.MapPost("/streams/{name}/fork", async (IStreamOperations streams, StreamDirectory directory, string name, ForkRequest request) =>
        {
            var fork = (await streams.ForkAsync(Here(directory, name), StreamKey.Checked(request.Name ?? string.Empty, "name")).ConfigureAwait(false)).OrThrow();
            return new { fork.Name };
        }).AddEndpointFilter(OperatorsOnlyAsync);
        api.MapGet("/streams/{name}/export", async (
            HttpContext context,
            IStreamOperations streams,
            StreamDirectory directory,
            IOptions<DashboardOptions> options,
            string name) => MayAct(context, options.Value)
            ? Results.File((await streams.ExportAsync(Here(directory, name)).ConfigureAwait(false)).OrThrow(), "application/octet-stream", $"{name}.safetensors")
            : Refused());
    }

    // The page acts on what it shows: streams that are in this process.
    private static StreamKey Here(StreamDirectory directory, string name) => directory.Get(StreamKey.Of(name)).Key;

    // Level changes and frames that began not to be learned, as they happen.
    private static async Task EventsAsync(HttpContext context, DriftBoard board, IHostApplicationLifetime lifetime)
    {
        context.Response.ContentType = "text/event-stream";
        context.Response.Headers.CacheControl = "no-store";
        using var ended = CancellationTokenSource.CreateLinkedTokenSource(context.RequestAborted, lifetime.ApplicationStopping);
        using var watch = board.Watch();
        try
        {
            await context.Response.Body.FlushAsync(ended.Token).ConfigureAwait(false);
            await foreach (var update in watch.ReadAsync(ended.Token).ConfigureAwait(false))
            {
                var line = update switch
                {
                    LevelChanged change => $"event: level\ndata: "
                        + $"{JsonSerializer.Serialize(new { stream = change.Stream.Stream, level = FleetReader.Word(change.Stream.Level) })}\n\n",
                    FramesNotLearned began => $"event: not_learned\ndata: "
                        + $"{JsonSerializer.Serialize(new { stream = began.Stream, reason = Label<NotLearnedReason>.Of(began.Reason), frames = began.Frames })}\n\n",
                    StreamRolledBack back => $"event: rolled_back\ndata: {JsonSerializer.Serialize(new { stream = back.Stream, step = back.Step })}\n\n",
                    _ => ": alive\n\n",
                };
                await context.Response.WriteAsync(line, ended.Token).ConfigureAwait(false);
                await context.Response.Body.FlushAsync(ended.Token).ConfigureAwait(false);
            }
        }
        catch (OperationCanceledException)
        {
            // The page was closed, or the server stops.
        }
    }

    // A page of another site can't set the header without asking first, which is never allowed.
    private static async ValueTask<object?> OperatorsOnlyAsync(EndpointFilterInvocationContext context, EndpointFilterDelegate next)
    {
        var options = context.HttpContext.RequestServices.GetRequiredService<IOptions<DashboardOptions>>().Value;
        return MayAct(context.HttpContext, options) && context.HttpContext.Request.Headers.ContainsKey(ActionHeader)
            ? await next(context).ConfigureAwait(false)
            : Refused();
    }

    private static IResult Refused() =>
        Results.Json(
            new { error = "actions are for operators: open the page on the server's own machine, or set Dashboard:AllowActions to always" },
            statusCode: (int)HttpStatusCode.Forbidden);

    // By the name that was asked for as well: a foreign name that leads to this machine is not the server's.
    private static bool MayAct(HttpContext context, DashboardOptions options) => options.AllowActions switch
    {
        DashboardActions.Always => true,
        DashboardActions.Loopback => context.Connection.RemoteIpAddress is { } remote && IPAddress.IsLoopback(remote) && IsLoopbackName(context.Request.Host.Host)
            && !WasForwarded(context.Request.Headers),
        _ => false,
    };

    // A proxy on this machine brings requests of others.
    private static bool WasForwarded(IHeaderDictionary headers) => Array.Exists(ProxyHeaders, headers.ContainsKey);

    private static bool IsLoopbackName(string host) => host == "localhost" || (IPAddress.TryParse(host.Trim('[', ']'), out var address) && IPAddress.IsLoopback(address));

    private sealed record FreezeRequest(bool Frozen);

    private sealed record ForkRequest(string? Name);
}

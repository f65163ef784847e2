using System.Text.Json;
using Microsoft.Extensions.Options;
using Microsoft.OpenApi;
using TtaService.Engine.Execution;
using TtaService.Host.Hosting;
using TtaService.Host.Rest;
using TtaService.Serving.Streams;
using TtaService.Serving.Telemetry;

namespace TtaService.Host.Dashboard;

/// <summary>The page, its JSON and its actions, on the HTTP port.</summary>
internal static class DashboardEndpoints
{
    // The page is the server's own: nothing from elsewhere runs in it, and nothing elsewhere frames it.
    private const string Policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
        + "frame-ancestors 'none'";
    private const int MaxRows = 1000;

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
            var api = page.MapGroup("/api/v1").WithTags("dashboard");
            MapReading(api);
            MapActions(api);
        }

        return page;
    }

    private static void MapReading(IEndpointRouteBuilder api)
    {
        api.MapGet(
            "/fleet",
            (HttpContext context, FleetReader reader, IOptions<DashboardOptions> options, string? model) => reader.Fleet(model ?? string.Empty, Operators.MayAct(context)));
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

    // The page acts through the resource; its own addresses of it.
    private static void MapActions(IEndpointRouteBuilder api)
    {
        api.MapPost("/streams/{name}/reset", StreamActions.ResetAsync).ForOperators().Gives(V1.Stream.Descriptor);
        api.MapPost("/streams/{name}/freeze", StreamActions.FreezeAsync).ForOperators().Takes(required: false, ("frozen", JsonSchemaType.Boolean)).Gives(V1.Stream.Descriptor);
        api.MapPost("/streams/{name}/fork", StreamActions.ForkAsync).ForOperators().Takes(required: true, ("name", JsonSchemaType.String)).Gives(V1.Stream.Descriptor);
        api.MapGet("/streams/{name}/export", StreamActions.ExportAsync).ForOperators().GivesFile();
    }

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
}

using Microsoft.AspNetCore.Diagnostics.HealthChecks;
using Microsoft.Extensions.Diagnostics.HealthChecks;
using TtaService.Host.Dashboard;
using TtaService.Host.Grpc;
using TtaService.Host.Hosting;
using TtaService.Host.Inference;
using TtaService.Host.Rest;

namespace Microsoft.AspNetCore.Builder;

internal static class TtaEndpointRouteBuilderExtensions
{
    /// <summary>Puts the borders up and maps the gRPC services, which the HTTP/2 listener serves, the probes, which both do, and the metrics, the dashboard and the resources,
    /// which the HTTP/1.1 listener serves.</summary>
    public static void MapTtaService(this WebApplication endpoints)
    {
        endpoints.Use(endpoints.Services.GetRequiredService<HttpBorder>().RunAsync);
        endpoints.Use(endpoints.Services.GetRequiredService<CallBorder>().RunAsync);
        endpoints.MapGrpcService<AdaptationService>();
        endpoints.MapGrpcService<StreamsService>();
        endpoints.MapGrpcService<ModelsService>();
        endpoints.MapGrpcService<DriftService>();
        endpoints.MapGrpcService<CalibrationService>();
        endpoints.MapGrpcService<InferenceService>();
        endpoints.MapGrpcHealthChecksService();
        endpoints.MapGrpcReflectionService();
        endpoints.MapHealthChecks("/health/live", new HealthCheckOptions { Predicate = check => check.Name == LivenessCheck.Name, ResponseWriter = Explain });
        endpoints.MapHealthChecks("/health/ready", new HealthCheckOptions { Predicate = check => check.Name == ReadinessCheck.Name, ResponseWriter = Explain });
        endpoints.MapPrometheusScrapingEndpoint("/metrics").DisableHttpMetrics().Add(NotOverHttp2);
        endpoints.MapDashboard().Add(NotOverHttp2);
        endpoints.MapInference().Add(NotOverHttp2);
        endpoints.MapResources().Add(NotOverHttp2);
        endpoints.MapOpenApi().Add(NotOverHttp2);
    }

    // The status, and what is wrong when something is.
    private static Task Explain(HttpContext call, HealthReport report)
    {
        call.Response.ContentType = "text/plain";
        var troubles = string.Join("; ", report.Entries.Values.Select(entry => entry.Description).Where(description => !string.IsNullOrEmpty(description)));
        return call.Response.WriteAsync(troubles.Length == 0 ? $"{report.Status}" : $"{report.Status}: {troubles}", call.RequestAborted);
    }

    // The gRPC listener is the one that is opened to clients, and speaks HTTP/2 only.
    private static void NotOverHttp2(EndpointBuilder endpoint)
    {
        var answer = endpoint.RequestDelegate!;
        endpoint.RequestDelegate = call =>
        {
            if (!HttpProtocol.IsHttp2(call.Request.Protocol))
            {
                return answer(call);
            }

            call.Response.StatusCode = StatusCodes.Status404NotFound;
            return Task.CompletedTask;
        };
    }
}

using Microsoft.AspNetCore.Diagnostics.HealthChecks;
using TtaService.Host.Dashboard;
using TtaService.Host.Grpc;
using TtaService.Host.Hosting;

namespace Microsoft.AspNetCore.Builder;

internal static class TtaEndpointRouteBuilderExtensions
{
    /// <summary>Puts the borders up and maps the gRPC services, which the HTTP/2 listener serves, the probes, which both do, and the metrics and the dashboard, which the HTTP/1.1 listener serves.</summary>
    public static void MapTtaService(this WebApplication endpoints)
    {
        endpoints.Use(endpoints.Services.GetRequiredService<HttpBorder>().RunAsync);
        endpoints.Use(endpoints.Services.GetRequiredService<CallBorder>().RunAsync);
        endpoints.MapGrpcService<AdaptationService>();
        endpoints.MapGrpcService<StreamsService>();
        endpoints.MapGrpcService<ModelsService>();
        endpoints.MapGrpcService<DriftService>();
        endpoints.MapGrpcHealthChecksService();
        endpoints.MapGrpcReflectionService();
        endpoints.MapHealthChecks("/health/live", new HealthCheckOptions { Predicate = check => check.Name == LivenessCheck.Name });
        endpoints.MapHealthChecks("/health/ready", new HealthCheckOptions { Predicate = check => check.Name == ReadinessCheck.Name });
        endpoints.MapPrometheusScrapingEndpoint("/metrics").DisableHttpMetrics().Add(NotOverHttp2);
        endpoints.MapDashboard().Add(NotOverHttp2);
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

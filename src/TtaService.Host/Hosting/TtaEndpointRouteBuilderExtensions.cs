using Microsoft.AspNetCore.Diagnostics.HealthChecks;
using TtaService.Host.Grpc;
using TtaService.Host.Hosting;

namespace Microsoft.AspNetCore.Builder;

internal static class TtaEndpointRouteBuilderExtensions
{
    /// <summary>Maps the gRPC services, which the HTTP/2 listener serves, and the probes, which both do.</summary>
    public static void MapTtaService(this IEndpointRouteBuilder endpoints)
    {
        endpoints.MapGrpcService<AdaptationService>();
        endpoints.MapGrpcService<StreamsService>();
        endpoints.MapGrpcService<ModelsService>();
        endpoints.MapGrpcService<DriftService>();
        endpoints.MapGrpcHealthChecksService();
        endpoints.MapGrpcReflectionService();
        endpoints.MapHealthChecks("/health/live", new HealthCheckOptions { Predicate = _ => false });
        endpoints.MapHealthChecks("/health/ready", new HealthCheckOptions { Predicate = check => check.Name == ReadinessCheck.Name });
    }
}

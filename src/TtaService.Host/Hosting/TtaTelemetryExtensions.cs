using System.Diagnostics.Metrics;
using Microsoft.Extensions.Options;
using OpenTelemetry;
using OpenTelemetry.Metrics;
using OpenTelemetry.Resources;
using OpenTelemetry.Trace;
using TtaService.Serving.Telemetry;

namespace Microsoft.Extensions.DependencyInjection;

internal static class TtaTelemetryExtensions
{
    private const string OtlpEndpoint = "OTEL_EXPORTER_OTLP_ENDPOINT";

    private static readonly string[] PlatformMeters = ["Microsoft.AspNetCore.Hosting", "Microsoft.AspNetCore.Server.Kestrel", "System.Runtime"];

    /// <summary>Lets OpenTelemetry collect the metrics for <c>/metrics</c>, and send metrics, traces and logs where <c>OTEL_EXPORTER_OTLP_ENDPOINT</c> says. Without it no spans
    /// are made.</summary>
    public static IServiceCollection AddTtaTelemetry(this IServiceCollection services, IConfiguration configuration)
    {
        var telemetry = services.AddOpenTelemetry().WithMetrics(metrics => metrics
            .AddMeter(TtaMetrics.MeterName)
            .AddMeter(PlatformMeters)
            .SetExemplarFilter(ExemplarFilterType.AlwaysOn)
            .AddPrometheusExporter(prometheus => prometheus.ScopeInfoEnabled = false));
        services.ConfigureOpenTelemetryMeterProvider((provider, metrics) => AddViews(metrics, provider.GetRequiredService<IMeterFactory>()));
        telemetry.ConfigureResource(resource => resource.AddService(
            "tta",
            serviceVersion: typeof(TtaMetrics).Assembly.GetName().Version?.ToString(3),
            serviceInstanceId: configuration["Store:Replica"] ?? Environment.MachineName).AddEnvironmentVariableDetector());
        if (!string.IsNullOrWhiteSpace(configuration[OtlpEndpoint]))
        {
            telemetry.WithTracing(traces => traces.AddSource(TtaActivities.SourceName)).WithLogging().UseOtlpExporter();
            services.ConfigureOpenTelemetryTracerProvider((provider, traces) =>
                traces.SetSampler(new ParentBasedSampler(new TraceIdRatioBasedSampler(provider.GetRequiredService<IOptions<TelemetryOptions>>().Value.TraceSampleRatio))));
        }

        return services;
    }

    // One view decides all: of two that match, both would count.
    private static void AddViews(MeterProviderBuilder metrics, IMeterFactory own) => metrics.AddView(instrument =>
    {
        if (instrument.Meter.Scope is IMeterFactory other && other != own)
        {
            // Another host of this process.
            return MetricStreamConfiguration.Drop;
        }

        return instrument.Meter.Name == TtaMetrics.MeterName && MetricCatalogue.Find(instrument.Name) is { } metric
            ? new MetricStreamConfiguration { TagKeys = metric.Labels, CardinalityLimit = metric.Series }
            : null;
    });
}

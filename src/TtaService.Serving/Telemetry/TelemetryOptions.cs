using System.ComponentModel.DataAnnotations;
using Microsoft.Extensions.Options;
using TtaService.Engine;

namespace TtaService.Serving.Telemetry;

/// <summary>What the service says about itself, section <c>Telemetry</c>. Where it sends it is OpenTelemetry's own setting, <c>OTEL_EXPORTER_OTLP_ENDPOINT</c>.</summary>
public sealed class TelemetryOptions
{
    /// <summary>Most streams that may be watched by name.</summary>
    public const int MaxWatchedStreams = 32;

    /// <summary>Part of the steps and checkpoints that are traced when their caller did not decide, 0 to 1. Default 0.01: at 1,000 steps a second that is ten spans.</summary>
    [Range(0.0, 1.0)]
    public double TraceSampleRatio { get; set; } = 0.01;

    /// <summary>Names of streams whose drift score is a time series of its own, separated by commas, 32 at most. Default none. Read at start: a label set that was exported once
    /// stays for the life of the process.</summary>
    public string WatchedStreams { get; set; } = string.Empty;

    /// <summary>The names in <see cref="WatchedStreams"/>.</summary>
    public static IReadOnlyCollection<string> Names(string watched) =>
        watched.Split(',', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries).ToHashSet(StringComparer.Ordinal);
}

/// <summary>Checks the names of the watched streams.</summary>
internal sealed class TelemetryOptionsValidator : IValidateOptions<TelemetryOptions>
{
    public ValidateOptionsResult Validate(string? name, TelemetryOptions options)
    {
        var errors = new List<string>();
        var watched = TelemetryOptions.Names(options.WatchedStreams);
        if (watched.Count > TelemetryOptions.MaxWatchedStreams)
        {
            errors.Add($"Telemetry:WatchedStreams names {watched.Count} streams, at most {TelemetryOptions.MaxWatchedStreams} may be watched: "
                + "each is a time series for the life of the process");
        }

        foreach (var stream in watched)
        {
            if (!StreamNames.IsName(stream))
            {
                errors.Add($"Telemetry:WatchedStreams names '{ForeignText.Clip(stream)}', which no stream can be called: a name has 1 to 128 characters of A-Z a-z 0-9 _ . : -");
            }
        }

        return errors.Count == 0 ? ValidateOptionsResult.Success : ValidateOptionsResult.Fail(errors);
    }
}

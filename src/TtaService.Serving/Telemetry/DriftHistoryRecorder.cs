using TtaService.Engine.Drift;

namespace TtaService.Serving.Telemetry;

/// <summary>Writes every sweep into the history.</summary>
internal sealed class DriftHistoryRecorder(DriftBoard board, DriftHistory history) : BackgroundService
{
    protected override async Task ExecuteAsync(CancellationToken stoppingToken)
    {
        try
        {
            await foreach (var update in board.WatchAsync(stoppingToken).ConfigureAwait(false))
            {
                if (update is Swept { Report: var report })
                {
                    foreach (var drift in report.Streams)
                    {
                        history.Add(drift.Stream, ScoreOf(drift), OverLimits(report, drift));
                    }

                    history.Trim();
                }
            }
        }
        catch (OperationCanceledException)
        {
            // The host stops.
        }
    }

    /// <summary>The score; for a model without a reference the mean divergence of the sites, so that the pages show something.</summary>
    public static double ScoreOf(StreamDrift drift) => drift.Reading.Score ?? drift.Reading.GaussianKl.Average();

    /// <summary>Each site's divergence over its limit; the divergence itself without a reference.</summary>
    public static double[] OverLimits(DriftReport report, StreamDrift drift)
    {
        var normal = report.Reference?.Methods.GetValueOrDefault(drift.Method);
        return [.. drift.Reading.GaussianKl.Select((kl, site) => kl / (normal?.Sites[site].Limit ?? 1))];
    }
}

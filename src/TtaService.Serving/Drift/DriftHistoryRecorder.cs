using TtaService.Serving.Loops;
using TtaService.Serving.Telemetry;

namespace TtaService.Serving.Drift;

/// <summary>Writes every sweep into the history.</summary>
internal sealed class DriftHistoryRecorder(DriftBoard board, DriftHistory history, LoopWatch loops) : BackgroundService
{
    private static readonly TimeSpan Limit = TimeSpan.FromMinutes(1);

    private readonly LoopBeat _beat = loops.Add(LoopKind.DriftHistory, "the history of drift", Limit);

    protected override async Task ExecuteAsync(CancellationToken stoppingToken)
    {
        using var watch = board.Watch();
        try
        {
            await foreach (var update in watch.ReadAsync(stoppingToken).ConfigureAwait(false))
            {
                if (update is Swept { Report: var report })
                {
                    _beat.Begin();
                    await RecordAsync(report, stoppingToken).ConfigureAwait(false);
                    _beat.Rest();
                }
            }
        }
        catch (OperationCanceledException) when (stoppingToken.IsCancellationRequested)
        {
            // The host stops.
        }
    }

    /// <summary>The score; for a model without a reference the mean divergence of the sites, so that the pages show something.</summary>
    public static double ScoreOf(StreamDrift drift) => drift.Reading.Score ?? drift.Reading.GaussianKl.DefaultIfEmpty().Average();

    /// <summary>Each site's divergence over its limit; the divergence itself without a reference.</summary>
    public static double[] OverLimits(DriftReport report, StreamDrift drift)
    {
        var normal = report.Reference?.Of(drift.Method);
        return [.. drift.Reading.GaussianKl.Select((kl, site) => kl / (normal?.Sites[site].Limit ?? 1))];
    }

    private async Task RecordAsync(DriftReport report, CancellationToken stop)
    {
        foreach (var drift in report.Streams)
        {
            await _beat.TryAsync(
                $"stream '{drift.Stream}'",
                () =>
                {
                    history.Add(drift.Stream, ScoreOf(drift), OverLimits(report, drift));
                    return Task.CompletedTask;
                },
                stop).ConfigureAwait(false);
        }

        history.Trim();
    }
}

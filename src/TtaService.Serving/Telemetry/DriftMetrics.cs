using TtaService.Engine.Drift;

namespace TtaService.Serving.Telemetry;

/// <summary>Records what a sweep found. Used by the sweep only.</summary>
internal sealed class DriftMetrics(TtaMetrics metrics)
{
    private const int Ranks = 10;

    // Methods whose counts are shown: one that no stream runs any more goes to zero.
    private readonly HashSet<(string Model, string Method)> _counted = [];

    public void Swept(DriftReport report)
    {
        metrics.SweepCompleted(report.Model, report.Took);
        foreach (var drift in report.Streams)
        {
            if (drift.Reading.Score is { } score)
            {
                metrics.DriftSwept(report.Model, drift.Method, drift.Stream, score);
            }

            if (drift.Reading.TestWeight is { } weight)
            {
                metrics.AlphaUsed(report.Model, drift.Method, weight);
            }

            if (drift.Reading.OccupancyEntropy is { } entropy)
            {
                metrics.OccupancySwept(report.Model, entropy);
            }

            metrics.FeatureSpreadSwept(report.Model, drift.Method, drift.Reading.FeatureSpread);
            metrics.PredictionsSwept(report.Model, drift.Method, drift.Predictions.LabelShift ?? double.NaN, drift.Predictions.Diversity ?? double.NaN);
        }

        metrics.DriftRanked(report.Model, [.. report.Streams.Take(Ranks).Select(drift => drift.Reading.Score ?? 0)]);
        foreach (var method in report.Streams.GroupBy(drift => drift.Method))
        {
            _counted.Add((report.Model, method.Key));
            SweptSites(report, method.Key, [.. method.Select(drift => drift.Reading)]);
        }

        foreach (var (model, method) in _counted.Where(counted => counted.Model == report.Model))
        {
            long Count(DriftLevel level) => report.Streams.Count(drift => drift.Method == method && drift.Level == level);
            metrics.DriftLevelsSwept(model, method, Count(DriftLevel.WarmingUp), Count(DriftLevel.Normal), Count(DriftLevel.Warning), Count(DriftLevel.Critical));
        }
    }

    private void SweptSites(DriftReport report, string method, DriftReading[] readings)
    {
        for (var site = 0; site < report.Sites.Count; site++)
        {
            metrics.SiteSwept(
                report.Model,
                method,
                report.Sites[site],
                Quantiles([.. readings.Select(reading => reading.GaussianKl[site])]),
                Quantiles([.. readings.Select(reading => reading.Wasserstein[site])]));
        }
    }

    private static (double Median, double High, double Maximum) Quantiles(float[] values)
    {
        Array.Sort(values);
        return (values[(values.Length - 1) / 2], values[(int)(0.95 * (values.Length - 1))], values[^1]);
    }
}

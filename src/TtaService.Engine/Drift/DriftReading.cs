namespace TtaService.Engine.Drift;

/// <summary>How far one stream is from the source at one moment. Immutable.</summary>
public sealed record DriftReading
{
    /// <summary>Frames that the observed statistics have seen.</summary>
    public required long Frames { get; init; }

    /// <summary>Committed steps of the stream.</summary>
    public required long Steps { get; init; }

    /// <summary>By site, in execution order: half the symmetric Kullback-Leibler divergence of observed and source statistics, mean over the live channels.</summary>
    public required float[] GaussianKl { get; init; }

    /// <summary>By site: the 2-Wasserstein distance in source deviations, mean over the live channels.</summary>
    public required float[] Wasserstein { get; init; }

    /// <summary>1 is the edge of what normal frames do; null without a reference.</summary>
    public required double? Score { get; init; }

    /// <summary>Spread of the last site's means between frames, as a share of the reference's (of the source deviation without one).</summary>
    public required double FeatureSpread { get; init; }

    /// <summary>The weight of test statistics, 0 to 1, mean over the adapted sites; null where the method has no such mix.</summary>
    public required double? TestWeight { get; init; }

    /// <summary>How evenly frames fall on the statistics components, 0 to 1, mean over the adapted sites; null without components.</summary>
    public required double? OccupancyEntropy { get; init; }

    /// <summary>The first step of the present domain; 0 when no switch was noticed.</summary>
    public required long ChangedAtStep { get; init; }
}

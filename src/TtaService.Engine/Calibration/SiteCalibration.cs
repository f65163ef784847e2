namespace TtaService.Engine.Calibration;

/// <summary>What is normal at a site: the statistics of frames' means m and biased variances v of each channel over source frames, under the source statistics.</summary>
/// <remarks>Distances are D(dm, dv) = (mean_c dm^2/MeanVariance + mean_c dv^2/VarianceVariance) / 2: a normal frame has 1, the mean of n independent normal frames 1/n.</remarks>
public sealed record SiteCalibration
{
    /// <summary>Least variance of a moment, so that a channel that never changes does not divide by zero.</summary>
    public const float LeastVariance = 1e-12f;

    /// <summary>Mean of m, [C].</summary>
    public required float[] Mean { get; init; }

    /// <summary>Variance of m over frames, [C].</summary>
    public required float[] MeanVariance { get; init; }

    /// <summary>Mean of v, [C].</summary>
    public required float[] Variance { get; init; }

    /// <summary>Variance of v over frames, [C].</summary>
    public required float[] VarianceVariance { get; init; }

    /// <summary>Mean of m by predicted class less <see cref="Mean"/>, [Q*C]; empty without classes, or with more than <see cref="ModelCalibration.MaxClassMoments"/>.</summary>
    public required float[] ClassMean { get; init; }

    /// <summary>Mean of v by predicted class less <see cref="Variance"/>, [Q*C]; empty as <see cref="ClassMean"/> is.</summary>
    public required float[] ClassVariance { get; init; }

    /// <summary>Share of the variance of m that the predicted class explains, 0 to 1.</summary>
    public required float ClassShare { get; init; }

    /// <summary>Mean distance of a class's frames together from all frames.</summary>
    public required float ClassDistance { get; init; }

    /// <summary>The distance that 95 of 100 frames stay below.</summary>
    public required float FrameDistance { get; init; }
}

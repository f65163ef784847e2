namespace TtaService.Engine.Execution;

/// <summary>What a stream may learn from, and when it goes back to the source by itself.</summary>
/// <remarks>The defaults are so wide that no published test vector and no picture meets them: on the demo model the energy of a frame (<see cref="Range"/>) is below 3
/// under every corruption of its
/// evaluation and of a white or inverted picture, and 12,000 of one that was not normalized.</remarks>
public sealed record LearningOptions
{
    /// <summary>How far a frame may lie from the source statistics of a site, in deviations of the source. Default 8; at least 1.</summary>
    /// <remarks>What a state and the observed statistics take of a frame is clipped to it, channel by channel: means within Range deviations, variances up to Range^2 of
    /// the source's.
    /// A frame whose energy, the mean over channels of (v + (m - M)^2) / V, is above Range^2 / 2 at the first site is answered and not learned.</remarks>
    public double Range { get; init; } = 8;

    /// <summary>Frames of one class in a row after which a stream is compared with the source model, and compared frames that decide. Default 32; 0 never goes back by
    /// itself.</summary>
    public int CollapseFrames { get; init; } = 32;
}

namespace TtaService.Engine.Drift;

/// <summary>How the sites' inputs are observed for the drift of a stream.</summary>
public sealed record ObservationOptions
{
    /// <summary>Window of the observed statistics in frames: the weight of a frame is 1/Tau once that many were seen. Default 128: a drift shows within a few hundred
    /// frames, and a run of one class does not yet look like one.</summary>
    public int Tau { get; init; } = 128;

    /// <summary>Of a stream whose method needs no statistics (<c>source</c>), one step in so many is observed after the warm-up, because only the unfolded graph has
    /// normalization sites. Default 4.</summary>
    public int SourceInterval { get; init; } = 4;
}

namespace TtaService.Engine.Execution;

/// <summary>What a stream may learn from, and when it goes back to the source by itself.</summary>
public sealed record LearningOptions
{
    /// <summary>How far from the source statistics a frame's may lie, in deviations of the source. Default 30: what no picture that a model was made for comes near.</summary>
    public double Range { get; init; } = 30;

    /// <summary>Frames in a row that must speak for a collapse before a stream goes back to the source. Default 32; 0: never.</summary>
    public int CollapseFrames { get; init; } = 32;
}

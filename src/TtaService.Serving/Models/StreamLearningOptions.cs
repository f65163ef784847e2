using System.ComponentModel.DataAnnotations;
using TtaService.Engine.Execution;

namespace TtaService.Serving.Models;

/// <summary>How far a frame may lie from what the model knows, and when a stream goes back by itself, section <c>Learning</c>. Of every model.</summary>
public sealed class StreamLearningOptions
{
    /// <summary>How far a frame may lie from the source statistics, in their deviations: what is learned of it is clipped there,
    /// and one far outside is answered and not learned (<see cref="LearningOptions.Range"/>). Default 8; a very large one bounds nothing.</summary>
    [Range(1.0, 1e6)]
    public double Range { get; set; } = new LearningOptions().Range;

    /// <summary>Frames of one class in a row after which a stream is compared with the source model,
    /// and compared frames that decide whether it goes back to it. Default 32; 0 for never.</summary>
    [Range(0, 1_000_000)]
    public int CollapseFrames { get; set; } = new LearningOptions().CollapseFrames;

    /// <summary>As the engine takes it.</summary>
    internal LearningOptions Learning => new() { Range = Range, CollapseFrames = CollapseFrames };
}

using TtaService.Engine.Streams;

namespace TtaService.Engine.Normalization.Affine;

/// <summary>A method that learns each stream's own scale and bias at the sites, by gradients of what its predictions lack.</summary>
/// <remarks>The first 2C floats of its state at a site are the scale and the bias that the stream's frames are given there. A step that teaches runs the program that can be
/// differentiated, in torch operators on any device: the loss of a step is the weighted sum of its frames' prediction entropies, one backward pass serves all steps of a
/// batch, and what a step learns is decided by the method on the host. Steps that are frozen, or teach nothing, run without gradients.</remarks>
internal interface IAffineMethod : IStreamMethod
{
    /// <summary>Whether frames are normalized with the mean and biased variance of their step alone, for which torch has a kernel that knows the way back.</summary>
    bool UsesStepStatistics { get; }

    /// <summary>Passes forward and back that a step takes; it is answered from the last one.</summary>
    int Rounds { get; }

    /// <summary>Weighs the entropy of each frame's prediction in the loss of its step; a step whose weights are all 0 learns nothing by gradients.</summary>
    /// <param name="step">The step; <see cref="AffineStep.NextState"/> is a copy of the state, or what the sites proposed.</param>
    /// <param name="probabilities">Predictions of the step's frames, [n,Q].</param>
    /// <param name="weights">To fill, [n].</param>
    void Weigh(in AffineStep step, ReadOnlySpan<float> probabilities, Span<float> weights);

    /// <summary>Moves scales and biases against the gradient of the loss, in <see cref="AffineStep.NextState"/>.</summary>
    /// <param name="step">The step.</param>
    /// <param name="gradient">For each of <see cref="AffineStep.Sites"/> one behind another the 2C gradients of its scale and its bias.</param>
    void Learn(in AffineStep step, ReadOnlySpan<float> gradient);
}

/// <summary>A step whose pass has run, and what it proposes.</summary>
internal readonly ref struct AffineStep
{
    /// <summary>Where sites lie in the rows.</summary>
    public required StateLayout Layout { get; init; }

    /// <summary>The sites that the method adapts, in execution order.</summary>
    public required IReadOnlyList<NormalizationSite> Sites { get; init; }

    /// <summary>What may be learned, by site of the model; null when everything may.</summary>
    public required SiteRange[]? Ranges { get; init; }

    /// <summary>Frames n of the step.</summary>
    public required int Frames { get; init; }

    /// <summary>The stream's row before the pass.</summary>
    public required ReadOnlySpan<float> State { get; init; }

    /// <summary>The proposed row.</summary>
    public required Span<float> NextState { get; init; }
}

using Tensor = TorchSharp.torch.Tensor;

namespace TtaService.Engine.Normalization;

/// <summary>Which statistics normalize a frame at a site, and how a stream's state moves.</summary>
/// <remarks>An instance serves every stream of a model with these settings, on one thread at a time, and keeps nothing of a stream itself: what a stream has learned is its state,
/// which the engine stores, checkpoints, forks and gives back. It is made by <see cref="MethodDefinition.Create"/>, and disposed when it is <see cref="IDisposable"/> and nobody
/// uses it any more. <see cref="Forward"/> is required; a method that is an <see cref="ISpanMethod"/>, too, is faster on the CPU, and one that is an <see cref="IPassMethod"/> sees
/// a whole pass. What it throws fails the step that it ran for, and no other.</remarks>
public interface INormalizationMethod
{
    /// <summary>False when it needs no instance statistics, which spares a pass over the activations: the source statistics normalize then, and it is never asked. The same
    /// always. Default true.</summary>
    bool ReadsFrames => true;

    /// <summary>The tensors that a stream keeps at a site, in the order in which they lie in its state. Default none.</summary>
    /// <remarks>Of a tensor whose name ends in <c>_var</c>, <c>_std</c> or <c>_occupancy</c> a snapshot with negative values is refused.</remarks>
    IReadOnlyList<StateTensor> StateAt(NormalizationSite site) => [];

    /// <summary>Writes the state of a stream that has seen nothing; it comes as zeros.</summary>
    /// <param name="site">The site.</param>
    /// <param name="seed">Random numbers that are the same for the same model, site and stream seed.</param>
    /// <param name="state">The floats of <see cref="StateAt"/>.</param>
    void Initialize(NormalizationSite site, SiteSeed seed, Span<float> state)
    {
    }

    /// <summary>Why a step of so many frames can't be run and what to do, or null.</summary>
    string? Refuses(int frames) => null;

    /// <summary>The weight of test statistics in what normalizes a frame at a site with this state, 0 to 1; null where a method has no such mix. For watching only.</summary>
    double? TestWeight(NormalizationSite site, ReadOnlySpan<float> state) => null;

    /// <summary>How evenly the stream's frames fell on the components of a site: entropy over its largest value, 0 to 1; null without components. For watching only.</summary>
    double? OccupancyEntropy(NormalizationSite site, ReadOnlySpan<float> state) => null;

    /// <summary>What the host alone knows of a step and <see cref="Forward"/> reads as <see cref="SiteTensors.Figures"/>; as many figures for every step.</summary>
    /// <param name="frames">Frames n of the step.</param>
    /// <param name="framesBefore">Frames of the stream that were committed before it.</param>
    float[] StepFigures(int frames, long framesBefore) => [];

    /// <summary>Decides at a site in torch operators, for many steps of different streams at once on any device, without waiting for it.</summary>
    /// <remarks>A step's answer depends on its own entries of the first axis alone. Numbers are put into tensors by <see cref="Tensors.TensorMath"/>, matrices multiplied by
    /// <see cref="Tensors.MatrixProduct"/> (see there why).</remarks>
    /// <returns>What normalizes each frame, broadcastable to [S,n,C]; a variance of 0 or more. <see cref="SiteTensors.Propose"/> is called when there is state that
    /// moves.</returns>
    (Tensor Mean, Tensor Variance) Forward(SiteTensors steps);
}

/// <summary>A named tensor of a site's state.</summary>
/// <param name="Name">In snake case, of its own among those of a site; a snapshot's tensor is named <c>site.name</c>.</param>
/// <param name="Shape">Its extents.</param>
public readonly record struct StateTensor(string Name, int[] Shape)
{
    /// <summary>Whether snapshots written before it existed are read; then it keeps the state of a stream that has seen nothing.</summary>
    public bool MayLack { get; init; }

    /// <summary>Its floats.</summary>
    public int Length => Shape.Aggregate(1, (product, extent) => checked(product * extent));
}

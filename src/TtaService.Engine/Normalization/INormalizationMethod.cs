using Tensor = TorchSharp.torch.Tensor;

namespace TtaService.Engine.Normalization;

/// <summary>Which statistics normalize a frame at a site, and how a stream's state moves. Stateless itself: one instance serves every stream with these settings.</summary>
internal interface INormalizationMethod
{
    /// <summary>False when <see cref="Forward(in SiteStep)"/> needs no instance statistics, which spares a pass over the activations.</summary>
    bool ReadsFrames { get; }

    /// <summary>The tensors that a stream keeps at a site, in the order in which they lie in its state.</summary>
    IReadOnlyList<StateTensor> StateAt(NormalizationSite site);

    /// <summary>Writes the state of a stream that has seen nothing.</summary>
    void Initialize(NormalizationSite site, SiteSeed seed, Span<float> state);

    /// <summary>Why a step of so many frames can't be run, or null.</summary>
    string? Refuses(int frames) => null;

    /// <summary>The weight of test statistics in what normalizes a frame at a site with this state, 0 to 1; null where a method has no such mix. For watching only.</summary>
    double? TestWeight(NormalizationSite site, ReadOnlySpan<float> state) => null;

    /// <summary>How evenly the stream's frames fell on the components of a site: entropy over its largest value, 0 to 1; null without components. For watching only.</summary>
    double? OccupancyEntropy(NormalizationSite site, ReadOnlySpan<float> state) => null;

    /// <summary>What the host alone knows of a step and <see cref="Forward(SiteTensors)"/> reads as <see cref="SiteTensors.Figures"/>; as many figures for every step.</summary>
    float[] StepFigures(int frames, long framesBefore) => [];

    /// <summary>Fills <see cref="SiteStep.Mean"/> and <see cref="SiteStep.Variance"/>, and <see cref="SiteStep.NextState"/> when there is state.</summary>
    void Forward(in SiteStep step);

    /// <summary>The same mathematics in torch operators, for many steps at once on any device, without waiting for it.</summary>
    /// <returns>What normalizes each frame, broadcastable to [S,n,C]. <see cref="SiteTensors.NextState"/> is written when there is state.</returns>
    (Tensor Mean, Tensor Variance) Forward(SiteTensors steps);
}

/// <summary>A named tensor of a site's state.</summary>
internal readonly record struct StateTensor(string Name, int[] Shape)
{
    /// <summary>Whether snapshots written before it existed are read; then it keeps the state of a stream that has seen nothing.</summary>
    public bool MayLack { get; init; }

    public int Length => Shape.Aggregate(1, (product, extent) => product * extent);
}

/// <summary>What a step shows a method at one site, and where the method writes its answer.</summary>
internal readonly ref struct SiteStep
{
    /// <summary>The site.</summary>
    public required NormalizationSite Site { get; init; }

    /// <summary>Frames n of the step.</summary>
    public required int Frames { get; init; }

    /// <summary>Values L per channel and frame (H*W; 1 for [B,C]).</summary>
    public required int Pixels { get; init; }

    /// <summary>False for a site over [B,C] (BatchNorm1d), which the published layers leave at source statistics.</summary>
    public required bool Spatial { get; init; }

    /// <summary>Frames of the stream that were committed before this step.</summary>
    public required long FramesBefore { get; init; }

    /// <summary>Instance means m, [n,C].</summary>
    public required ReadOnlySpan<float> InstanceMean { get; init; }

    /// <summary>Biased instance variances v, [n,C].</summary>
    public required ReadOnlySpan<float> InstanceVariance { get; init; }

    /// <summary>The stream's state at this site before the step.</summary>
    public required ReadOnlySpan<float> State { get; init; }

    /// <summary>The proposed state; committed when the whole pass succeeded.</summary>
    public required Span<float> NextState { get; init; }

    /// <summary>The mean that normalizes each frame, [n,C].</summary>
    public required Span<float> Mean { get; init; }

    /// <summary>The variance that normalizes each frame, [n,C].</summary>
    public required Span<float> Variance { get; init; }

    /// <summary>What an <see cref="IPassMethod"/> wrote before the pass; empty for other methods.</summary>
    public ReadOnlySpan<float> Begun { get; init; }

    /// <summary>Where an <see cref="IPassMethod"/> keeps what it needs behind the pass; empty for other methods.</summary>
    public Span<float> Kept { get; init; }

    public int Channels => Site.Channels;

    /// <summary>Gives every frame the statistics of the first row.</summary>
    public void ShareFirstRow()
    {
        for (var frame = 1; frame < Frames; frame++)
        {
            Mean[..Channels].CopyTo(Mean.Slice(frame * Channels, Channels));
            Variance[..Channels].CopyTo(Variance.Slice(frame * Channels, Channels));
        }
    }

    /// <summary>Normalizes with the source statistics and keeps the state as it is.</summary>
    public void UseSource()
    {
        Site.Mean.CopyTo(Mean);
        Site.Variance.CopyTo(Variance);
        ShareFirstRow();
        State.CopyTo(NextState);
    }
}

namespace TtaService.Engine.Normalization;

/// <summary>A method that has its mathematics over spans, too: on the CPU that form runs, once a step and site, without a torch operator.</summary>
/// <remarks>Both forms give the same to 1e-5. It may be called for different steps on several threads at once.</remarks>
public interface ISpanMethod : INormalizationMethod
{
    /// <summary>Fills <see cref="SiteStep.Mean"/> and <see cref="SiteStep.Variance"/>, and <see cref="SiteStep.NextState"/> when there is state.</summary>
    void Forward(in SiteStep step);
}

/// <summary>What a step shows a method at one site, and where the method writes its answer.</summary>
public readonly ref struct SiteStep
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

    /// <summary>Channels C.</summary>
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

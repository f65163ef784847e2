using TorchSharp;
using TtaService.Engine.Tensors;
using static TorchSharp.torch;

namespace TtaService.Engine.Normalization;

/// <summary>What S steps of n frames, of one method, show it at one site on a device. Everything is float32 there.</summary>
public sealed class SiteTensors
{
    /// <summary>The site.</summary>
    public required NormalizationSite Site { get; init; }

    /// <summary>The source mean, [C].</summary>
    public required Tensor SourceMean { get; init; }

    /// <summary>The source variance, [C].</summary>
    public required Tensor SourceVariance { get; init; }

    /// <summary>Of a virtual site its convolution's own bias, [C]; null of another.</summary>
    public Tensor? Origin { get; init; }

    /// <summary>Frames n of each step.</summary>
    public required int Frames { get; init; }

    /// <summary>Values L per channel and frame (H*W; 1 for [B,C]).</summary>
    public required int Pixels { get; init; }

    /// <summary>False for a site over [B,C] (BatchNorm1d), which the published layers leave at source statistics.</summary>
    public required bool Spatial { get; init; }

    /// <summary>Instance means m, [S,n,C].</summary>
    public required Tensor InstanceMean { get; init; }

    /// <summary>Biased instance variances v, [S,n,C].</summary>
    public required Tensor InstanceVariance { get; init; }

    /// <summary>The steps' state at this site, [S,floats].</summary>
    public required Tensor State { get; init; }

    /// <summary>The proposed state, [S,floats]; a copy of <see cref="State"/> until the method writes it.</summary>
    public required Tensor NextState { get; init; }

    /// <summary>What <see cref="INormalizationMethod.StepFigures"/> gave for each step, [S,figures].</summary>
    public required Tensor Figures { get; init; }

    /// <summary>What an <see cref="IPassMethod"/> wrote before the pass, [S,floats]; null for other methods.</summary>
    public Tensor? Begun { get; init; }

    /// <summary>Where an <see cref="IPassMethod"/> keeps what it needs behind the pass, [S,floats]; null for other methods.</summary>
    public Tensor? Kept { get; init; }

    /// <summary>Channels C.</summary>
    public int Channels => Site.Channels;

    /// <summary>The source statistics, for every frame.</summary>
    public (Tensor Mean, Tensor Variance) Source => (SourceMean, SourceVariance);

    /// <summary>A tensor of the state, [S,rows,length], from its offset among the site's floats.</summary>
    /// <param name="offset">Floats of the tensors before it in <see cref="INormalizationMethod.StateAt"/>.</param>
    /// <param name="rows">Rows of it.</param>
    /// <param name="length">Floats of a row.</param>
    public Tensor StateAt(int offset, int rows, int length) => View(State, offset, rows, length);

    /// <summary>Writes a tensor of the proposed state, [S,rows,length].</summary>
    /// <param name="offset">Floats of the tensors before it in <see cref="INormalizationMethod.StateAt"/>.</param>
    /// <param name="rows">Rows of it.</param>
    /// <param name="length">Floats of a row.</param>
    /// <param name="value">Broadcastable to [S,rows,length].</param>
    public void Propose(int offset, int rows, int length, Tensor value) => View(NextState, offset, rows, length).copy_(value);

    /// <summary>A figure of each step, [S,1,1].</summary>
    public Tensor Figure(int index) => Figures.narrow(1, index, 1).unsqueeze(2);

    /// <summary>The mean and variance of each step's frames together, [S,1,C] (methods.md section 0); no variance when a step holds one value per channel.</summary>
    /// <param name="unbiased">Divide by n*L - 1 instead of n*L.</param>
    public (Tensor Mean, Tensor? Variance) BatchStatistics(bool unbiased)
    {
        var count = (double)Frames * Pixels;
        if (count < 2)
        {
            return (InstanceMean, null);
        }

        var (mean, variance) = (InstanceMean, InstanceVariance);
        if (Frames > 1)
        {
            mean = InstanceMean.mean([1L], keepdim: true);
            variance = InstanceVariance.Plus((InstanceMean - mean).Squared()).mean([1L], keepdim: true);
        }

        return (mean, unbiased ? variance.Times((float)(count / (count - 1))) : variance);
    }

    /// <summary>The source statistics with a share of the step's; the source variance where the step has none.</summary>
    public (Tensor Mean, Tensor Variance) MixWithSource(bool unbiased, float testWeight)
    {
        var (mean, variance) = BatchStatistics(unbiased);
        return (Mix(SourceMean, mean, testWeight), variance is null ? SourceVariance : Mix(SourceVariance, variance, testWeight));
    }

    /// <summary>(1 - weight) * a + weight * b.</summary>
    public static Tensor Mix(Tensor a, Tensor b, float weight) => a.AddScaled(b - a, weight);

    /// <summary>What one of the steps shows, in views of the same memory.</summary>
    internal SiteTensors Only(int step) => new()
    {
        Site = Site,
        SourceMean = SourceMean,
        SourceVariance = SourceVariance,
        Origin = Origin,
        Frames = Frames,
        Pixels = Pixels,
        Spatial = Spatial,
        InstanceMean = InstanceMean.narrow(0, step, 1),
        InstanceVariance = InstanceVariance.narrow(0, step, 1),
        State = State.narrow(0, step, 1),
        NextState = NextState.narrow(0, step, 1),
        Figures = Figures.narrow(0, step, 1),
        Begun = Begun?.narrow(0, step, 1),
        Kept = Kept?.narrow(0, step, 1),
    };

    /// <summary>The same, with nothing that other passes or the engine read again but what the method is to write.</summary>
    internal SiteTensors WithOwnSource() => new()
    {
        Site = Site,
        SourceMean = SourceMean.clone(),
        SourceVariance = SourceVariance.clone(),
        Origin = Origin?.clone(),
        Frames = Frames,
        Pixels = Pixels,
        Spatial = Spatial,
        InstanceMean = InstanceMean.clone(),
        InstanceVariance = InstanceVariance.clone(),
        State = State.clone(),
        NextState = NextState.alias(),
        Figures = Figures.clone(),
        Begun = Begun?.clone(),
        Kept = Kept?.alias(),
    };

    private static Tensor View(Tensor state, int offset, int rows, int length) =>
        state.narrow(1, offset, (long)rows * length).view(state.shape[0], rows, length);
}

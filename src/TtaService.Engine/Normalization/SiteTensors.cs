using TorchSharp;
using TtaService.Engine.Tensors;
using static TorchSharp.torch;

namespace TtaService.Engine.Normalization;

/// <summary>What S steps of n frames, of one method, show it at one site on a device. Everything is float32 there.</summary>
internal sealed class SiteTensors
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

    public int Channels => Site.Channels;

    /// <summary>The source statistics, for every frame.</summary>
    public (Tensor Mean, Tensor Variance) Source => (SourceMean, SourceVariance);

    /// <summary>A tensor of the state, [S,rows,length], from its offset among the site's floats.</summary>
    public Tensor StateAt(int offset, int rows, int length) => View(State, offset, rows, length);

    /// <summary>Writes a tensor of the proposed state, [S,rows,length].</summary>
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

    private static Tensor View(Tensor state, int offset, int rows, int length) =>
        state.narrow(1, offset, (long)rows * length).view(state.shape[0], rows, length);
}

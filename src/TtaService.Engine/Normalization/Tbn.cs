using Tensor = TorchSharp.torch.Tensor;

namespace TtaService.Engine.Normalization;

/// <summary>Test-time BN: the step's own mean and biased variance, over B, H and W. No state.</summary>
/// <remarks>Nado et al. 2020 (prediction-time BN), as in Tent's code. On class-correlated streams it does worse than the source
/// the fewer frames a step has, and one frame is instance normalization: steps below <c>min_frames</c> are refused.</remarks>
internal sealed class Tbn(MethodSettings settings) : ISpanMethod
{
    public static MethodDefinition Definition { get; } = new(
        "tbn",
        "The statistics of the step's own frames; for large, shuffled steps only.",
        "Nado et al. 2020; Wang et al., ICLR 2021 (TENT's code)",
        [Hyperparameter.Integer("min_frames", 4, 1, 4096, "Fewest frames a step may have; smaller steps are refused.")],
        settings => new Tbn(settings));

    private readonly int _minFrames = settings.Integer("min_frames");

    public bool ReadsFrames => true;

    public IReadOnlyList<StateTensor> StateAt(NormalizationSite site) => [];

    public void Initialize(NormalizationSite site, SiteSeed seed, Span<float> state)
    {
    }

    public string? Refuses(int frames) => frames >= _minFrames
        ? null
        : $"tbn needs steps of at least {_minFrames} frames (min_frames), this one has {frames}; send larger steps or use another method";

    public void Forward(in SiteStep step)
    {
        if (!BatchStatistics.Compute(step, unbiased: false, step.Mean, step.Variance))
        {
            // One value per channel has no variance (methods.md section 6.9); the reference raises here.
            step.Site.Variance.CopyTo(step.Variance);
        }

        step.ShareFirstRow();
    }

    public (Tensor Mean, Tensor Variance) Forward(SiteTensors steps)
    {
        var (mean, variance) = steps.BatchStatistics(unbiased: false);
        return (mean, variance ?? steps.SourceVariance);
    }
}

using Tensor = TorchSharp.torch.Tensor;

namespace TtaService.Engine.Normalization;

/// <summary>Plain inference: every frame is normalized with the source statistics. No state.</summary>
internal sealed class Source : ISpanMethod
{
    public static MethodDefinition Definition { get; } = new(
        "source",
        "No adaptation: the statistics that the model was trained with.",
        "Ioffe and Szegedy, ICML 2015 (inference)",
        [],
        _ => new Source());

    public bool ReadsFrames => false;

    public IReadOnlyList<StateTensor> StateAt(NormalizationSite site) => [];

    public void Initialize(NormalizationSite site, SiteSeed seed, Span<float> state)
    {
    }

    public void Forward(in SiteStep step) => step.UseSource();

    public (Tensor Mean, Tensor Variance) Forward(SiteTensors steps) => steps.Source;
}

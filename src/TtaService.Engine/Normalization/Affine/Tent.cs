namespace TtaService.Engine.Normalization.Affine;

/// <summary>Tent: a gradient step a step of frames on the scales and biases of the sites, for predictions that are surer of themselves.</summary>
/// <remarks>Wang et al., ICLR 2021; code DequanWang/tent: loss = mean over the step's frames of H(softmax(logits)), statistics of the step itself, and the answer is the
/// one before the update. There all BatchNorm2d layers are trained; here every site that the settings choose. State: <see cref="AffineTraining"/>.</remarks>
internal sealed class Tent(MethodSettings settings) : EntropyMethod(settings)
{
    public static MethodDefinition Definition { get; } = new(
        "tent",
        "Learns the stream's scales and biases by gradients, so that predictions become surer, on the statistics of the step; for large, shuffled steps only.",
        "Wang et al., ICLR 2021 (Tent)",
        Shared,
        settings => new Tent(settings),
        "Costs two to three passes a step and gains little over tbn on short streams; on correlated streams it errs as tbn does, or more.");

    public override void Weigh(in AffineStep step, ReadOnlySpan<float> probabilities, Span<float> weights) => weights.Fill(1f / step.Frames);
}

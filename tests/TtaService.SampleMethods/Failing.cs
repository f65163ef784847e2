using TtaService.Engine.Normalization;
using TtaService.Engine.Tensors;
using static TorchSharp.torch;

namespace TtaService.SampleMethods;

/// <summary>Fails after some frames, in a way that is asked for.</summary>
internal sealed class Failing(MethodSettings settings) : INormalizationMethod
{
    private readonly int _after = settings.Integer("after_frames");
    private readonly string _how = settings.Text("how");

    public static MethodDefinition Definition { get; } = new(
        "failing",
        "Fails after some frames.",
        "a sample of what must not harm anybody else",
        [Hyperparameter.Integer("after_frames", 2, 0, 1000, "Frames before it fails."), Hyperparameter.Choice("how", "In which way.", "throws", "shape", "nan", "begins")],
        settings => new Failing(settings),
        "It is there to fail.");

    public float[] StepFigures(int frames, long framesBefore) => [framesBefore >= _after ? 1 : 0];

    public IReadOnlyList<StateTensor> StateAt(NormalizationSite site) => [new("failing_mean", [site.Channels])];

    public void Initialize(NormalizationSite site, SiteSeed seed, Span<float> state)
    {
        if (_how == "begins")
        {
            throw new NotSupportedException("it can't begin");
        }

        site.Mean.CopyTo(state);
    }

    public (Tensor Mean, Tensor Variance) Forward(SiteTensors steps)
    {
        using var due = steps.Figure(0).max();
        if (due.item<float>() == 0)
        {
            return steps.Source;
        }

        return _how switch
        {
            "shape" => (zeros(steps.Channels + 1), steps.SourceVariance),
            "nan" => (steps.SourceMean.Times(double.NaN), steps.SourceVariance),
            _ => throw new InvalidOperationException("it fails, as it was asked to"),
        };
    }
}

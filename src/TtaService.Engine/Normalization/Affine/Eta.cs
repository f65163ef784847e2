using System.Numerics.Tensors;

namespace TtaService.Engine.Normalization.Affine;

/// <summary>ETA: as Tent, but learns from sure frames only, and from those that do not repeat what the stream predicts all the time; the surer the more.</summary>
/// <remarks>Niu et al., ICML 2022; code mr-eggplant/EATA (eata.py): frames with H &lt; E0 and |cos(average, p)| &lt; d, loss = mean over them of exp(E0 - H) H, average =
/// 0.9 average + 0.1 mean p of them. EATA adds a penalty weighed by the source's Fisher information, which needs source data that no calibration keeps; without it the
/// authors call it ETA. State: <see cref="AffineTraining"/>, and per stream average [Q], 0 before the first frame that was kept.</remarks>
internal sealed class Eta(MethodSettings settings, MethodTarget model) : EntropyMethod(settings)
{
    private const float WeightOfTheAverage = 0.9f;

    public static MethodDefinition Definition { get; } = new(
        "eta",
        "As tent, learning from sure frames that do not repeat what the stream predicts all the time.",
        "Niu et al., ICML 2022 (EATA, without its Fisher penalty)",
        [
            .. Shared,
            Hyperparameter.Number("entropy_margin", 0.4, 0, 1, "Frames whose entropy is at least this share of that of no idea at all teach nothing."),
            Hyperparameter.Number(
                "similarity_margin", 0.4, 0, 1, "Nor do those as similar to the stream's average prediction (cosine). Published: 0.4 for 10 classes, 0.05 for 1,000."),
        ],
        (settings, model) => new Eta(settings, model),
        "Costs two to three passes a step; for large, shuffled steps only.");

    private readonly int _classes = model.Classes;
    private readonly float _margin = settings.Number("entropy_margin");
    private readonly float _similarity = settings.Number("similarity_margin");

    public override IReadOnlyList<StateTensor> StreamState => [.. base.StreamState, new("average", [_classes])];

    public override void Weigh(in AffineStep step, ReadOnlySpan<float> probabilities, Span<float> weights)
    {
        var average = step.NextState.Slice(step.Layout.Stream.Offset + base.StreamState.Sum(tensor => tensor.Length), _classes);
        var kept = 0;
        Span<float> sum = new float[_classes];
        for (var frame = 0; frame < step.Frames; frame++)
        {
            var p = probabilities.Slice(frame * _classes, _classes);
            var entropy = ClassScores.Entropy(p);
            weights[frame] = entropy < _margin && IsNew(average, p) ? MathF.Exp((_margin - entropy) * MathF.Log(_classes)) : 0;
            if (weights[frame] > 0)
            {
                kept++;
                TensorPrimitives.Add(sum, p, sum);
            }
        }

        if (kept == 0)
        {
            return;
        }

        TensorPrimitives.Divide(weights, kept, weights);
        TensorPrimitives.Divide(sum, kept, sum);
        BatchStatistics.Mix(average, sum, average.ContainsAnyExcept(0) ? 1 - WeightOfTheAverage : 1, average);
    }

    private bool IsNew(ReadOnlySpan<float> average, ReadOnlySpan<float> p) =>
        !average.ContainsAnyExcept(0) || MathF.Abs(TensorPrimitives.CosineSimilarity(average, p)) < _similarity;
}

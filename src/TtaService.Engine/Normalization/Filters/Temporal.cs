using System.Buffers;
using TtaService.Engine.Normalization.Auto;

namespace TtaService.Engine.Normalization.Filters;

/// <summary>The filter in time that <c>auto</c> has (<see cref="TemporalFilter"/>), behind any normalization.</summary>
/// <remarks>State: frames [1], evidence [3], predictions [Q], belief [3,Q]. How often a class is expected is what the stream answers: of predictions that a shift has bent,
/// the calibration's classes would count as evidence that neighbours are alike (measured: 4 points worse on shuffled frames of a strong shift).</remarks>
internal sealed class Temporal : IPredictionFilter
{
    private const float InitialFrames = 16;
    private const int EvidenceAt = 1;
    private const int PredictionsAt = EvidenceAt + TemporalFilter.Experts;

    private readonly float[] _prior;

    public Temporal(MethodTarget target)
    {
        _prior = ClassScores.Prior(target.Classes, target.Calibration);
        State =
        [
            new("frames", [1]),
            new("evidence", [TemporalFilter.Experts]),
            new("predictions", [target.Classes]),
            new("belief", [TemporalFilter.Experts, target.Classes]),
        ];
    }

    public static FilterDefinition Definition { get; } = new(
        "temporal",
        "Filters predictions in time, as far as the evidence goes that neighbouring frames show the same class; shuffled frames are answered as they are.",
        "of our own: hidden Markov experts, forward-backward within a step; the filter of auto",
        [],
        ReadsFeatures: false,
        (_, target) => new Temporal(target));

    public IReadOnlyList<StateTensor> State { get; }

    public bool ReadsFeatures => false;

    public void Initialize(Span<float> state)
    {
        state.Clear();
        state[0] = InitialFrames;
        for (var at = PredictionsAt; at < state.Length; at += _prior.Length)
        {
            _prior.CopyTo(state[at..]);
        }
    }

    public void Run(in FilterStep step)
    {
        var classes = step.Classes;
        var rented = ArrayPool<float>.Shared.Rent(classes);
        try
        {
            var mean = rented.AsSpan(0, classes);
            ClassScores.Mean(step.Probabilities, mean);
            var state = new TemporalState
            {
                Frames = ref step.State[0],
                Evidence = step.State.Slice(EvidenceAt, TemporalFilter.Experts),
                Predictions = step.State.Slice(PredictionsAt, classes),
                Belief = step.State.Slice(PredictionsAt + classes, TemporalFilter.Experts * classes),
            };
            TemporalFilter.Run(state, _prior, trust: 0, step.Probabilities, mean, step.Answer);
        }
        finally
        {
            ArrayPool<float>.Shared.Return(rented);
        }
    }
}

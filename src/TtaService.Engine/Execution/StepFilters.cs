using System.Buffers;
using System.Numerics.Tensors;
using TtaService.Engine.Normalization;
using TtaService.Engine.Normalization.Filters;

namespace TtaService.Engine.Execution;

/// <summary>Applies the prediction filters of steps whose passes have run; what the filters keep is committed with the steps, or not at all.</summary>
/// <param name="scores">The output with the classes' scores; null for none.</param>
internal sealed class StepFilters(ModelOutput? scores)
{
    private readonly List<(StreamStep Step, float[] State)> _proposed = [];

    /// <summary>Whether a filter of these steps reads features.</summary>
    public static bool ReadFeatures(IEnumerable<StreamStep> steps) => steps.Any(step => step.State.Runtime!.Filter is { ReadsFeatures: true });

    /// <summary>Filters the answers of steps that have one.</summary>
    /// <param name="steps">The steps; those that are null, or have no answer, are left alone.</param>
    /// <param name="results">A result a step.</param>
    /// <param name="ran">Which of them ran.</param>
    /// <param name="showsFeatures">Whether their last output is what the classifier read, and none of the model's.</param>
    public void Run(IReadOnlyList<StreamStep?> steps, StepResult?[] results, IEnumerable<int> ran, bool showsFeatures)
    {
        foreach (var i in ran)
        {
            if (results[i] is not { Status: StepStatus.Ok } answer)
            {
                continue;
            }

            var features = showsFeatures ? answer.Outputs[^1] : null;
            results[i] = answer = showsFeatures ? answer with { Outputs = [.. answer.Outputs.SkipLast(1)] } : answer;
            if (steps[i] is { State.Runtime.Filter: { } filter } step)
            {
                results[i] = Filtered(step, filter, answer, features);
            }
        }
    }

    /// <summary>Moves what the filters keep of the steps that were learned. Can't fail.</summary>
    public void Commit() => _proposed.ForEach(proposed => proposed.Step.State.Filter = proposed.State);

    private StepResult Filtered(StreamStep step, IPredictionFilter filter, StepResult answer, OutputTensor? features)
    {
        var given = answer.Outputs[scores!.Index];
        var classes = given.Values.Length / step.Frames.Count;
        var rented = ArrayPool<float>.Shared.Rent(2 * given.Values.Length);
        try
        {
            var probabilities = rented.AsSpan(0, given.Values.Length);
            var filtered = rented.AsSpan(given.Values.Length, given.Values.Length);
            ClassScores.ToProbabilities(scores.Kind, given.Values, classes, probabilities);
            float[] state = [.. step.State.Filter];
            filter.Run(new FilterStep
            {
                Classes = classes,
                Probabilities = probabilities,
                Features = features?.Values ?? [],
                State = state.AsSpan(0, step.State.Runtime!.FilterLayout!.Stream.Length),
                Answer = filtered,
            });
            if (!TensorPrimitives.IsFiniteAll<float>(filtered) || (state.Length > 0 && !TensorPrimitives.IsFiniteAll<float>(state)))
            {
                return StepAnswers.Unchanged(step.State, StepStatus.NotFinite, $"the predictions that {step.State.Method.Name} filtered are not finite; reset the stream");
            }

            var replaced = new float[given.Values.Length];
            ClassScores.FromProbabilities(scores.Kind, filtered, replaced);
            if (!step.Freeze && step.Teaches && answer.NotLearned.Count == 0)
            {
                _proposed.Add((step, state));
            }

            OutputTensor[] outputs = [.. answer.Outputs];
            outputs[scores.Index] = given with { Values = replaced };
            return answer with { Outputs = outputs, Unfiltered = answer.Unfiltered ?? given };
        }
        finally
        {
            ArrayPool<float>.Shared.Return(rented);
        }
    }
}

using System.Numerics.Tensors;
using TtaService.Engine.Streams;

namespace TtaService.Engine.Execution;

/// <summary>What the steps of a batch are answered, and the counters that move with them.</summary>
internal static class StepAnswers
{
    /// <summary>A step that changed nothing.</summary>
    public static StepResult Unchanged(StreamState state, StepStatus status, string message) =>
        new() { Status = status, Message = message, Steps = state.Steps, Frames = state.Frames };

    /// <summary>The step's answer, or why it must not be committed.</summary>
    /// <param name="step">The step.</param>
    /// <param name="own">Its share of the outputs.</param>
    /// <param name="learns">Whether the step teaches its stream something: false when its frames were marked, or lie outside what may be learned.</param>
    /// <param name="notFinite">Names a proposed tensor that is not finite; null when all are.</param>
    public static StepResult Judge(StreamStep step, OutputTensor[] own, bool learns, Func<string?> notFinite)
    {
        if (!Array.TrueForAll(own, output => TensorPrimitives.IsFiniteAll<float>(output.Values)))
        {
            return Unchanged(step.State, StepStatus.NotFinite, "the model's outputs for this step are not finite; check the frames");
        }

        if (learns && notFinite() is { } tensor)
        {
            return Unchanged(step.State, StepStatus.NotFinite, $"the proposed statistics of {tensor} are not finite; check the frames");
        }

        // As they will be once the step is committed.
        var (steps, frames) = step.Freeze || !learns ? (0, 0) : (1, step.Frames.Count);
        return new StepResult
        {
            Status = StepStatus.Ok,
            Outputs = own,
            Steps = StreamState.Counted(step.State.Steps, steps),
            Frames = StreamState.Counted(step.State.Frames, frames),
            NotLearned = step.Freeze || learns || !step.Teaches ? [] : [.. Enumerable.Repeat(NotLearnedReason.OutOfRange, step.Frames.Count)],
        };
    }

    /// <summary>Counts a step whose state was committed, or left alone when it is frozen or not to be learned.</summary>
    public static void Count(StreamStep step, StepResult answer) => (step.State.Steps, step.State.Frames) = (answer.Steps, answer.Frames);

    /// <summary>Counts the frames that were observed, with how new each of them was and the class that it was taken for.</summary>
    public static void CountObserved(StreamState state, ReadOnlySpan<float> novelty, StepResult answer, ModelOutput? scores)
    {
        for (var frame = 0; frame < novelty.Length; frame++)
        {
            var predicted = scores?.Classes is { } classes ? TensorPrimitives.IndexOfMax<float>(answer.Outputs[scores.Index].Values.AsSpan(frame * classes, classes)) : -1;
            state.ObservedFrames = StreamState.Counted(state.ObservedFrames, 1);
            state.Changes.Observe(state.ObservedFrames, state.Steps, novelty[frame], predicted);
        }
    }

    /// <summary>The first tensor of a row that is not finite.</summary>
    public static string? NotFinite(StateLayout layout, ReadOnlySpan<float> row)
    {
        foreach (var tensor in layout.Tensors)
        {
            if (!TensorPrimitives.IsFiniteAll<float>(row.Slice(tensor.Offset, tensor.Length)))
            {
                return tensor.Name;
            }
        }

        return null;
    }
}

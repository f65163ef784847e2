using System.Numerics.Tensors;
using TtaService.Engine.Streams;

namespace TtaService.Engine.Execution;

/// <summary>What the steps of a batch are answered, and the counters that move with them.</summary>
internal static class StepAnswers
{
    /// <summary>A step that changed nothing.</summary>
    public static StepResult Unchanged(StreamState state, StepStatus status, string message) =>
        new() { Status = status, Message = message, Steps = state.Steps, Frames = state.Frames };

    /// <summary>The step's share of the outputs, or why it must not be committed.</summary>
    /// <param name="step">The step.</param>
    /// <param name="firstFrame">Its first frame in the batch.</param>
    /// <param name="outputs">Of the whole batch.</param>
    /// <param name="frames">Frames of the batch.</param>
    /// <param name="notFinite">Names a proposed tensor that is not finite; null when all are.</param>
    public static StepResult Judge(StreamStep step, int firstFrame, OutputTensor[] outputs, int frames, Func<string?> notFinite)
    {
        var own = Array.ConvertAll(outputs, output => Slice(output, firstFrame, step.Frames.Count, frames));
        if (!Array.TrueForAll(own, output => TensorPrimitives.IsFiniteAll<float>(output.Values)))
        {
            return Unchanged(step.State, StepStatus.NotFinite, "the model's outputs for this step are not finite; check the frames");
        }

        return notFinite() is { } tensor
            ? Unchanged(step.State, StepStatus.NotFinite, $"the proposed statistics of {tensor} are not finite; check the frames")
            : new StepResult { Status = StepStatus.Ok, Outputs = own };
    }

    /// <summary>Counts a step whose state was committed, or left alone when it is frozen.</summary>
    public static StepResult Count(StreamStep step, StepResult answer)
    {
        if (!step.Freeze)
        {
            step.State.Steps++;
            step.State.Frames += step.Frames.Count;
        }

        return answer with { Steps = step.State.Steps, Frames = step.State.Frames };
    }

    /// <summary>Counts the frames that were observed, with how new each of them was and the class that it was taken for.</summary>
    public static void CountObserved(StreamState state, ReadOnlySpan<float> novelty, StepResult answer, ModelOutput? scores)
    {
        for (var frame = 0; frame < novelty.Length; frame++)
        {
            var predicted = scores?.Classes is { } classes ? TensorPrimitives.IndexOfMax<float>(answer.Outputs[scores.Index].Values.AsSpan(frame * classes, classes)) : -1;
            state.Changes.Observe(++state.ObservedFrames, state.Steps, novelty[frame], predicted);
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

    private static OutputTensor Slice(OutputTensor output, int firstFrame, int count, int frames)
    {
        if (output.Shape.Length == 0 || output.Shape[0] != frames)
        {
            throw new InvalidOperationException($"output {output.Name} has shape [{string.Join(',', output.Shape)}] for {frames} frames; its first axis must be the batch");
        }

        var floats = output.Values.Length / frames;
        int[] shape = [count, .. output.Shape.AsSpan(1)];
        return new OutputTensor(output.Name, shape, output.Values.AsSpan(firstFrame * floats, count * floats).ToArray());
    }
}

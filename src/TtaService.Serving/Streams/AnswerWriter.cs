using TtaService.Engine.Execution;

namespace TtaService.Serving.Streams;

/// <summary>Turns the model's outputs into the answer to one request: labels with probabilities, raw outputs when asked for.</summary>
/// <param name="labels">Class names by index; empty when the model has none.</param>
/// <param name="scores">The output that predictions are read from; null for a segmentation model or a detector.</param>
internal sealed class AnswerWriter(IReadOnlyList<string> labels, ModelOutput? scores)
{
    public StepAnswer Write(
        StreamSession session, StepResult result, int firstFrame, int frames, ReplyContent content, IReadOnlyList<FrameAnswer> found, StepTimes times, int joined) => new()
        {
            Steps = result.Steps,
            Frames = result.Frames,
            Age = session.History.Age,
            Method = session.Method.Name,
            Predictions = Predict(Scores(result.Outputs), firstFrame, frames, content.TopK),
            Filtered = result.Unfiltered is not null,
            Unfiltered = content.Unfiltered ? Predict(Raw(result), firstFrame, frames, content.TopK) : [],
            UnfilteredScores = content is { Unfiltered: true, RawOutputs: true } ? Raw(result)?.Part(firstFrame, frames) : null,
            Found = found,
            Outputs = content.RawOutputs ? [.. result.Outputs.Select(output => output.Part(firstFrame, frames))] : [],
            NotLearned = NotLearned(result.NotLearned, firstFrame, frames),
            RolledBack = result.RolledBack is not null,
            Times = times,
            Joined = joined,
        };

    /// <summary>The class scores, [N, classes]; null for a segmentation model or a detector.</summary>
    public OutputTensor? Scores(IReadOnlyList<OutputTensor> outputs) => scores is null ? null : outputs[scores.Index];

    private static List<UnlearnedFrame> NotLearned(IReadOnlyList<NotLearnedReason> reasons, int firstFrame, int frames)
    {
        var unlearned = new List<UnlearnedFrame>();
        for (var frame = 0; frame < frames && reasons.Count > 0; frame++)
        {
            if (reasons[firstFrame + frame] is var reason && reason != NotLearnedReason.None)
            {
                unlearned.Add(new UnlearnedFrame(frame, reason));
            }
        }

        return unlearned;
    }

    private OutputTensor? Raw(StepResult result) => result.Unfiltered ?? Scores(result.Outputs);

    private ClassScore[][] Predict(OutputTensor? given, int firstFrame, int frames, int topK)
    {
        var predictions = new ClassScore[frames][];
        for (var frame = 0; frame < frames; frame++)
        {
            predictions[frame] = given is null || topK == 0 ? [] : Top(given.Values.AsSpan((firstFrame + frame) * given.Shape[1], given.Shape[1]), topK);
        }

        return predictions;
    }

    private ClassScore[] Top(ReadOnlySpan<float> given, int count)
    {
        var probabilities = new float[given.Length];
        scores!.ToProbabilities(given, probabilities);
        var order = new int[given.Length];
        for (var i = 0; i < order.Length; i++)
        {
            order[i] = i;
        }

        // By score, ties by index, so that the order does not depend on the sort.
        var keys = given.ToArray();
        Array.Sort(order, (a, b) => keys[b].CompareTo(keys[a]) is var byScore && byScore != 0 ? byScore : a.CompareTo(b));
        var top = new ClassScore[Math.Min(count, order.Length)];
        for (var i = 0; i < top.Length; i++)
        {
            top[i] = new ClassScore(order[i], order[i] < labels.Count ? labels[order[i]] : string.Empty, probabilities[order[i]]);
        }

        return top;
    }
}

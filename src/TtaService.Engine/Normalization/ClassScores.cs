using System.Numerics.Tensors;
using TtaService.Engine.Execution;

namespace TtaService.Engine.Normalization;

/// <summary>The class scores among a model's outputs, and the probabilities that they stand for: the one place that knows what an output means.</summary>
internal static class ClassScores
{
    /// <summary>The scores of a batch, [B,Q]; empty for a model that answers no classes.</summary>
    public static Span<float> Of(OutputTensor[] outputs, int frames) =>
        outputs is [{ Shape: [var rows, > 1] } first, ..] && rows == frames ? first.Values : [];

    /// <summary>Classes Q of a model whose first output has this shape; 0 for none, or where the graph leaves the number open.</summary>
    public static int Count(IReadOnlyList<long> shape) => shape is [_, > 1 and <= int.MaxValue] ? (int)shape[1] : 0;

    /// <summary>Probabilities of each row, [n,Q], from scores.</summary>
    public static void ToProbabilities(ReadOnlySpan<float> scores, int classes, Span<float> probabilities)
    {
        for (var at = 0; at < scores.Length; at += classes)
        {
            // Shifted by the largest, so that large scores do not overflow.
            var row = probabilities.Slice(at, classes);
            TensorPrimitives.Subtract(scores.Slice(at, classes), TensorPrimitives.Max(scores.Slice(at, classes)), row);
            TensorPrimitives.SoftMax<float>(row, row);
        }
    }

    /// <summary>Scores whose probabilities are these.</summary>
    public static void FromProbabilities(ReadOnlySpan<float> probabilities, Span<float> scores)
    {
        TensorPrimitives.Add(probabilities, 1e-12f, scores);
        TensorPrimitives.Log(scores, scores);
    }
}

using System.Numerics.Tensors;
using TtaService.Engine.Execution;

namespace TtaService.Engine.Normalization;

/// <summary>The class scores among a model's outputs, and the probabilities that they stand for: the one place that knows what an output means.</summary>
internal static class ClassScores
{
    private const float LeastProbability = 1e-12f;

    // Half precision leaves a thousandth.
    private const float SumTolerance = 2e-3f;

    /// <summary>The scores of a batch, [B,Q]; empty for a model that answers no classes.</summary>
    public static Span<float> Of(OutputTensor[] outputs, int frames) =>
        outputs is [{ Shape: [var rows, > 1] } first, ..] && rows == frames ? first.Values : [];

    /// <summary>Classes Q of a model whose first output has this shape; 0 for none, or where the graph leaves the number open.</summary>
    public static int Count(IReadOnlyList<long> shape) => shape is [_, > 1 and <= int.MaxValue] ? (int)shape[1] : 0;

    /// <summary>Probabilities of each row, [n,Q], from scores.</summary>
    /// <returns>Whether the scores were probabilities already, as a model gives them that ends in a softmax.</returns>
    public static bool ToProbabilities(ReadOnlySpan<float> scores, int classes, Span<float> probabilities)
    {
        if (AreProbabilities(scores, classes))
        {
            scores.CopyTo(probabilities);
            return true;
        }

        for (var at = 0; at < scores.Length; at += classes)
        {
            // Shifted by the largest, so that large scores do not overflow.
            var row = probabilities.Slice(at, classes);
            TensorPrimitives.Subtract(scores.Slice(at, classes), TensorPrimitives.Max(scores.Slice(at, classes)), row);
            TensorPrimitives.SoftMax<float>(row, row);
        }

        return false;
    }

    /// <summary>Scores whose probabilities are these.</summary>
    /// <param name="probabilities">[n,Q].</param>
    /// <param name="areScores">Whether the model's scores are probabilities themselves.</param>
    /// <param name="scores">[n,Q].</param>
    public static void FromProbabilities(ReadOnlySpan<float> probabilities, bool areScores, Span<float> scores)
    {
        if (areScores)
        {
            probabilities.CopyTo(scores);
            return;
        }

        TensorPrimitives.Add(probabilities, LeastProbability, scores);
        TensorPrimitives.Log(scores, scores);
    }

    /// <summary>The entropy of a prediction over that of no idea at all, 0 to 1.</summary>
    public static float Entropy(ReadOnlySpan<float> probabilities)
    {
        var sum = 0f;
        foreach (var p in probabilities)
        {
            sum -= p * MathF.Log(Math.Max(p, 1e-9f));
        }

        return sum / MathF.Log(probabilities.Length);
    }

    private static bool AreProbabilities(ReadOnlySpan<float> scores, int classes)
    {
        for (var at = 0; at < scores.Length; at += classes)
        {
            var row = scores.Slice(at, classes);
            if (!(TensorPrimitives.Min(row) >= 0 && Math.Abs(TensorPrimitives.Sum(row) - 1) < SumTolerance))
            {
                return false;
            }
        }

        return scores.Length > 0;
    }
}

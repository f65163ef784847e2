using System.Numerics.Tensors;
using TtaService.Engine.Calibration;
using TtaService.Engine.Execution;

namespace TtaService.Engine.Normalization;

/// <summary>The class scores of a batch, for methods that read and replace predictions; what the scores are is decided by <see cref="ModelOutput"/>.</summary>
internal static class ClassScores
{
    private const float LeastProbability = 1e-12f;

    /// <summary>The scores of a batch, [B,Q]; empty for a model that answers no classes that exclude each other.</summary>
    public static Span<float> Of(OutputTensor[] outputs, int frames, ModelOutput? output) =>
        Count(output) is > 0 and var classes && outputs[output!.Index].Values is var values && values.Length == (long)frames * classes ? values : [];

    /// <summary>Classes Q that exclude each other; 0 for none, or where the graph leaves the number open.</summary>
    public static int Count(ModelOutput? output) => output is { IsMultiLabel: false, Classes: > 1 and var classes } ? classes : 0;

    /// <summary>How frequent each class is among a calibration's predictions, [Q]; all alike without one.</summary>
    /// <remarks>Laplace's estimate: a class that the calibration hardly saw is rare, not impossible.</remarks>
    public static float[] Prior(int classes, ModelCalibration? calibration)
    {
        var count = calibration?.Classes ?? classes;
        var frames = calibration?.Frames ?? 0;
        return [.. Enumerable.Range(0, count).Select(k => frames == 0 ? 1f / count : (float)(((calibration!.Prior[k] * frames) + 1) / (frames + count)))];
    }

    /// <summary>The mean, [Q], of rows of probabilities, [n,Q].</summary>
    public static void Mean(ReadOnlySpan<float> probabilities, Span<float> mean)
    {
        mean.Clear();
        for (var at = 0; at < probabilities.Length; at += mean.Length)
        {
            TensorPrimitives.MultiplyAdd(probabilities.Slice(at, mean.Length), (float)mean.Length / probabilities.Length, mean, mean);
        }
    }

    /// <summary>Probabilities of each row, [n,Q], from scores.</summary>
    public static void ToProbabilities(OutputKind kind, ReadOnlySpan<float> scores, int classes, Span<float> probabilities)
    {
        for (var at = 0; at < scores.Length; at += classes)
        {
            ModelOutput.ToProbabilities(kind, scores.Slice(at, classes), probabilities.Slice(at, classes));
        }
    }

    /// <summary>Scores whose probabilities are these.</summary>
    /// <param name="kind">What the model's scores are.</param>
    /// <param name="probabilities">[n,Q].</param>
    /// <param name="scores">[n,Q].</param>
    public static void FromProbabilities(OutputKind kind, ReadOnlySpan<float> probabilities, Span<float> scores)
    {
        if (kind == OutputKind.Probabilities)
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
}

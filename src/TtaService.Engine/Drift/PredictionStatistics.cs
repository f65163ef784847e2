using System.Numerics.Tensors;

namespace TtaService.Engine.Drift;

/// <summary>What a stream's predictions look like lately: moving averages over frames. Not thread-safe.</summary>
/// <remarks>With p the softmax of a frame's class scores: entropy H(p)/ln(classes); label shift is the Jensen-Shannon distance (base 2) of the average of p to
/// the reference's; diversity is exp(H(average of p))/classes.</remarks>
/// <param name="window">Frames of the averages.</param>
public sealed class PredictionStatistics(int window)
{
    private float[] _classes = [];
    private float[] _probabilities = [];
    private double _entropy;

    /// <summary>Frames seen.</summary>
    public long Frames { get; private set; }

    /// <summary>Average entropy, 0 to 1.</summary>
    public double Entropy => _entropy;

    /// <summary>Average probability of each class.</summary>
    public IReadOnlyList<float> Classes => _classes;

    /// <summary>Takes a frame's class scores.</summary>
    /// <returns>The entropy of its prediction, 0 to 1.</returns>
    public double Observe(ReadOnlySpan<float> scores)
    {
        if (_classes.Length != scores.Length)
        {
            (_classes, _probabilities) = (new float[scores.Length], new float[scores.Length]);
            (Frames, _entropy) = (0, 0);
        }

        var weight = 1f / Math.Min(++Frames, window);
        var entropy = EntropyOf(scores, _probabilities);
        for (var i = 0; i < _classes.Length; i++)
        {
            _classes[i] += weight * (_probabilities[i] - _classes[i]);
        }

        _entropy += weight * (entropy - _entropy);
        return entropy;
    }

    /// <summary>exp(H(average))/classes: 1 when all classes come alike, 1/classes when only one does.</summary>
    public double Diversity
    {
        get
        {
            var entropy = 0.0;
            foreach (var p in _classes)
            {
                entropy -= p > 0 ? p * Math.Log(p) : 0;
            }

            return Frames == 0 ? 1 : Math.Exp(entropy) / _classes.Length;
        }
    }

    /// <summary>Distance of the average to the reference's, 0 to 1; null when there is none for these classes.</summary>
    public double? LabelShift(IReadOnlyList<double> reference)
    {
        if (Frames == 0 || reference.Count != _classes.Length)
        {
            return null;
        }

        var divergence = 0.0;
        for (var i = 0; i < _classes.Length; i++)
        {
            var (p, q) = (_classes[i], reference[i]);
            var middle = (p + q) / 2;
            divergence += (p > 0 ? p * Math.Log2(p / middle) / 2 : 0) + (q > 0 ? q * Math.Log2(q / middle) / 2 : 0);
        }

        return Math.Sqrt(Math.Clamp(divergence, 0, 1));
    }

    /// <summary>The entropy of one prediction over that of no idea at all, 0 to 1.</summary>
    /// <param name="scores">Class scores.</param>
    /// <param name="probabilities">Filled with their softmax.</param>
    public static double EntropyOf(ReadOnlySpan<float> scores, Span<float> probabilities)
    {
        // Shifted by the largest, so that large scores do not overflow.
        TensorPrimitives.Subtract(scores, TensorPrimitives.Max(scores), probabilities);
        TensorPrimitives.SoftMax<float>(probabilities, probabilities);
        var entropy = 0.0;
        foreach (var p in probabilities)
        {
            entropy -= p > 0 ? p * Math.Log(p) : 0;
        }

        return scores.Length < 2 ? 0 : entropy / Math.Log(scores.Length);
    }
}

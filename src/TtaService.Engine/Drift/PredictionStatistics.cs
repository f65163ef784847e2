using TtaService.Engine.Execution;

namespace TtaService.Engine.Drift;

/// <summary>What a stream's predictions look like lately: moving averages over frames. Not thread-safe.</summary>
/// <remarks>With p the probabilities of a frame's classes: entropy H(p)/ln(classes); label shift is the Jensen-Shannon distance (base 2) of the average of p to
/// the reference's; diversity is exp(H(average of p))/classes. Where labels may hold together, each of them is a distribution of its own (it holds or not):
/// entropy and divergence are the means over labels, and diversity is that of the labels' shares.</remarks>
/// <param name="window">Frames of the averages.</param>
/// <param name="kind">What the model's scores are.</param>
internal sealed class PredictionStatistics(int window, OutputKind kind = OutputKind.Logits)
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
        Fit(scores.Length);
        var entropy = EntropyOf(scores, _probabilities, kind);
        Average(entropy);
        return entropy;
    }

    /// <summary>Takes what a frame's boxes or pixels show.</summary>
    /// <param name="shares">Of each class among them; they sum to 1.</param>
    /// <param name="entropy">Mean over them, 0 to 1.</param>
    public void Observe(ReadOnlySpan<float> shares, double entropy)
    {
        Fit(shares.Length);
        shares.CopyTo(_probabilities);
        Average(entropy);
    }

    private void Fit(int classes)
    {
        if (_classes.Length != classes)
        {
            (_classes, _probabilities) = (new float[classes], new float[classes]);
            (Frames, _entropy) = (0, 0);
        }
    }

    private void Average(double entropy)
    {
        var weight = 1f / Math.Min(++Frames, window);
        for (var i = 0; i < _classes.Length; i++)
        {
            _classes[i] += weight * (_probabilities[i] - _classes[i]);
        }

        _entropy += weight * (entropy - _entropy);
    }

    /// <summary>exp(H(average))/classes: 1 when all classes come alike, 1/classes when only one does.</summary>
    public double Diversity
    {
        get
        {
            var (entropy, sum) = (0.0, IsMultiLabel ? Math.Max(_classes.Sum(), float.Epsilon) : 1);
            foreach (var share in _classes)
            {
                var p = share / sum;
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
            divergence += Divergence(_classes[i], reference[i]) + (IsMultiLabel ? Divergence(1 - _classes[i], 1 - reference[i]) : 0);
        }

        return Math.Sqrt(Math.Clamp(IsMultiLabel ? divergence / _classes.Length : divergence, 0, 1));
    }

    /// <summary>The entropy of one prediction over that of no idea at all, 0 to 1.</summary>
    /// <param name="scores">Class scores.</param>
    /// <param name="probabilities">Filled with the probabilities, as long as the scores.</param>
    /// <param name="kind">What the scores are.</param>
    public static double EntropyOf(ReadOnlySpan<float> scores, Span<float> probabilities, OutputKind kind = OutputKind.Logits)
    {
        ModelOutput.ToProbabilities(kind, scores, probabilities);
        return ModelOutput.Entropy(kind, probabilities);
    }

    private bool IsMultiLabel => kind is OutputKind.MultiLabelLogits or OutputKind.MultiLabelProbabilities;

    // One class's share of the Jensen-Shannon divergence.
    private static double Divergence(double p, double q)
    {
        var middle = (p + q) / 2;
        return (p > 0 ? p * Math.Log2(p / middle) / 2 : 0) + (q > 0 ? q * Math.Log2(q / middle) / 2 : 0);
    }
}

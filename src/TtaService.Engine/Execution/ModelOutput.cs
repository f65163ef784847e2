using System.Numerics.Tensors;

namespace TtaService.Engine.Execution;

/// <summary>What the numbers of an output are.</summary>
public enum OutputKind
{
    /// <summary>Numbers of another sort, which go to clients as they are.</summary>
    Raw,

    /// <summary>Scores of classes that exclude each other, before softmax.</summary>
    Logits,

    /// <summary>Probabilities of classes that exclude each other: they sum to 1.</summary>
    Probabilities,

    /// <summary>Natural logarithms of such probabilities.</summary>
    LogProbabilities,

    /// <summary>Scores of labels that may hold together, before the sigmoid.</summary>
    MultiLabelLogits,

    /// <summary>Probabilities of labels that may hold together, each between 0 and 1.</summary>
    MultiLabelProbabilities,

    /// <summary>[N,C,h,w]: a score of each class at each place, before softmax.</summary>
    SegmentationLogits,

    /// <summary>[N,C,h,w]: a probability of each class at each place.</summary>
    SegmentationProbabilities,

    /// <summary>[N,h,w] or [N,1,h,w]: the class at each place.</summary>
    ClassMap,

    /// <summary>[N,D]: a vector that stands for the frame.</summary>
    Embedding,

    /// <summary>[N,A,5+C]: centre, size, objectness and class probabilities, in pixels of the input.</summary>
    YoloV5,

    /// <summary>[N,4+C,A]: centre, size and class probabilities, in pixels of the input; also v11's.</summary>
    YoloV8,

    /// <summary>[N,4+C+P*D,A]: as <see cref="YoloV8"/>, with P points of D numbers.</summary>
    YoloPose,

    /// <summary>[N,K,6]: corners, score and class of final boxes, as v10's; with points, [N,K,6+P*D].</summary>
    YoloEndToEnd,

    /// <summary>[N,K,4]: boxes.</summary>
    Boxes,

    /// <summary>[N,K] or [N,K,C]: how sure each box is, or each box of each class.</summary>
    BoxScores,

    /// <summary>[N,K]: the class of each box.</summary>
    BoxLabels,

    /// <summary>[N,K,P,D]: points of each box.</summary>
    Keypoints,

    /// <summary>[N,K,P]: how sure each point is.</summary>
    KeypointScores,
}

/// <summary>An output of a model and what it was decided to be. Immutable.</summary>
/// <param name="Index">Its place among the outputs.</param>
/// <param name="Name">Its name in the graph.</param>
/// <param name="Shape">[N, ...], -1 for an axis that is not known; empty when the graph says nothing and no pass has run yet.</param>
/// <param name="Kind">What its numbers are.</param>
/// <param name="Reason">For people: why it was decided so.</param>
public sealed record ModelOutput(int Index, string Name, IReadOnlyList<long> Shape, OutputKind Kind, string Reason)
{
    /// <summary>Whether somebody said so, instead of the graph.</summary>
    public bool IsDeclared { get; init; }

    /// <summary>Whether labels may hold together.</summary>
    public bool IsMultiLabel => Kind is OutputKind.MultiLabelLogits or OutputKind.MultiLabelProbabilities;

    /// <summary>Whether its numbers are more than class scores: boxes, maps, points, a vector.</summary>
    public bool IsStructured => Kind > OutputKind.MultiLabelProbabilities;

    /// <summary>Class scores of whole frames, [N, classes] with any further extents of 1: how many; null for another output.</summary>
    public int? Classes => Kind != OutputKind.Raw && !IsStructured && Shape.Count >= 2 && Shape[1] > 0 && Shape.Skip(2).All(extent => extent == 1) ? (int)Shape[1] : null;

    /// <summary>Turns the scores of one frame, as the model gave them, into probabilities.</summary>
    /// <param name="scores">A value a class.</param>
    /// <param name="probabilities">As long; may be the same memory.</param>
    /// <exception cref="InvalidOperationException">The output holds no scores.</exception>
    public void ToProbabilities(ReadOnlySpan<float> scores, Span<float> probabilities) => ToProbabilities(Kind, scores, probabilities);

    /// <summary>Turns scores of a kind into probabilities.</summary>
    /// <inheritdoc cref="ToProbabilities(ReadOnlySpan{float}, Span{float})"/>
    public static void ToProbabilities(OutputKind kind, ReadOnlySpan<float> scores, Span<float> probabilities)
    {
        switch (kind)
        {
            case OutputKind.Logits:
                // Shifted by the largest, so that large scores do not overflow.
                TensorPrimitives.Subtract(scores, TensorPrimitives.Max(scores), probabilities);
                TensorPrimitives.SoftMax<float>(probabilities[..scores.Length], probabilities);
                break;
            case OutputKind.LogProbabilities:
                TensorPrimitives.Exp(scores, probabilities);
                break;
            case OutputKind.MultiLabelLogits:
                TensorPrimitives.Sigmoid(scores, probabilities);
                break;
            case OutputKind.Probabilities or OutputKind.MultiLabelProbabilities:
                scores.CopyTo(probabilities);
                break;
            default:
                throw new InvalidOperationException($"an output of kind {kind} has no probabilities");
        }
    }

    /// <summary>How unsure a prediction is, 0 to 1: H(p)/ln(classes), or the mean over labels of each one's own entropy in bits where labels may hold together.</summary>
    public double Entropy(ReadOnlySpan<float> probabilities) => Entropy(Kind, probabilities);

    /// <inheritdoc cref="Entropy(ReadOnlySpan{float})"/>
    public static double Entropy(OutputKind kind, ReadOnlySpan<float> probabilities)
    {
        var entropy = 0.0;
        if (kind is OutputKind.MultiLabelLogits or OutputKind.MultiLabelProbabilities)
        {
            foreach (var p in probabilities)
            {
                entropy += p is > 0 and < 1 ? -(p * Math.Log2(p)) - ((1 - p) * Math.Log2(1 - p)) : 0;
            }

            return entropy / probabilities.Length;
        }

        foreach (var p in probabilities)
        {
            entropy -= p > 0 ? p * Math.Log(p) : 0;
        }

        return probabilities.Length < 2 ? 0 : entropy / Math.Log(probabilities.Length);
    }
}

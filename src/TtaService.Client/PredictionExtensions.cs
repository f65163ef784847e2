using TtaService.V1;

namespace TtaService.Client;

/// <summary>What a model answered to a frame, by its sort.</summary>
public static class PredictionExtensions
{
    /// <summary>The most probable class; null for a model without class scores.</summary>
    public static LabelScore? Best(this FramePrediction prediction) => Given(prediction).Top.FirstOrDefault();

    /// <summary>The boxes of a class, highest score first, in pixels of the frame that was sent.</summary>
    /// <param name="prediction">Of a detector or a keypoint model.</param>
    /// <param name="label">The class's name.</param>
    public static IEnumerable<DetectedBox> BoxesOf(this FramePrediction prediction, string label) => Given(prediction).Boxes.Where(box => box.Label == label);

    /// <summary>The class of each pixel.</summary>
    /// <param name="prediction">Of a segmentation model.</param>
    /// <exception cref="InvalidOperationException">It holds no map.</exception>
    public static ClassMap ClassMap(this FramePrediction prediction) => Client.ClassMap.Read(prediction);

    /// <summary>The share of a class among the pixels that the model saw, 0 to 1.</summary>
    /// <param name="prediction">Of a segmentation model.</param>
    /// <param name="label">The class's name.</param>
    public static float ShareOf(this FramePrediction prediction, string label) =>
        Given(prediction).Segmentation?.Shares.Where(share => share.Label == label).Sum(share => share.Probability) ?? 0;

    /// <summary>How alike two frames are, -1 to 1: the cosine of the angle between their vectors.</summary>
    /// <param name="prediction">Of an embedding model.</param>
    /// <param name="other">Of the same model.</param>
    /// <exception cref="ArgumentException">The vectors are not of one length.</exception>
    public static float Similarity(this FramePrediction prediction, FramePrediction other)
    {
        var (a, b) = (Given(prediction).Embedding, Given(other).Embedding);
        return a.Count == b.Count && a.Count > 0
            ? a.Zip(b, (x, y) => x * y).Sum()
            : throw new ArgumentException($"vectors of {a.Count} and {b.Count} numbers can't be compared; both frames must be answered by one embedding model", nameof(other));
    }

    private static FramePrediction Given(FramePrediction prediction)
    {
        ArgumentNullException.ThrowIfNull(prediction);
        return prediction;
    }
}

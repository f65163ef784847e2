using TtaService.V1;

namespace TtaService.Host.Commands.Streaming;

/// <summary>What a model answered to a frame, in words.</summary>
internal static class PredictionText
{
    private const int ShownBoxes = 8;
    private const int ShownShares = 5;

    /// <summary>One line.</summary>
    public static string Of(FramePrediction prediction) => prediction switch
    {
        { Width: 0, Unfiltered.Count: > 0 } => $"{string.Join(", ", prediction.Top.Select(Label))} (unfiltered {string.Join(", ", prediction.Unfiltered.Select(Label))})",
        { Width: 0 } => string.Join(", ", prediction.Top.Select(Label)),
        { Segmentation: { } map } => string.Join(", ", map.Shares.Take(ShownShares).Select(Label)),
        { Embedding.Count: > 0 and var size } => $"vector of {size}",
        { Boxes.Count: 0 } => "nothing found",
        { Boxes.Count: > ShownBoxes and var count } => $"{string.Join(", ", prediction.Boxes.Take(ShownBoxes).Select(Box))}, {count - ShownBoxes} more",
        _ => string.Join(", ", prediction.Boxes.Select(Box)),
    };

    /// <summary>A line each, with a share to draw.</summary>
    public static IEnumerable<(double Share, string Text)> Bars(FramePrediction prediction)
    {
        if (prediction.Boxes.Count > 0)
        {
            return prediction.Boxes.Take(ShownBoxes).Select(box => ((double)box.Score, Box(box)));
        }

        var labels = prediction.Segmentation is { } map ? map.Shares.Take(ShownShares) : prediction.Top;
        return labels.Any() ? labels.Select(label => ((double)label.Probability, Label(label))) : prediction.Width > 0 ? [(0, Of(prediction))] : [];
    }

    private static string Label(LabelScore score) => FormattableString.Invariant($"{Name(score.Label, score.Index)} {100 * score.Probability:0.0} %");

    private static string Box(DetectedBox box)
    {
        var points = box.Points.Count > 0 ? $", {box.Points.Count} points" : string.Empty;
        return FormattableString.Invariant($"{Name(box.Label, box.Index)} {100 * box.Score:0.0} % at {box.X1:0},{box.Y1:0} to {box.X2:0},{box.Y2:0}{points}");
    }

    private static string Name(string label, int index) => label.Length > 0 ? label : $"{index}";
}

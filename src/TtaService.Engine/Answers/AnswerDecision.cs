using System.Globalization;
using TtaService.Engine.Execution;
using TtaService.Engine.Onnx;

namespace TtaService.Engine.Answers;

/// <summary>What is known of a model beside its outputs' shapes.</summary>
/// <param name="Graph">The outputs as the graph declares them.</param>
/// <param name="Metadata">What the exporter wrote.</param>
/// <param name="Labels">How many classes have a name; null when none has.</param>
/// <param name="InputShape">[N,C,H,W], -1 for a free axis; as it was run, once it was.</param>
/// <param name="Detection">As model.json has it.</param>
internal sealed record AnswerHints(IReadOnlyList<GraphValue> Graph, ExporterMetadata Metadata, int? Labels, IReadOnlyList<long> InputShape, DetectionSettings Detection);

/// <summary>Decides what a model answers: from what was declared, else from its exporter's metadata, else from the names, types and shapes of its outputs.</summary>
internal static class AnswerDecision
{
    // Boxes that go a little past the border are still fractions.
    private const float LargestFraction = 2;

    private delegate Dictionary<int, (OutputKind Kind, string Reason)>? Rule(
        IReadOnlyList<ModelOutput> outputs, AnswerHints hints, IReadOnlyList<IReadOnlyList<OutputTensor>>? passes);

    /// <summary>The outputs with their final kinds, and what is answered.</summary>
    /// <param name="outputs">As each alone was decided.</param>
    /// <param name="hints">What else is known.</param>
    /// <param name="passes">What passes of one frame each gave; null before the first.</param>
    public static ModelAnswer Decide(IReadOnlyList<ModelOutput> outputs, AnswerHints hints, IReadOnlyList<IReadOnlyList<OutputTensor>>? passes)
    {
        var decided = outputs.ToArray();
        if (!Array.Exists(decided, output => output is { IsDeclared: true, IsStructured: true }))
        {
            // Class scores that fit go before what only looks like something.
            Rule[] certain = [Ultralytics, FinalBoxes, BoxesWithScores, NamedEmbedding];
            Rule[] likely = [Segmentation, Unit, Yolo];
            var claims = First(certain, decided, hints, passes)
                ?? (ModelOutputs.Scores(decided, hints.Labels) is null ? First(likely, decided, hints, passes) : null);
            foreach (var (index, (kind, reason)) in claims ?? [])
            {
                decided[index] = decided[index] with { Kind = kind, Reason = reason };
            }
        }

        if (Array.Exists(decided, output => output.IsStructured))
        {
            for (var i = 0; i < decided.Length; i++)
            {
                decided[i] = decided[i] is { IsStructured: false, IsDeclared: false, Kind: not OutputKind.Raw } beside
                    ? beside with { Kind = OutputKind.Raw, Reason = "it stands beside the answer" }
                    : decided[i];
            }
        }

        return Answer(decided, hints, passes);
    }

    private static Dictionary<int, (OutputKind Kind, string Reason)>? First(
        Rule[] rules, ModelOutput[] outputs, AnswerHints hints, IReadOnlyList<IReadOnlyList<OutputTensor>>? passes)
    {
        foreach (var rule in rules)
        {
            if (rule(outputs, hints, passes) is { } claims && claims.Keys.All(index => !outputs[index].IsDeclared))
            {
                return claims;
            }
        }

        return null;
    }

    private static ModelAnswer Answer(ModelOutput[] outputs, AnswerHints hints, IReadOnlyList<IReadOnlyList<OutputTensor>>? passes)
    {
        ModelOutput? Of(params OutputKind[] kinds) => Array.Find(outputs, output => kinds.Contains(output.Kind));

        var settings = hints.Detection;
        if (Of(OutputKind.YoloPose) is { } pose)
        {
            settings = settings with { Keypoints = settings.Keypoints ?? hints.Metadata.KeypointShape ?? PointsFrom(pose, hints) };
            var classes = Extent(pose, 1) is { } rows && settings.Keypoints is { } shape ? rows - 4 - (shape.Points * shape.Values) : (int?)null;
            return new ModelAnswer(AnswerKind.Keypoints, pose.Reason, outputs) { Classes = classes, Detection = settings };
        }

        if (Of(OutputKind.YoloV8, OutputKind.YoloV5, OutputKind.YoloEndToEnd) is { } yolo)
        {
            settings = settings with { Keypoints = settings.Keypoints ?? hints.Metadata.KeypointShape };
            var points = yolo.Kind == OutputKind.YoloEndToEnd && settings.Keypoints is { } shape && Extent(yolo, 2) == 6 + (shape.Points * shape.Values);
            var coefficients = Array.Find(outputs, output => output.Kind == OutputKind.Raw && output.Shape is [_, > 0, > 1, > 1]) is { } masks && hints.Metadata.Task == "segment"
                ? (int)masks.Shape[1] : 0;
            return new ModelAnswer(points ? AnswerKind.Keypoints : AnswerKind.Detection, yolo.Reason, outputs)
            {
                Detection = settings,
                Classes = yolo.Kind switch
                {
                    OutputKind.YoloV8 => Extent(yolo, 1) is { } rows ? rows - 4 - coefficients : null,
                    OutputKind.YoloV5 => Extent(yolo, 2) is { } columns ? Math.Max(1, columns - 5) : null,
                    _ => null,
                },
            };
        }

        if (Of(OutputKind.Boxes) is { } boxes && Of(OutputKind.BoxScores) is { } scores)
        {
            var located = Of(OutputKind.Keypoints);
            settings = settings with
            {
                Unit = settings.Unit ?? (AreFractions(boxes, passes) ? BoxUnit.Fractions : BoxUnit.Pixels),
                Keypoints = located?.Shape is [_, _, > 0 and var points, 2 or 3] ? ((int)points, (int)located.Shape[3]) : null,
            };
            return new ModelAnswer(located is not null && settings.Keypoints is not null ? AnswerKind.Keypoints : AnswerKind.Detection, boxes.Reason, outputs)
            {
                Detection = settings,
                Classes = Of(OutputKind.BoxLabels) is null ? Extent(scores, 2) ?? 1 : null,
            };
        }

        if (Of(OutputKind.SegmentationLogits, OutputKind.SegmentationProbabilities) is { } dense)
        {
            return new ModelAnswer(AnswerKind.Segmentation, dense.Reason, outputs) { Classes = Extent(dense, 1) is { } channels ? Math.Max(2, channels) : null };
        }

        if (Of(OutputKind.ClassMap) is { } map)
        {
            return new ModelAnswer(AnswerKind.Segmentation, map.Reason, outputs) { Classes = hints.Labels };
        }

        if (Of(OutputKind.Embedding) is { } vector)
        {
            return new ModelAnswer(AnswerKind.Embedding, vector.Reason, outputs);
        }

        return ModelOutputs.Scores(outputs, hints.Labels) is { } classes2
            ? new ModelAnswer(AnswerKind.Classification, classes2.Reason, outputs) { Classes = classes2.Classes }
            : new ModelAnswer(AnswerKind.Raw, "no output is known to hold anything else", outputs);
    }

    private static (int Points, int Values)? PointsFrom(ModelOutput pose, AnswerHints hints) =>
        Extent(pose, 1) is { } rows && (rows - 4 - (hints.Labels ?? 1)) is > 0 and var numbers && numbers % 3 == 0 ? (numbers / 3, 3) : null;

    private static Dictionary<int, (OutputKind, string)>? Ultralytics(IReadOnlyList<ModelOutput> outputs, AnswerHints hints, IReadOnlyList<IReadOnlyList<OutputTensor>>? passes)
    {
        var metadata = hints.Metadata;
        if (!metadata.IsUltralytics || outputs.FirstOrDefault(output => output.Shape is [_, > 0, > 0]) is not { } output)
        {
            return null;
        }

        var (rows, columns, names) = ((int)output.Shape[1], (int)output.Shape[2], metadata.Names?.Count);
        var said = metadata.Task is { } task ? $"the metadata say task {task}" : "the metadata are YOLOv5's";
        var shape = string.Create(CultureInfo.InvariantCulture, $"{said}, and [N,{rows},{columns}] is");
        switch (metadata.Task)
        {
            case "detect" or "segment" when metadata.IsEndToEnd || (columns == 6 && rows != 4 + names):
                return One(output, OutputKind.YoloEndToEnd, $"{shape} a box, its score and its class in each row");
            case "detect" or "segment" when rows > 4 && (names is null || rows >= 4 + names):
                return One(output, OutputKind.YoloV8, $"{shape} a box and {names ?? rows - 4} classes for each of {columns} anchors");
            case "pose" when metadata.KeypointShape is { } points && columns == 6 + (points.Points * points.Values) && (metadata.IsEndToEnd || rows < columns):
                return One(output, OutputKind.YoloEndToEnd, $"{shape} a box, its score, its class and {points.Points} points in each row");
            case "pose" when metadata.KeypointShape is { } points && rows > 4 + (points.Points * points.Values):
                return One(output, OutputKind.YoloPose, $"{shape} a box, its score and {points.Points} points for each of {columns} anchors");
            case null when columns == 5 + names:
                return One(output, OutputKind.YoloV5, $"{shape} a box, objectness and {names} classes in each row");
            case null when columns == 6:
                return One(output, OutputKind.YoloEndToEnd, $"{shape} a box, its score and its class in each row");
            default:
                return null;
        }
    }

    // torchvision's detectors: boxes [K,4], labels [K] of whole numbers, scores [K], and points [K,P,3] with their scores [K,P].
    private static Dictionary<int, (OutputKind, string)>? FinalBoxes(IReadOnlyList<ModelOutput> outputs, AnswerHints hints, IReadOnlyList<IReadOnlyList<OutputTensor>>? passes)
    {
        var lists = outputs.Where(output => !IsWhole(hints, output) && output.Shape is [_, _]).ToList();
        if (outputs.FirstOrDefault(output => output.Shape is [_, _, 4] && !IsWhole(hints, output)) is not { } boxes
            || outputs.FirstOrDefault(output => output.Shape is [_, _] && IsWhole(hints, output)) is not { } labels
            || (lists.Find(output => output.Name.Contains("score", StringComparison.OrdinalIgnoreCase)) ?? lists.FirstOrDefault()) is not { } scores
            || boxes.Shape[1] != labels.Shape[1] || boxes.Shape[1] != scores.Shape[1])
        {
            return null;
        }

        var claims = new Dictionary<int, (OutputKind, string)>
        {
            [boxes.Index] = (OutputKind.Boxes, "four numbers a box, beside a whole number and a score for each"),
            [labels.Index] = (OutputKind.BoxLabels, "a whole number a box"),
            [scores.Index] = (OutputKind.BoxScores, "a number a box"),
        };
        if (outputs.FirstOrDefault(output => output.Shape is [_, var count, > 0, 3] && count == boxes.Shape[1]) is { } points)
        {
            claims[points.Index] = (OutputKind.Keypoints, "points of each box");
            if (outputs.FirstOrDefault(output => output.Shape is [_, var count, var each] && count == boxes.Shape[1] && each == points.Shape[2]) is { } sure && sure != boxes)
            {
                claims[sure.Index] = (OutputKind.KeypointScores, "a score a point");
            }
        }

        return claims;
    }

    private static Dictionary<int, (OutputKind, string)>? BoxesWithScores(
        IReadOnlyList<ModelOutput> outputs, AnswerHints hints, IReadOnlyList<IReadOnlyList<OutputTensor>>? passes)
    {
        if (outputs.FirstOrDefault(output => output.Shape is [_, > 0, 4] && output.Name.Contains("box", StringComparison.OrdinalIgnoreCase)) is not { } boxes
            || outputs.FirstOrDefault(output => output != boxes && output.Shape is [_, var anchors, > 0] && anchors == boxes.Shape[1]) is not { } scores
            || passes?.Any(pass => pass[scores.Index].Values.Any(value => value is < 0 or > 1)) == true)
        {
            return null;
        }

        return new Dictionary<int, (OutputKind, string)>
        {
            [boxes.Index] = (OutputKind.Boxes, "four numbers a box, beside a score a class for each"),
            [scores.Index] = (OutputKind.BoxScores, "a score a class for each box"),
        };
    }

    private static Dictionary<int, (OutputKind, string)>? NamedEmbedding(
        IReadOnlyList<ModelOutput> outputs, AnswerHints hints, IReadOnlyList<IReadOnlyList<OutputTensor>>? passes) =>
        hints.Labels is null && outputs.FirstOrDefault(output => output.Shape is [_, > 1] && output.Name.Contains("embed", StringComparison.OrdinalIgnoreCase)) is { } vector
            ? One(vector, OutputKind.Embedding, "its name says so") : null;

    private static Dictionary<int, (OutputKind, string)>? Unit(IReadOnlyList<ModelOutput> outputs, AnswerHints hints, IReadOnlyList<IReadOnlyList<OutputTensor>>? passes) =>
        outputs.FirstOrDefault(output => output.Shape is [_, > 1] && hints.Graph[output.Index].Activation == "LpNormalization") is { } vector
            ? One(vector, OutputKind.Embedding, "the graph ends in a division by the vector's length") : null;

    private static Dictionary<int, (OutputKind, string)>? Segmentation(IReadOnlyList<ModelOutput> outputs, AnswerHints hints, IReadOnlyList<IReadOnlyList<OutputTensor>>? passes)
    {
        foreach (var output in outputs)
        {
            var (activation, fills) = (hints.Graph[output.Index].Activation, IsOfInputSize(output, hints));
            if (activation is "ArgMax" && fills && output.Shape is [_, _, _] or [_, 1, _, _])
            {
                return One(output, OutputKind.ClassMap, "the graph ends in ArgMax, at the input's size");
            }

            if (output.Shape is [_, > 1 and var channels, > 1, > 1] && activation is null or "Softmax" && channels <= SegmentationReader.MostClasses
                && (channels == hints.Labels || (hints.Labels is null && (output.Name == "out" || fills))))
            {
                var why = channels == hints.Labels ? "a map for each label" : output.Name == "out" ? "maps called out, as torchvision's" : "maps of the input's size";
                return One(output, activation is null ? OutputKind.SegmentationLogits : OutputKind.SegmentationProbabilities, why);
            }
        }

        return null;
    }

    private static Dictionary<int, (OutputKind, string)>? Yolo(IReadOnlyList<ModelOutput> outputs, AnswerHints hints, IReadOnlyList<IReadOnlyList<OutputTensor>>? passes)
    {
        if (hints.Labels is not { } labels || outputs.FirstOrDefault(output => output.Shape is [_, > 0, > 0]) is not { } output)
        {
            return null;
        }

        return output.Shape switch
        {
            [_, var rows, var columns] when rows == 4 + labels && columns > rows => One(output, OutputKind.YoloV8, $"a box and the {labels} labels for each of {columns} anchors"),
            [_, var rows, var columns] when columns == 5 + labels && rows > columns => One(output, OutputKind.YoloV5, $"a box, objectness and the {labels} labels in each row"),
            _ => null,
        };
    }

    private static bool AreFractions(ModelOutput boxes, IReadOnlyList<IReadOnlyList<OutputTensor>>? passes) =>
        passes is not null && passes.Any(pass => pass[boxes.Index].Values.Length > 0)
        && passes.All(pass => pass[boxes.Index].Values.All(value => Math.Abs(value) <= LargestFraction));

    private static bool IsOfInputSize(ModelOutput output, AnswerHints hints) =>
        output.Shape.Count >= 3 && output.Shape[^2] > 1 && output.Shape[^2] == hints.InputShape[2] && output.Shape[^1] == hints.InputShape[3];

    private static bool IsWhole(AnswerHints hints, ModelOutput output) => hints.Graph[output.Index].ElementType is "INT64" or "INT32";

    private static int? Extent(ModelOutput output, int axis) => output.Shape.Count > axis && output.Shape[axis] > 0 ? (int)output.Shape[axis] : null;

    private static Dictionary<int, (OutputKind, string)> One(ModelOutput output, OutputKind kind, string reason) => new() { [output.Index] = (kind, reason) };
}

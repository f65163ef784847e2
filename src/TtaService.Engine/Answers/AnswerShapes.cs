using TtaService.Engine.Execution;
using TtaService.Engine.Onnx;

namespace TtaService.Engine.Answers;

/// <summary>Holds the outputs of a model against what their kinds need, once a pass has shown their shapes.</summary>
internal static class AnswerShapes
{
    /// <exception cref="ModelLoadException">An output has not the shape of its kind, or lacks another beside it.</exception>
    public static void Check(string path, ModelAnswer answer)
    {
        foreach (var output in answer.Outputs)
        {
            if (WhyUnfit(output) is { } needed)
            {
                throw new ModelLoadException($"{path}: output {output.Name} should hold {output.Kind} ({output.Reason}), which is {needed}, but has shape "
                    + $"[{string.Join(',', output.Shape)}]; set its kind in 'outputs' of model.json");
            }
        }

        Require(path, answer, OutputKind.Boxes, OutputKind.BoxScores);
        Require(path, answer, OutputKind.BoxScores, OutputKind.Boxes);
        Require(path, answer, OutputKind.BoxLabels, OutputKind.Boxes);
        Require(path, answer, OutputKind.Keypoints, OutputKind.Boxes);
        Require(path, answer, OutputKind.KeypointScores, OutputKind.Keypoints);
        if (answer.Find(OutputKind.YoloPose) is { } pose && (answer.Detection.Keypoints is null || answer.Classes is not > 0))
        {
            throw new ModelLoadException($"{path}: output {pose.Name} holds boxes with points, but how many is not known; "
                + "set detection.keypoints of model.json to [points, numbers of each]");
        }
    }

    private static string? WhyUnfit(ModelOutput output)
    {
        var (fits, needed) = output.Kind switch
        {
            OutputKind.SegmentationLogits or OutputKind.SegmentationProbabilities =>
                (output.Shape is [_, > 0 and <= SegmentationReader.MostClasses, > 0, > 0], $"[N,classes,height,width] of at most {SegmentationReader.MostClasses} classes"),
            OutputKind.ClassMap => (output.Shape is [_, > 0, > 0] or [_, 1, > 0, > 0], "[N,height,width]"),
            OutputKind.Embedding => (output.Shape is [_, > 0, ..], "[N,numbers]"),
            OutputKind.YoloV5 => (output.Shape is [_, > 0, > 4], "[N,anchors,5 + classes]"),
            OutputKind.YoloV8 or OutputKind.YoloPose => (output.Shape is [_, > 4, > 0], "[N,4 + classes,anchors]"),
            OutputKind.YoloEndToEnd => (output.Shape is [_, _, > 5], "[N,boxes,6]"),
            OutputKind.Boxes => (output.Shape is [_, _, 4], "[N,boxes,4]"),
            OutputKind.BoxScores => (output.Shape is [_, _] or [_, _, > 0], "[N,boxes] or [N,boxes,classes]"),
            OutputKind.BoxLabels => (output.Shape is [_, _], "[N,boxes]"),
            OutputKind.Keypoints => (output.Shape is [_, _, > 0, 2 or 3], "[N,boxes,points,2 or 3]"),
            OutputKind.KeypointScores => (output.Shape is [_, _, > 0], "[N,boxes,points]"),
            _ => (true, string.Empty),
        };
        return fits ? null : needed;
    }

    private static void Require(string path, ModelAnswer answer, OutputKind kind, OutputKind needed)
    {
        if (answer.Find(kind) is { } output && answer.Find(needed) is null)
        {
            throw new ModelLoadException($"{path}: output {output.Name} holds {kind}, but none holds {needed}; name it in 'outputs' of model.json");
        }
    }
}

using System.Numerics.Tensors;
using TtaService.Engine.Execution;

namespace TtaService.Engine.Answers;

/// <summary>Reads boxes, and points in them, from a detector's outputs. Thread-safe.</summary>
/// <remarks>Heads of YOLO v5 ([A,5+C]: centre, size, objectness, classes), v8 and v11 ([4+C,A]) and v10 ([K,6]: corners, score, class; its own suppression), boxes with a
/// score a class ([A,4], [A,C]), and boxes with one score and one label ([K,4], [K], [K]; their own suppression, as torchvision's). The best class of a YOLO anchor counts,
/// as ultralytics has it; with a score a class every class is a candidate of its own, as torchvision's SSD has it.</remarks>
public sealed class DetectionReader(ModelAnswer answer)
{
    private const int Corners = 4;

    /// <summary>The boxes of a frame, highest scores first, in pixels of the model's input.</summary>
    /// <param name="outputs">Of the step, [frames, ...] each.</param>
    /// <param name="frame">Which of its frames.</param>
    /// <param name="settings">How they are read.</param>
    /// <param name="width">Of the model's input.</param>
    /// <param name="height">Of the model's input.</param>
    public IReadOnlyList<Detection> Read(IReadOnlyList<OutputTensor> outputs, int frame, DetectionSettings settings, int width, int height)
    {
        var candidates = new List<Candidate>();
        var suppresses = true;
        Func<Candidate, Keypoint[]>? points = null;
        if (answer.Find(OutputKind.YoloV8) is { } v8)
        {
            AnchorsLast(Frame.Of(outputs[v8.Index], frame), answer.Classes, settings, candidates);
        }
        else if (answer.Find(OutputKind.YoloPose) is { } pose)
        {
            var rows = Frame.Of(outputs[pose.Index], frame);
            var shape = settings.Keypoints!.Value;
            var classes = rows.Rows - Corners - (shape.Points * shape.Values);
            AnchorsLast(rows, classes, settings, candidates);
            points = candidate => PointsOf(index => rows.Values.Span[((Corners + classes + index) * rows.Columns) + candidate.Row], shape);
        }
        else if (answer.Find(OutputKind.YoloV5) is { } v5)
        {
            AnchorsFirst(Frame.Of(outputs[v5.Index], frame), settings, candidates);
        }
        else if (answer.Find(OutputKind.YoloEndToEnd) is { } whole)
        {
            suppresses = false;
            var rows = Frame.Of(outputs[whole.Index], frame);
            EndToEnd(rows, settings, candidates);
            if (settings.Keypoints is { } shape && rows.Columns == 6 + (shape.Points * shape.Values))
            {
                points = candidate => PointsOf(index => rows.Values.Span[(candidate.Row * rows.Columns) + 6 + index], shape);
            }
        }
        else
        {
            var boxes = Frame.Of(outputs[answer.Find(OutputKind.Boxes)!.Index], frame);
            var scores = Frame.Of(outputs[answer.Find(OutputKind.BoxScores)!.Index], frame);
            var named = answer.Find(OutputKind.BoxLabels);
            var labels = named is null ? default : Frame.Of(outputs[named.Index], frame);
            suppresses = named is null;
            Boxes(boxes, scores, labels, settings, width, height, suppresses, candidates);
            if (answer.Find(OutputKind.Keypoints) is { } located)
            {
                var rows = Frame.Of(outputs[located.Index], frame);
                var sure = answer.Find(OutputKind.KeypointScores) is { } given ? Frame.Of(outputs[given.Index], frame) : default;
                points = candidate => PointsOf(rows, sure, candidate.Row, settings, width, height);
            }
        }

        var ordered = Ordered(candidates, settings.MaxCandidates);
        var kept = suppresses
            ? NonMaximumSuppression.Keep(ordered, settings.IouThreshold, settings.ClassAgnostic, settings.MaxBoxes)
            : ordered.GetRange(0, Math.Min(ordered.Count, settings.MaxBoxes));
        return [.. kept.Select(box => new Detection(box.X1, box.Y1, box.X2, box.Y2, box.Class, box.Score, points?.Invoke(box) ?? []))];
    }

    // By score, ties by their places, so that the order does not depend on the sort.
    private static List<Candidate> Ordered(List<Candidate> candidates, int most)
    {
        candidates.Sort((a, b) => b.Score.CompareTo(a.Score) is var byScore && byScore != 0 ? byScore : a.Row != b.Row ? a.Row.CompareTo(b.Row) : a.Class.CompareTo(b.Class));
        if (candidates.Count > most)
        {
            candidates.RemoveRange(most, candidates.Count - most);
        }

        return candidates;
    }

    // [4+C,A]: the classes' rows are compared as wholes.
    private static void AnchorsLast(in Frame rows, int? known, DetectionSettings settings, List<Candidate> candidates)
    {
        var anchors = rows.Columns;
        var classes = known ?? (rows.Rows - Corners);
        var values = rows.Values.Span;
        var best = new float[anchors];
        best.AsSpan().Fill(float.NegativeInfinity);
        for (var c = 0; c < classes; c++)
        {
            TensorPrimitives.Max<float>(best, values.Slice((Corners + c) * anchors, anchors), best);
        }

        for (var anchor = 0; anchor < anchors; anchor++)
        {
            if (best[anchor] > settings.ScoreThreshold)
            {
                var of = 0;
                while (values[((Corners + of) * anchors) + anchor] != best[anchor])
                {
                    of++;
                }

                candidates.Add(Centred(values[anchor], values[anchors + anchor], values[(2 * anchors) + anchor], values[(3 * anchors) + anchor], of, best[anchor], anchor));
            }
        }
    }

    // [A,5+C].
    private static void AnchorsFirst(in Frame rows, DetectionSettings settings, List<Candidate> candidates)
    {
        for (var anchor = 0; anchor < rows.Rows; anchor++)
        {
            var row = rows.Row(anchor);
            if (row[Corners] > settings.ScoreThreshold)
            {
                var of = row.Length > Corners + 1 ? TensorPrimitives.IndexOfMax(row[(Corners + 1)..]) : 0;
                var score = row.Length > Corners + 1 ? row[Corners] * row[Corners + 1 + of] : row[Corners];
                if (score > settings.ScoreThreshold)
                {
                    candidates.Add(Centred(row[0], row[1], row[2], row[3], of, score, anchor));
                }
            }
        }
    }

    private static void EndToEnd(in Frame rows, DetectionSettings settings, List<Candidate> candidates)
    {
        for (var at = 0; at < rows.Rows; at++)
        {
            var row = rows.Row(at);
            if (row[4] > settings.ScoreThreshold)
            {
                candidates.Add(new Candidate(row[0], row[1], row[2], row[3], ClassOf(row[5]), row[4], at));
            }
        }
    }

    private static void Boxes(
        in Frame boxes, in Frame scores, in Frame labels, DetectionSettings settings, int width, int height, bool classEach, List<Candidate> candidates)
    {
        for (var at = 0; at < boxes.Rows; at++)
        {
            if (!classEach)
            {
                var (score, label) = (scores.Values.Span[at], ClassOf(labels.Values.Span[at]));
                if (score > settings.ScoreThreshold && label != settings.Background)
                {
                    candidates.Add(Placed(boxes.Row(at), label, score, at, settings, width, height));
                }

                continue;
            }

            var row = scores.Rows == boxes.Rows ? scores.Row(at) : scores.Values.Span.Slice(at, 1);
            for (var c = 0; c < row.Length; c++)
            {
                if (row[c] > settings.ScoreThreshold && c != settings.Background)
                {
                    candidates.Add(Placed(boxes.Row(at), c, row[c], at, settings, width, height));
                }
            }
        }
    }

    private static Candidate Placed(ReadOnlySpan<float> box, int label, float score, int row, DetectionSettings settings, int width, int height)
    {
        var (x, y) = settings.Unit == BoxUnit.Fractions ? (width, height) : (1, 1);
        return (settings.Form ?? BoxForm.Corners) switch
        {
            BoxForm.CenterSize => Centred(box[0] * x, box[1] * y, box[2] * x, box[3] * y, label, score, row),
            BoxForm.CornerSize => new Candidate(box[0] * x, box[1] * y, (box[0] + box[2]) * x, (box[1] + box[3]) * y, label, score, row),
            BoxForm.CornersYFirst => new Candidate(box[1] * x, box[0] * y, box[3] * x, box[2] * y, label, score, row),
            _ => new Candidate(box[0] * x, box[1] * y, box[2] * x, box[3] * y, label, score, row),
        };
    }

    private static Candidate Centred(float x, float y, float width, float height, int label, float score, int row) =>
        new(x - (width / 2), y - (height / 2), x + (width / 2), y + (height / 2), label, score, row);

    private static Keypoint[] PointsOf(Func<int, float> value, (int Points, int Values) shape)
    {
        var points = new Keypoint[shape.Points];
        for (var i = 0; i < points.Length; i++)
        {
            points[i] = new Keypoint(value(i * shape.Values), value((i * shape.Values) + 1), shape.Values > 2 ? value((i * shape.Values) + 2) : 1);
        }

        return points;
    }

    // [K,P,2 or 3] and [K,P].
    private static Keypoint[] PointsOf(in Frame located, in Frame scores, int row, DetectionSettings settings, int width, int height)
    {
        var (count, size) = settings.Keypoints!.Value;
        var (x, y) = settings.Unit == BoxUnit.Fractions ? (width, height) : (1, 1);
        var points = new Keypoint[count];
        for (var i = 0; i < count; i++)
        {
            var at = located.Values.Span.Slice(((row * count) + i) * size, size);
            var score = !scores.Values.IsEmpty ? scores.Values.Span[(row * count) + i] : size > 2 ? at[2] : 1;
            points[i] = new Keypoint(at[0] * x, at[1] * y, score);
        }

        return points;
    }

    // Classes come as floats; one that is no class is none of the labels.
    private static int ClassOf(float value) => value is >= 0 and < int.MaxValue ? (int)MathF.Round(value) : -1;

    /// <summary>A frame's part of an output, its first two axes as rows and columns.</summary>
    private readonly record struct Frame(ReadOnlyMemory<float> Values, int Rows, int Columns)
    {
        public static Frame Of(OutputTensor output, int frame) =>
            new(output.OfFrame(frame), output.EntriesOf(frame), output.Shape.Length > 2 ? output.Shape[2] : 1);

        public ReadOnlySpan<float> Row(int index) => Values.Span.Slice(index * Columns, Columns);
    }
}

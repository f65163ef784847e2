using TtaService.Engine.Answers;
using TtaService.Engine.Execution;
using TtaService.Serving.Frames;

namespace TtaService.Serving.Streams;

/// <summary>Reads boxes, class maps and vectors from the outputs of a model, and what drift is told of them. Thread-safe.</summary>
/// <param name="answer">What the model answers.</param>
/// <param name="labels">Class names by index; empty when the model has none.</param>
internal sealed class AnswerReader(ModelAnswer answer, IReadOnlyList<string> labels)
{
    private readonly DetectionReader? _detections = answer.HasBoxes ? new DetectionReader(answer) : null;
    private readonly SegmentationReader? _segmentation = answer.Kind == AnswerKind.Segmentation ? new SegmentationReader(answer) : null;
    private readonly ModelOutput? _embedding = answer.Kind == AnswerKind.Embedding ? answer.Find(OutputKind.Embedding) : null;

    /// <summary>Whether the model answers more than classes and raw outputs.</summary>
    public bool Reads => _detections is not null || _segmentation is not null || _embedding is not null;

    /// <summary>A step's answers, to be read frame by frame.</summary>
    /// <param name="outputs">Of the step.</param>
    /// <param name="width">Of the model's input.</param>
    /// <param name="height">Of the model's input.</param>
    public Step Of(IReadOnlyList<OutputTensor> outputs, int width, int height) => new(this, outputs, width, height);

    /// <summary>The answers of one step. Not thread-safe.</summary>
    internal sealed class Step(AnswerReader reader, IReadOnlyList<OutputTensor> outputs, int width, int height)
    {
        // As the model is set, which is what most requests ask for and what drift follows.
        private readonly Dictionary<int, IReadOnlyList<Detection>> _usual = [];

        /// <summary>What was found in a frame.</summary>
        /// <param name="frame">Which.</param>
        /// <param name="view">How it lies in the input.</param>
        /// <param name="content">What the reply is to carry.</param>
        public FrameAnswer Read(int frame, FrameView view, ReplyContent content) => new()
        {
            Width = view.Width,
            Height = view.Height,
            Boxes = reader._detections is null ? [] : [.. Detections(frame, content).Select(found => reader.Box(found, view))],
            Mask = reader._segmentation is null ? null : reader.Mask(reader._segmentation.Read(outputs, frame, view.Upright, width, height), view, content.Mask),
            Embedding = reader._embedding is null ? [] : Embeddings.Read(outputs[reader._embedding.Index], frame),
        };

        /// <summary>What drift follows of a frame: the share of each class among its boxes or pixels (empty for none), and how unsure they are, 0 to 1.</summary>
        public (float[] Shares, double? Entropy) Summarize(int frame)
        {
            if (reader._segmentation is not null)
            {
                return reader._segmentation.Sample(outputs, frame);
            }

            return reader._detections is null ? ([], null) : reader.Summarize(Usual(frame));
        }

        private IReadOnlyList<Detection> Usual(int frame)
        {
            if (!_usual.TryGetValue(frame, out var found))
            {
                found = reader._detections!.Read(outputs, frame, reader.Settings, width, height);
                _usual[frame] = found;
            }

            return found;
        }

        private IReadOnlyList<Detection> Detections(int frame, ReplyContent content)
        {
            var settings = reader.Settings with
            {
                ScoreThreshold = content.ScoreThreshold ?? reader.Settings.ScoreThreshold,
                IouThreshold = content.IouThreshold ?? reader.Settings.IouThreshold,
                MaxBoxes = content.MaxBoxes ?? reader.Settings.MaxBoxes,
            };
            return settings == reader.Settings ? Usual(frame) : reader._detections!.Read(outputs, frame, settings, width, height);
        }
    }

    private DetectionSettings Settings => answer.Detection;

    private BoxAnswer Box(Detection found, FrameView view)
    {
        var (x1, y1, x2, y2) = view.ToFrame(found.X1, found.Y1, found.X2, found.Y2);
        return new BoxAnswer(x1, y1, x2, y2, found.Class, LabelOf(found.Class), found.Score, [.. found.Points.Select(point =>
        {
            var (x, y) = view.ToFrame(point.X, point.Y);
            return new PointAnswer(x, y, point.Score);
        })]);
    }

    private MaskAnswer Mask(ClassMap map, FrameView view, MaskForm form)
    {
        var shares = map.Shares.Select((share, index) => new ClassScore(index, LabelOf(index), share))
            .Where(entry => entry.Probability > 0)
            .OrderByDescending(entry => entry.Probability);
        if (form == MaskForm.None)
        {
            return new MaskAnswer { Shares = [.. shares] };
        }

        var classes = view.ToFrame(map.Classes);
        if (form == MaskForm.Png)
        {
            return new MaskAnswer { Shares = [.. shares], Png = ClassMapPng.Encode(classes, view.Width, view.Height) };
        }

        var (names, lengths) = (new List<int>(), new List<int>());
        for (var from = 0; from < classes.Length; from += lengths[^1])
        {
            var run = classes.AsSpan(from).IndexOfAnyExcept(classes[from]);
            names.Add(classes[from]);
            lengths.Add(run < 0 ? classes.Length - from : run);
        }

        return new MaskAnswer { Shares = [.. shares], RunClasses = [.. names], RunLengths = [.. lengths] };
    }

    private (float[] Shares, double? Entropy) Summarize(IReadOnlyList<Detection> found)
    {
        var classes = answer.Classes ?? labels.Count;
        if (found.Count == 0 || classes == 0)
        {
            return ([], null);
        }

        var (shares, entropy) = (new float[classes], 0.0);
        foreach (var box in found)
        {
            if (box.Class >= 0 && box.Class < classes)
            {
                shares[box.Class] += 1f / found.Count;
            }

            entropy += ModelOutput.Entropy(OutputKind.MultiLabelProbabilities, [box.Score]);
        }

        return (shares, entropy / found.Count);
    }

    private string LabelOf(int index) => index >= 0 && index < labels.Count ? labels[index] : string.Empty;
}

using System.Numerics.Tensors;
using TtaService.Engine.Execution;
using TtaService.Engine.Streams;

namespace TtaService.Evaluation;

/// <summary>Runs test streams through a model, frames of many streams in one pass.</summary>
/// <param name="model">A classifier: one of its outputs holds class scores.</param>
/// <param name="frames">The frames that the runs name.</param>
public sealed class Evaluator(AdaptiveModel model, EvaluationFrames frames)
{
    /// <summary>A last step with fewer frames joins the step before it.</summary>
    public const int SmallestRemainder = 4;

    private const int FramesInPass = 64;

    /// <summary>Runs every stream to its end.</summary>
    /// <param name="runs">The streams.</param>
    /// <param name="progress">Hears of every pass how many frames it had.</param>
    /// <param name="cancel">Stops between two passes.</param>
    /// <returns>A result a run, in the order given.</returns>
    /// <exception cref="EvaluationInterruptedException">It was cancelled; the exception has what was measured until then.</exception>
    /// <exception cref="DataFormatException">The model is no classifier, or the frames do not fit it.</exception>
    public IReadOnlyList<EvaluationResult> Run(IReadOnlyList<EvaluationRun> runs, IProgress<int>? progress = null, CancellationToken cancel = default)
    {
        var results = new EvaluationResult?[runs.Count];
        var waiting = new Queue<int>(Enumerable.Range(0, runs.Count));
        var active = new List<Stream>();
        try
        {
            while (waiting.Count > 0 || active.Count > 0)
            {
                if (cancel.IsCancellationRequested)
                {
                    active.ForEach(stream => results[stream.Index] = stream.Result);
                    var none = new EvaluationResult(new int[frames.Domains.Count], new int[frames.Domains.Count], [], null);
                    throw new EvaluationInterruptedException(Array.ConvertAll(results, result => result ?? none));
                }

                while (waiting.Count > 0 && (active.Count == 0 || active.Sum(stream => stream.Run.BatchSize) + runs[waiting.Peek()].BatchSize <= FramesInPass))
                {
                    var index = waiting.Dequeue();
                    active.Add(new Stream(index, runs[index], Open(runs[index]), frames.Domains.Count));
                }

                Pass(active, progress);
                foreach (var ended in active.Where(stream => stream.HasEnded).ToList())
                {
                    results[ended.Index] = ended.Result;
                    model.Release(ended.State);
                    active.Remove(ended);
                }
            }
        }
        finally
        {
            active.ForEach(stream => model.Release(stream.State));
        }

        return results!;
    }

    private StreamState Open(EvaluationRun run) => run.Snapshot.IsEmpty ? model.CreateState(run.Method, run.Seed) : model.Import(run.Snapshot.Span);

    private void Pass(List<Stream> active, IProgress<int>? progress)
    {
        var steps = active.ConvertAll(stream => new StreamStep(stream.State, frames.Read(stream.Next())));
        if (model.WhyUnfit(steps[0].Frames) is { } reason)
        {
            throw new DataFormatException(reason);
        }

        var results = model.Run(steps);
        for (var i = 0; i < results.Count; i++)
        {
            active[i].Take(results[i], model, frames.Labels);
        }

        progress?.Report(steps.Sum(step => step.Frames.Count));
    }

    private sealed class Stream(int index, EvaluationRun run, StreamState state, int domains)
    {
        private readonly int[] _frames = new int[domains];
        private readonly int[] _errors = new int[domains];
        private readonly List<float[]> _logits = [];
        private int _from;
        private int _to;
        private string? _refusal;

        public int Index => index;

        public EvaluationRun Run => run;

        public StreamState State => state;

        public bool HasEnded => _to == run.Samples.Count || _refusal is not null;

        public EvaluationResult Result => new(_frames, _errors, _logits, _refusal);

        public EvaluationSample[] Next()
        {
            _from = _to;
            _to = Math.Min(_from + run.BatchSize, run.Samples.Count);
            if (run.BatchSize >= SmallestRemainder && run.Samples.Count - _to < SmallestRemainder)
            {
                _to = run.Samples.Count;
            }

            return [.. run.Samples.Skip(_from).Take(_to - _from)];
        }

        public void Take(StepResult result, AdaptiveModel model, IReadOnlyList<int> labels)
        {
            if (result.Status != StepStatus.Ok)
            {
                _refusal = result.Message ?? result.Status.ToString();
                return;
            }

            if (model.Scores is not { } scores || result.Outputs[scores.Index] is not { Shape.Length: >= 2 } logits)
            {
                var outputs = string.Join(", ", result.Outputs.Select(output => $"{output.Name} [{string.Join(',', output.Shape)}]"));
                throw new DataFormatException($"none of the model's outputs ({outputs}) holds class scores; only classifiers, with [N, classes], can be evaluated");
            }

            if (scores.IsMultiLabel)
            {
                throw new DataFormatException($"the model's output {logits.Name} holds labels that may hold together ({scores.Reason}), the data have one class an image; "
                    + "set the output's kind in model.json if its classes exclude each other");
            }

            var classes = logits.Shape[1];
            for (var i = _from; i < _to; i++)
            {
                var row = logits.Values.AsSpan((i - _from) * classes, classes);
                var sample = run.Samples[i];
                if (labels[sample.Image] >= classes)
                {
                    throw new DataFormatException($"image {sample.Image} has class {labels[sample.Image]}, but the model's output {logits.Name} has {classes} classes, "
                        + "counted from 0; use data labelled with the model's classes");
                }

                _frames[sample.Domain]++;
                _errors[sample.Domain] += TensorPrimitives.IndexOfMax<float>(row) == labels[sample.Image] ? 0 : 1;
                if (run.KeepsLogits)
                {
                    _logits.Add(row.ToArray());
                }
            }
        }
    }
}

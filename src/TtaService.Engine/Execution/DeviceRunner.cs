using TorchSharp;
using TtaService.Engine.Drift;
using TtaService.Engine.Normalization;
using TtaService.Engine.Streams;
using static TorchSharp.torch;
using Tensor = TorchSharp.torch.Tensor;

namespace TtaService.Engine.Execution;

/// <summary>Runs batches on any device, in any precision: a gather of the steps' rows, the pass, a scatter of those that are committed.</summary>
/// <remarks>The device is waited for once a batch, when the outputs are read.</remarks>
internal sealed class DeviceRunner : IBatchRunner, IDisposable
{
    private readonly AdaptiveModel _model;
    private readonly Device _device;
    private readonly SiteParameters[] _parameters;
    private readonly SiteRangeTensors[]? _ranges;

    public DeviceRunner(AdaptiveModel model, Device device)
    {
        (_model, _device) = (model, device);
        _parameters = [.. model.Sites.Select(site => new SiteParameters(site, device))];
        _ranges = model.Ranges is { } ranges ? [.. ranges.Select(range => new SiteRangeTensors(range, device))] : null;
    }

    public void Run(IReadOnlyList<StreamStep> steps, List<int> indices, StepResult[] results, bool adapts)
    {
        using var scope = NewDisposeScope();
        using var mode = inference_mode();

        // Like steps lie together, so that a site meets few groups.
        var batches = indices
            .GroupBy(index => steps[index].State.Runtime!)
            .Select(group => new RuntimeBatch(group.Key, [.. group.OrderBy(index => steps[index].Frames.Count)]))
            .ToArray();
        int[] order = [.. batches.SelectMany(batch => batch.Indices)];
        var frames = order.Sum(index => steps[index].Frames.Count);
        var observed = adapts ? _model.Observed : null;
        var groups = new List<StepGroup>();
        Rows? observations = observed is null ? null : new Rows((DeviceArena)observed.Arena, order.Select(index => steps[index].State.ObservedRow), _device);
        if (adapts)
        {
            var (firstStep, firstFrame) = (0, 0);
            foreach (var batch in batches)
            {
                batch.Rows = new Rows((DeviceArena)batch.Runtime.Arena, batch.Indices.Select(index => steps[index].State.Row), _device);
                foreach (var like in batch.Indices.Select((index, place) => (Step: steps[index], Place: place)).GroupBy(entry => entry.Step.Frames.Count))
                {
                    var own = like.ToArray();
                    groups.Add(Group(batch, [.. own.Select(entry => entry.Step)], own[0].Place, firstStep, firstFrame, observed, observations));
                    firstStep += own.Length;
                    firstFrame += own.Length * like.Key;
                }
            }
        }

        var outputs = _model.Forward([.. order.Select(index => steps[index].Frames)], frames, _ => adapts ? new DevicePass(groups, _parameters, _ranges) : null);
        using var commit = _model.TimeCommit();
        var at = 0;
        var novelty = adapts && observed is not null ? groups.SelectMany(group => ToHost<float>(group.Observation!.Novelty)).ToArray() : [];
        var outside = adapts && _ranges is not null ? groups.SelectMany(group => ToHost<float>(group.Outside!).Select(sites => FrameVerdicts.IsOutside((int)sites, group.JudgedSites))).ToArray() : [];
        var misfits = adapts && _ranges is not null
            ? groups.SelectMany(group => group.Misfit is { } misfit ? ToHost<float>(misfit) : new float[group.Steps]).ToArray()
            : [];
        var observedFinite = observations?.Finite() ?? [];
        var (taken, watched) = (new List<int>(), new List<int>());
        var inOrder = 0;
        foreach (var batch in batches)
        {
            var finite = batch.Rows?.Finite();
            taken.Clear();
            for (var place = 0; place < batch.Indices.Length; place++, inOrder++)
            {
                var (index, proposed) = (batch.Indices[place], place);
                var step = steps[index];
                var learns = step.Teaches && (outside.Length == 0 || Array.IndexOf(outside, true, at, step.Frames.Count) < 0);
                var answer = StepAnswers.Judge(step, at, outputs, frames, () => finite is null || !learns || finite[proposed] ? null : batch.Rows!.NotFinite(batch.Runtime.Layout, proposed));
                if (answer.Status == StepStatus.Ok)
                {
                    step.State.Misfit = misfits.Length == 0 ? 0 : misfits[inOrder];
                    answer = StepAnswers.Count(step, answer, learns);
                    if (!step.Freeze && learns)
                    {
                        taken.Add(place);
                    }

                    if (observed is not null && learns && observedFinite[inOrder])
                    {
                        watched.Add(inOrder);
                        StepAnswers.CountObserved(step.State, novelty.AsSpan(at, step.Frames.Count));
                    }
                }

                results[index] = answer;
                at += step.Frames.Count;
            }

            batch.Rows?.Commit(taken);
        }

        observations?.Commit(watched);
    }

    public void Dispose()
    {
        foreach (var parameters in _parameters)
        {
            parameters.Dispose();
        }

        foreach (var range in _ranges ?? [])
        {
            range.Dispose();
        }
    }

    private StepGroup Group(RuntimeBatch batch, StreamStep[] steps, int place, int firstStep, int firstFrame, ObservedStatistics? observed, Rows? observations)
    {
        var frames = steps[0].Frames.Count;
        float[][] figures = Array.ConvertAll(steps, step => batch.Runtime.Method.StepFigures(frames, step.State.Frames));
        return new StepGroup
        {
            Runtime = batch.Runtime,
            FirstFrame = firstFrame,
            Steps = steps.Length,
            Frames = frames,
            State = batch.Rows!.Current.narrow(0, place, steps.Length),
            Next = batch.Rows.Next.narrow(0, place, steps.Length),
            Outside = _ranges is null ? null : zeros([steps.Length, frames], device: _device),
            Misfit = _ranges is not null && Array.Exists(steps, step => step.ComparesFit) ? tensor(Enumerable.Repeat(float.MinValue, steps.Length).ToArray(), device: _device) : null,
            Figures = tensor(figures.SelectMany(step => step).ToArray(), [steps.Length, figures[0].Length], device: _device),
            Observation = observed is null
                ? null
                : new GroupObservation(
                    observed,
                    Array.ConvertAll(steps, step => step.State.ObservedFrames),
                    frames,
                    observations!.Current.narrow(0, firstStep, steps.Length),
                    observations.Next.narrow(0, firstStep, steps.Length)),
        };
    }

    private static T[] ToHost<T>(Tensor values)
        where T : unmanaged
    {
        using var host = values.contiguous().cpu();
        return host.data<T>().ToArray();
    }

    /// <summary>The steps of one method.</summary>
    private sealed class RuntimeBatch(MethodRuntime runtime, int[] indices)
    {
        public MethodRuntime Runtime => runtime;

        public int[] Indices => indices;

        public Rows? Rows { get; set; }
    }

    /// <summary>Rows of an arena as the pass found them and as it proposes them.</summary>
    private sealed class Rows
    {
        private readonly DeviceArena _arena;
        private readonly Tensor _places;

        public Rows(DeviceArena arena, IEnumerable<int> rows, Device device)
        {
            _arena = arena;
            _places = tensor(rows.Select(row => (long)row).ToArray(), device: device);
            Current = arena.Gather(_places);
            Next = Current.clone();
        }

        public Tensor Current { get; }

        public Tensor Next { get; }

        public bool[] Finite() => ToHost<bool>(Next.isfinite().all(1));

        public string? NotFinite(StateLayout layout, int place) => StepAnswers.NotFinite(layout, ToHost<float>(Next[place]));

        public void Commit(List<int> taken)
        {
            if (taken.Count == _places.shape[0])
            {
                _arena.Scatter(_places, Next);
            }
            else if (taken.Count > 0)
            {
                var chosen = tensor(taken.Select(place => (long)place).ToArray(), device: _places.device);
                _arena.Scatter(_places.index_select(0, chosen), Next.index_select(0, chosen));
            }
        }
    }
}

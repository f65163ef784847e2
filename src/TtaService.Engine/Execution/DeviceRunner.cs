using TorchSharp;
using TtaService.Engine.Drift;
using TtaService.Engine.Normalization;
using TtaService.Engine.Normalization.Affine;
using TtaService.Engine.Onnx;
using TtaService.Engine.Streams;
using TtaService.Engine.Tensors;
using static TorchSharp.torch;
using Tensor = TorchSharp.torch.Tensor;

namespace TtaService.Engine.Execution;

/// <summary>Runs batches on any device, in any precision: a gather of the steps' rows, the pass, a scatter of those that are committed.</summary>
/// <remarks>The device is waited for once a pass, when the outputs are read.</remarks>
internal sealed class DeviceRunner : IBatchRunner, IDisposable
{
    private readonly ModelPass _pass;
    private readonly Device _device;
    private readonly SiteParameters[] _parameters;
    private readonly SiteRangeTensors[]? _ranges;

    public DeviceRunner(ModelPass pass, Device device)
    {
        (_pass, _device) = (pass, device);
        _parameters = [.. pass.Sites.Select(site => new SiteParameters(site, device))];
        _ranges = pass.Ranges is { } ranges ? [.. ranges.Select(range => new SiteRangeTensors(range, device))] : null;
    }

    /// <summary>A runner on the host, whose tensors gradients may pass, whatever mode the caller is in.</summary>
    public static DeviceRunner ForTraining(ModelPass pass, Device device)
    {
        using var mode = inference_mode(false);
        return new DeviceRunner(pass, device);
    }

    public IProposedSteps Run(IReadOnlyList<StreamStep> steps, IReadOnlyList<int> indices, StepResult[] results, PassForm form)
    {
        var adapts = form != PassForm.Folded;
        var rounds = form == PassForm.Trained ? ((IAffineMethod)steps[indices[0]].State.Runtime!.Method).Rounds : 1;
        var scope = NewDisposeScope();
        var batch = new Batch([.. indices.Select(index => new ProposedStep(steps[index], index))], results, adapts ? _pass.Observed : null, _pass.Scores, scope);
        try
        {
            // No gradient passes what inference mode makes, in which a pass that gives way may have called.
            using var outer = form == PassForm.Trained ? inference_mode(false) : null;
            using var mode = form == PassForm.Trained ? (IDisposable)no_grad() : inference_mode();
            var passes = PassSchedule.Of([.. indices.Select(index => steps[index].Frames.Count)], _pass.Plan.FramesPerPass);
            foreach (var parts in form == PassForm.Trained ? Trainable(batch, passes) : passes)
            {
                for (var round = 1; round <= rounds; round++)
                {
                    Run(batch, parts, form, answers: round == rounds);
                }
            }

            using var judging = _pass.TimeCommit();
            batch.Judge();
            return batch;
        }
        catch
        {
            batch.Dispose();
            throw;
        }
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

    // Rounds before the last one propose states, and answer nothing.
    private void Run(Batch batch, StepPart[] parts, PassForm form, bool answers)
    {
        var (adapts, trains) = (form != PassForm.Folded, form == PassForm.Trained);
        // Like steps lie together, so that a site meets few groups.
        var runtimes = parts
            .GroupBy(part => batch.Steps[part.Step].Runtime)
            .Select(group => (Runtime: group.Key, Parts: group.OrderBy(part => part.Count).ToArray()))
            .ToArray();
        StepPart[] order = [.. runtimes.SelectMany(runtime => runtime.Parts)];
        var frames = order.Sum(part => part.Count);
        var groups = new List<StepGroup>();
        var whole = new List<WholePassParts>();
        var trained = new List<TrainedParts>();
        var memories = new PassMemory?[order.Length];
        if (adapts)
        {
            var observations = batch.Observed is null || !answers ? null : Rows.Of(batch, order, observed: true, _device);
            var (firstStep, firstFrame) = (0, 0);
            foreach (var (runtime, own) in runtimes)
            {
                var rows = Rows.Of(batch, own, observed: false, _device);
                var wholeParts = runtime.Method is IPassMethod ? new WholePassParts(batch, own, rows, memories.AsMemory(firstStep, own.Length)) : null;
                if (wholeParts is not null)
                {
                    whole.Add(wholeParts);
                }

                var trainedParts = trains ? new TrainedParts(_pass, runtime, rows.Current, rows.Next) : null;
                if (trainedParts is not null)
                {
                    trained.Add(trainedParts);
                }

                foreach (var like in own.Select((part, place) => (Part: part, Place: place)).GroupBy(entry => entry.Part.Count))
                {
                    var entries = like.ToArray();
                    groups.Add(Group(batch, runtime, [.. entries.Select(entry => entry.Part)], rows, entries[0].Place, firstStep, firstFrame, observations, wholeParts, trains));
                    trainedParts?.Add(groups[^1], entries[0].Place);
                    firstStep += entries.Length;
                    firstFrame += entries.Length * like.Key;
                }
            }
        }

        var blocks = order.Select(part => batch.Steps[part.Step].Step.Frames.Slice(part.First, part.Count)).ToList();
        var filled = _pass.Filled(frames);
        if (filled > 0)
        {
            blocks.AddRange(Enumerable.Repeat(blocks[^1].Slice(blocks[^1].Count - 1, 1), filled));
            groups.Add(_pass.Filler.InGroup(frames, filled));
        }

        try
        {
            var sites = adapts ? new DevicePass(groups, _parameters, _pass.Plan.AtSource, _ranges) : null;
            var outputs = trains ? Train([.. blocks], frames + filled, sites!, trained) : _pass.Forward([.. blocks], frames + filled, _ => sites);
            whole.ForEach(parts => parts.Reconsider(outputs, frames + filled));
            var source = PassMemory.Source(_pass, memories, i => blocks[i]);
            foreach (var wholeParts in whole)
            {
                wholeParts.Complete(outputs, frames + filled, source);
            }

            float[] novelty = [.. groups.Where(group => group.Observation is not null).SelectMany(group => group.Observation!.Novelty.ToHost<float>())];
            // Behind the last step may come frames that fill the pass up; nobody asks about them.
            var judged = groups.Where(group => group.Outside is not null).ToArray();
            var outside = judged.SelectMany(group => group.Outside!.ToHost<float>().Select(outside => outside > 0)).ToArray();
            var misfits = judged
                .SelectMany(group => group.Misfit is { } misfit ? misfit.ToHost<float>() : new float[group.Steps])
                .ToArray();
            string?[] faults = [.. groups.SelectMany(group => group.Faults)];
            var (at, inOrder) = (0, 0);
            foreach (var part in order)
            {
                var step = batch.Steps[part.Step];
                step.Outputs.TakeFault(faults.Length > 0 ? faults[inOrder] ?? memories[inOrder]?.Fault : null);
                if (answers)
                {
                    step.Outputs.Take(outputs, at, part.Count);
                }

                if (novelty.Length > 0)
                {
                    step.Novelty.AddRange(novelty.AsSpan(at, part.Count));
                }

                if (outside.Length > 0)
                {
                    step.AnyOutside |= Array.IndexOf(outside, true, at, part.Count) >= 0;
                    step.Misfit += misfits[inOrder];
                }

                inOrder++;
                at += part.Count;
            }
        }
        catch (PassException impossible)
        {
            foreach (var part in order)
            {
                batch.Steps[part.Step].Outputs.Failure = impossible.Message;
            }
        }
        finally
        {
            groups.ForEach(group => group.Affine?.Dispose());
        }
    }

    // No pass keeps more for its way back than it may; a part that would, alone, is refused with its step.
    private IEnumerable<StepPart[]> Trainable(Batch batch, List<StepPart[]> passes)
    {
        var alone = new DevicePass([_pass.Filler.InGroup(0, _pass.Plan.Computed(1))], _parameters, _pass.Plan.AtSource);
        var bytes = _pass.GradientBytesOf(batch.Steps[0].Step.Frames.Slice(0, 1), alone);
        var most = _pass.GradientBytes / bytes;
        foreach (var part in passes.SelectMany(parts => parts).Where(part => _pass.Plan.Computed(part.Count) > most))
        {
            var step = batch.Steps[part.Step];
            step.Outputs.Failure = $"{step.Runtime.Settings.Name} would keep about {part.Count * bytes:N0} bytes of a step of {part.Count} frames of this "
                + $"size for its gradients, limit {_pass.GradientBytes:N0} (GradientBytes); send at most {most} frames a step, or use a method without gradients";
        }

        return passes.SelectMany(parts => PassSchedule.Packed([.. parts.Where(part => batch.Steps[part.Step].Outputs.Failure is null)], most));
    }

    private OutputTensor[] Train(FrameBlock[] blocks, int frames, DevicePass sites, List<TrainedParts> trained)
    {
        var outputs = _pass.Train(blocks, frames, sites, read =>
        {
            var weights = new float[frames];
            trained.ForEach(parts => parts.Weigh(read, weights));
            return weights;
        });
        trained.ForEach(parts => parts.Learn());
        return outputs;
    }

    private StepGroup Group(
        Batch batch, MethodRuntime runtime, StepPart[] parts, Rows rows, int place, int firstStep, int firstFrame, Rows? observations, WholePassParts? whole, bool trains)
    {
        var frames = parts[0].Count;
        var faults = new string?[parts.Length];
        var figures = StepFigures.Of(runtime, frames, Array.ConvertAll(parts, part => batch.Steps[part.Step].FramesBefore(part)), faults);
        var group = new StepGroup
        {
            Runtime = runtime,
            FirstFrame = firstFrame,
            Steps = parts.Length,
            Frames = frames,
            State = rows.Current.narrow(0, place, parts.Length),
            Next = rows.Next.narrow(0, place, parts.Length),
            Outside = _ranges is null ? null : zeros([parts.Length, frames], device: _device),
            Misfit = _ranges is not null && Array.Exists(parts, part => batch.Steps[part.Step].Step.ComparesFit) ? zeros([parts.Length], device: _device) : null,
            Figures = tensor(figures, [parts.Length, figures.Length / parts.Length], device: _device),
            Affine = runtime.Method is IAffineMethod ? new AffineRows(runtime, _pass.Sites, rows.Current.narrow(0, place, parts.Length), trains) : null,
            Begun = whole?.Begun(place, parts.Length, _device),
            Kept = whole?.Kept(place, parts.Length, _device),
            Observation = observations is null
                ? null
                : new GroupObservation(
                    batch.Observed!,
                    Array.ConvertAll(parts, part => batch.Steps[part.Step].Step.State.ObservedFrames + part.First),
                    frames,
                    observations.Current.narrow(0, firstStep, parts.Length),
                    observations.Next.narrow(0, firstStep, parts.Length)),
        };
        for (var i = 0; i < parts.Length; i++)
        {
            group.Faults[i] = faults[i] ?? whole?.FaultOf(place + i);
        }

        whole?.Add(group, place, firstStep);
        return group;
    }

    /// <summary>A step with the rows that it proposes.</summary>
    private sealed class ProposedStep(StreamStep step, int index)
    {
        public StreamStep Step => step;

        public int Index => index;

        public MethodRuntime Runtime => step.State.Runtime!;

        public StepOutputs Outputs { get; } = new();

        public List<float> Novelty { get; } = [];

        /// <summary>Whether a frame lies far outside of what the model knows.</summary>
        public bool AnyOutside { get; set; }

        public double Misfit { get; set; }

        /// <summary>Names a proposed tensor that is not finite; null when all are.</summary>
        public string? NotFinite() => State is not { } place || place.IsFinite ? null : place.NotFinite(Runtime.Layout);

        public bool Learns => step.Teaches && !AnyOutside;

        /// <summary>Where its state was proposed last; null before, or where nothing adapts.</summary>
        public Place? State { get; set; }

        /// <summary>Where its observation was proposed last.</summary>
        public Place? Observation { get; set; }

        // A frozen stream stays where it is, from part to part, too.
        public long FramesBefore(StepPart part) => step.State.Frames + (step.Freeze ? 0 : part.First);
    }

    /// <summary>The steps of a batch, and the scope that their proposals live in.</summary>
    private sealed class Batch(ProposedStep[] steps, StepResult[] results, ObservedStatistics? observed, ModelOutput? scores, DisposeScope scope) : IProposedSteps
    {
        private readonly List<Rows> _written = [];

        public ProposedStep[] Steps => steps;

        public ObservedStatistics? Observed => observed;

        public void Judge()
        {
            foreach (var step in steps)
            {
                step.Step.State.Misfit = step.Misfit;
                results[step.Index] = step.Outputs.Joined() is { } own
                    ? step.Outputs.Answer(StepAnswers.Judge(step.Step, own, step.Learns, step.NotFinite), scores)
                    : StepAnswers.Unchanged(step.Step.State, step.Outputs.FailedAs, step.Outputs.Failure!);
            }
        }

        private IEnumerable<ProposedStep> Answered => steps.Where(step => results[step.Index].Status == StepStatus.Ok);

        private IEnumerable<ProposedStep> Watched => Answered.Where(step => step.Learns && step.Observation is { IsFinite: true });

        public void Write()
        {
            var learned = Answered.Where(step => !step.Step.Freeze && step.Learns && step.State is not null);
            Place[] places = [.. learned.Select(step => step.State!.Value), .. Watched.Select(step => step.Observation!.Value)];
            try
            {
                using var mode = inference_mode();
                foreach (var rows in places.GroupBy(place => place.Rows))
                {
                    _written.Add(rows.Key);
                    rows.Key.Commit([.. rows.Select(place => place.Index)]);
                }
            }
            catch
            {
                TryUndo();
                throw;
            }
        }

        public void TryUndo()
        {
            // Each for itself: a device that fails may fail again.
            using var mode = inference_mode();
            _written.ForEach(rows => rows.TryUndo());
        }

        public void Count()
        {
            foreach (var step in Answered)
            {
                StepAnswers.Count(step.Step, results[step.Index]);
            }

            foreach (var step in Watched)
            {
                StepAnswers.CountObserved(step.Step.State, [.. step.Novelty], results[step.Index], scores);
            }
        }

        // Scopes are the thread's own and nested: the newest is disposed first.
        public void Dispose() => scope.Dispose();
    }

    /// <summary>The parts of a pass whose method sees the whole of it: it begins and completes them on the host.</summary>
    private sealed class WholePassParts
    {
        private readonly Batch _batch;
        private readonly StepPart[] _parts;
        private readonly Rows _rows;
        private readonly Memory<PassMemory?> _memories;
        private readonly float[] _current;
        private readonly int _floats;
        private readonly List<(StepGroup Group, int Place, int FirstStep)> _groups = [];

        public WholePassParts(Batch batch, StepPart[] parts, Rows rows, Memory<PassMemory?> memories)
        {
            (_batch, _parts, _rows, _memories) = (batch, parts, rows, memories);
            _current = rows.Current.ToHost<float>();
            _floats = _current.Length / parts.Length;
            for (var place = 0; place < parts.Length; place++)
            {
                var step = batch.Steps[parts[place].Step];
                var row = _current.AsSpan(place * _floats, _floats);
                memories.Span[place] = PassMemory.Begin(step.Runtime, parts[place].Count, step.FramesBefore(parts[place]), step.Step.Freeze, row);
            }
        }

        /// <summary>What sites read, [S,floats].</summary>
        public Tensor Begun(int place, int count, Device device)
        {
            var joined = PassMemory.Joined([.. Enumerable.Range(place, count).Select(at => _memories.Span[at]!.Begun.ToArray())]);
            return tensor(joined, [count, joined.Length / count], device: device);
        }

        /// <summary>What sites keep, [S,floats].</summary>
        public Tensor Kept(int place, int count, Device device) => zeros([count, Enumerable.Range(place, count).Max(at => _memories.Span[at]!.Kept.Length)], device: device);

        /// <summary>Why a step's method failed at the beginning; null when it did not.</summary>
        public string? FaultOf(int place) => _memories.Span[place]!.Fault;

        public void Add(StepGroup group, int place, int firstStep) => _groups.Add((group, place, firstStep));

        public void Reconsider(OutputTensor[] outputs, int frames)
        {
            foreach (var (group, first, _) in _groups)
            {
                for (var i = 0; i < group.Steps; i++)
                {
                    _memories.Span[first + i]!.Reconsider(_current.AsSpan((first + i) * _floats, _floats), outputs, group.FirstFrame + (i * group.Frames), frames);
                }
            }
        }

        public void Complete(OutputTensor[] outputs, int frames, ArraySegment<float>[] source)
        {
            var next = new float[_current.Length];
            foreach (var (group, first, firstStep) in _groups)
            {
                var kept = group.Kept!.ToHost<float>();
                var floats = kept.Length / group.Steps;
                for (var i = 0; i < group.Steps; i++)
                {
                    var place = first + i;
                    using var memory = _memories.Span[place]!;
                    kept.AsSpan(i * floats, memory.Kept.Length).CopyTo(memory.Kept);
                    var (row, firstFrame) = (place * _floats, group.FirstFrame + (i * group.Frames));
                    memory.Complete(_current.AsSpan(row, _floats), next.AsSpan(row, _floats), outputs, firstFrame, frames, source[firstStep + i]);
                    _batch.Steps[_parts[place].Step].Outputs.TakeUnfiltered(memory.Unfiltered);
                }
            }

            _rows.Next.copy_(tensor(next).view_as(_rows.Next));
        }
    }

    /// <summary>A step's row among those that a pass proposes.</summary>
    private readonly record struct Place(Rows Rows, int Index)
    {
        public bool IsFinite => Rows.Finite[Index];

        public string? NotFinite(StateLayout layout) => StepAnswers.NotFinite(layout, Rows.Next[Index].ToHost<float>());
    }

    /// <summary>Rows of an arena as the pass found them and as it proposes them.</summary>
    private sealed class Rows
    {
        private readonly StateArena _arena;
        private readonly Tensor _places;
        private bool[]? _finite;
        private (Tensor Places, Tensor Values)? _before;

        private Rows(StateArena arena, int[] rows, Tensor[]? current, Device device)
        {
            _arena = arena;
            _places = tensor(Array.ConvertAll(rows, row => (long)row), device: device);
            Current = current is null ? arena.Gather(_places) : stack(current);
            Next = Current.clone();
        }

        public Tensor Current { get; }

        public Tensor Next { get; }

        public bool[] Finite => _finite ??= Next.isfinite().all(1).ToHost<bool>();

        /// <summary>The rows of parts, one behind another: those that the parts before them proposed, else those of the arena.</summary>
        public static Rows Of(Batch batch, StepPart[] parts, bool observed, Device device)
        {
            var steps = Array.ConvertAll(parts, part => batch.Steps[part.Step]);
            var arena = observed ? batch.Observed!.Arena : steps[0].Runtime.Arena;
            var committed = Array.ConvertAll(steps, step => observed ? step.Step.State.ObservedRow : step.Step.State.Row);
            var earlier = Array.ConvertAll(steps, step => observed ? step.Observation : step.Step.Freeze ? null : step.State);
            Tensor[]? current = null;
            if (Array.Exists(earlier, place => place is not null))
            {
                var gathered = arena.Gather(tensor(Array.ConvertAll(committed, row => (long)row), device: device));
                current = [.. earlier.Select((place, i) => place is { } proposed ? proposed.Rows.Next[proposed.Index] : gathered[i])];
            }

            var rows = new Rows(arena, committed, current, device);
            for (var i = 0; i < steps.Length; i++)
            {
                if (observed)
                {
                    steps[i].Observation = new Place(rows, i);
                }
                else
                {
                    steps[i].State = new Place(rows, i);
                }
            }

            return rows;
        }

        public void Commit(int[] taken)
        {
            var (places, values) = (_places, Next);
            if (taken.Length < _places.shape[0])
            {
                var chosen = tensor(Array.ConvertAll(taken, place => (long)place), device: _places.device);
                (places, values) = (_places.index_select(0, chosen), Next.index_select(0, chosen));
            }

            _before = (places, _arena.Gather(places));
            _arena.Scatter(places, values);
        }

        public void TryUndo()
        {
            try
            {
                if (_before is { } before)
                {
                    _arena.Scatter(before.Places, before.Values);
                }
            }
            catch (Exception)
            {
                // What ended the commit is told.
            }
        }
    }
}

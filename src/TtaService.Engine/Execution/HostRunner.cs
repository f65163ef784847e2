using System.Buffers;
using TtaService.Engine.Drift;
using TtaService.Engine.Onnx;
using TtaService.Engine.Streams;

namespace TtaService.Engine.Execution;

/// <summary>Runs batches on the CPU in float32: states in native memory, sites by the SIMD kernels.</summary>
internal sealed class HostRunner(ModelPass pass) : IBatchRunner
{
    public IProposedSteps Run(IReadOnlyList<StreamStep> steps, IReadOnlyList<int> indices, StepResult[] results, PassForm form)
    {
        var adapts = form == PassForm.Adaptive;
        var batch = new Batch(steps, indices, results, adapts ? pass.Observed : null, pass.Scores, adapts, judges: adapts && pass.Ranges is not null);
        try
        {
            foreach (var parts in PassSchedule.Of([.. indices.Select(index => steps[index].Frames.Count)], pass.Plan.FramesPerPass))
            {
                Run(batch, parts);
            }

            using var judging = pass.TimeCommit();
            batch.Judge();
            return batch;
        }
        catch
        {
            batch.Dispose();
            throw;
        }
    }

    private void Run(Batch batch, StepPart[] parts)
    {
        var filled = pass.Filled(parts.Sum(part => part.Count));
        var blocks = new List<FrameBlock>(parts.Length + filled);
        var passes = new List<StepInPass>(parts.Length + 1);
        var at = 0;
        foreach (var part in parts)
        {
            blocks.Add(batch.Steps[part.Step].Step.Frames.Slice(part.First, part.Count));
            if (batch.Adapts)
            {
                passes.Add(batch.Steps[part.Step].InPass(part, at));
            }

            at = checked(at + part.Count);
        }

        if (filled > 0)
        {
            blocks.AddRange(Enumerable.Repeat(blocks[^1].Slice(blocks[^1].Count - 1, 1), filled));
            passes.Add(pass.Filler.InPass(at, filled));
        }

        try
        {
            var frames = at + filled;
            var outputs = pass.Forward([.. blocks], frames, threads => batch.Adapts ? new ForwardPass(passes, threads, pass.Plan.AtSource, pass.Ranges) : null);
            for (var i = 0; batch.Adapts && i < parts.Length; i++)
            {
                batch.Steps[parts[i].Step].Reconsider(passes[i], outputs, frames);
            }

            var source = PassMemory.Source(pass, [.. passes.Select(step => step.Memory)], i => blocks[i]);
            at = 0;
            for (var i = 0; i < parts.Length; i++)
            {
                var step = batch.Steps[parts[i].Step];
                if (batch.Adapts)
                {
                    step.Complete(passes[i], outputs, frames, source[i]);
                }

                step.Outputs.Take(outputs, at, parts[i].Count);
                at += parts[i].Count;
            }
        }
        catch (PassException impossible)
        {
            foreach (var part in parts)
            {
                batch.Steps[part.Step].Outputs.Failure = impossible.Message;
            }
        }
    }

    /// <summary>The steps of a batch with the rows that they propose.</summary>
    private sealed class Batch : IProposedSteps
    {
        private readonly IReadOnlyList<int> _indices;
        private readonly StepResult[] _results;

        public Batch(
            IReadOnlyList<StreamStep> steps, IReadOnlyList<int> indices, StepResult[] results, ObservedStatistics? observed, ModelOutput? scores, bool adapts, bool judges)
        {
            (_indices, _results, Adapts) = (indices, results, adapts);
            Steps = [.. indices.Select(index => new ProposedStep(steps[index], observed, scores, judges))];
        }

        public bool Adapts { get; }

        public ProposedStep[] Steps { get; }

        public void Judge()
        {
            for (var i = 0; i < Steps.Length; i++)
            {
                _results[_indices[i]] = Steps[i].Judge(Adapts);
            }
        }

        // Rows change hands when they are counted, which can't fail.
        public void Write()
        {
        }

        public void TryUndo()
        {
        }

        public void Count()
        {
            for (var i = 0; i < Steps.Length; i++)
            {
                if (_results[_indices[i]].Status == StepStatus.Ok)
                {
                    Steps[i].Commit(_results[_indices[i]]);
                }
            }
        }

        public void Dispose() => Array.ForEach(Steps, step => step.Dispose());
    }

    /// <summary>A step with the rows that it proposes; a part of it goes on from what the part before it proposed.</summary>
    private sealed unsafe class ProposedStep : IDisposable
    {
        private readonly StreamStep _step;
        private readonly ObservedStatistics? _observed;
        private readonly ModelOutput? _scores;
        private readonly HostArena _arena;
        private readonly HostArena? _observedArena;
        private readonly bool _judges;
        private readonly List<FrameVerdicts> _verdicts = [];
        private readonly float[] _novelty = [];
        private readonly MemoryHandle _pin;
        private Proposal? _state;
        private Proposal? _observation;

        public ProposedStep(StreamStep step, ObservedStatistics? observed, ModelOutput? scores, bool judges)
        {
            (_step, _observed, _scores, _judges) = (step, observed, scores, judges);
            _arena = (HostArena)step.State.Runtime!.Arena;
            if (observed is not null)
            {
                _observedArena = (HostArena)observed.Arena;
                _novelty = ArrayPool<float>.Shared.Rent(step.Frames.Count);
                Array.Clear(_novelty);
                _pin = _novelty.AsMemory().Pin();
            }
        }

        public StreamStep Step => _step;

        public StepOutputs Outputs { get; } = new();

        // What one frame far outside would teach is not worth what the others would.
        private bool Learns => _step.Teaches && !_verdicts.Exists(verdicts => verdicts.AnyOutside);

        private Span<float> Novelty => _novelty.AsSpan(0, _step.Frames.Count);

        public StepInPass InPass(StepPart part, int firstFrame)
        {
            var state = _step.State;
            _state ??= new Proposal(_arena, state.Row);
            // A frozen stream stays where it is, from part to part, too.
            var before = _step.Freeze ? 0 : part.First;
            var next = _state.Advance(chained: !_step.Freeze, out var row);
            var observation = default(StepObservation);
            if (_observed is not null)
            {
                _observation ??= new Proposal(_observedArena!, state.ObservedRow);
                var observedNext = _observation.Advance(chained: true, out var observedRow);
                observation = new StepObservation(_observed, state.ObservedFrames + part.First, observedRow, observedNext, (float*)_pin.Pointer + part.First);
            }

            var verdicts = _judges ? new FrameVerdicts { ComparesFit = _step.ComparesFit } : null;
            if (verdicts is not null)
            {
                _verdicts.Add(verdicts);
            }

            var memory = PassMemory.Begin(state.Runtime!, part.Count, state.Frames + before, _step.Freeze, new ReadOnlySpan<float>(row, _arena.RowFloats));
            return new StepInPass(state.Runtime!, firstFrame, part.Count, state.Frames + before, row, next)
            {
                Observation = observation,
                Verdicts = verdicts,
                Memory = memory,
                Fault = memory?.Fault,
            };
        }

        /// <summary>Lets a method that sees the whole pass ask for more of the source's answer.</summary>
        public void Reconsider(StepInPass pass, OutputTensor[] outputs, int frames) =>
            pass.Memory?.Reconsider(new ReadOnlySpan<float>(pass.Row, _arena.RowFloats), outputs, pass.FirstFrame, frames);

        /// <summary>Completes a part whose method sees the whole pass.</summary>
        public void Complete(StepInPass pass, OutputTensor[] outputs, int frames, ReadOnlySpan<float> source)
        {
            using var memory = pass.Memory;
            memory?.Complete(new ReadOnlySpan<float>(pass.Row, _arena.RowFloats), new Span<float>(pass.NextRow, _arena.RowFloats), outputs, pass.FirstFrame, frames, source);
            Outputs.TakeUnfiltered(memory?.Unfiltered);
            Outputs.TakeFault(pass.Fault ?? memory?.Fault);
        }

        public StepResult Judge(bool adapts)
        {
            if (Outputs.Joined() is not { } own)
            {
                return StepAnswers.Unchanged(_step.State, Outputs.FailedAs, Outputs.Failure!);
            }

            _step.State.Misfit = _verdicts.Sum(verdicts => verdicts.Misfit);
            string? NotFinite() => adapts ? StepAnswers.NotFinite(_step.State.Runtime!.Layout, _arena.Row(_state!.Row)) : null;
            return Outputs.Answer(StepAnswers.Judge(_step, own, Learns, NotFinite), _scores);
        }

        public void Commit(StepResult answer)
        {
            if (_state is not null && !_step.Freeze && Learns)
            {
                _step.State.Row = _state.Exchange(_step.State.Row);
            }

            StepAnswers.Count(_step, answer);
            if (_observation is not null && Learns && StepAnswers.NotFinite(_observed!.Layout, _observedArena!.Row(_observation.Row)) is null)
            {
                // A frozen stream is watched too. What is not finite is not taken: watching never fails a step.
                _step.State.ObservedRow = _observation.Exchange(_step.State.ObservedRow);
                StepAnswers.CountObserved(_step.State, Novelty, answer, _scores);
            }
        }

        public void Dispose()
        {
            _state?.Dispose();
            _observation?.Dispose();
            if (_novelty.Length > 0)
            {
                _pin.Dispose();
                ArrayPool<float>.Shared.Return(_novelty);
            }
        }
    }

    /// <summary>A row that a step writes, and another one once a later part reads the first.</summary>
    private sealed unsafe class Proposal(HostArena arena, int committed) : IDisposable
    {
        private int _spare = -1;

        /// <summary>The row that was proposed last; -1 before.</summary>
        public int Row { get; private set; } = -1;

        /// <summary>The row to read and, as the result, the one to write.</summary>
        public float* Advance(bool chained, out float* current)
        {
            var from = chained && Row >= 0 ? Row : committed;
            var to = _spare < 0 ? arena.Rent() : _spare;
            (_spare, Row) = (Row, to);
            current = arena.Pointer(from);
            return arena.Pointer(to);
        }

        /// <summary>Gives the proposed row for the committed one.</summary>
        public int Exchange(int row)
        {
            (var proposed, Row) = (Row, row);
            return proposed;
        }

        public void Dispose()
        {
            foreach (var row in new[] { Row, _spare }.Where(row => row >= 0))
            {
                arena.Return(row);
            }
        }
    }
}

using System.Buffers;
using TtaService.Engine.Drift;
using TtaService.Engine.Streams;

namespace TtaService.Engine.Execution;

/// <summary>Runs batches on the CPU in float32: states in native memory, sites by the SIMD kernels.</summary>
internal sealed class HostRunner(AdaptiveModel model) : IBatchRunner
{
    public unsafe void Run(IReadOnlyList<StreamStep> steps, List<int> indices, StepResult[] results, bool adapts)
    {
        var passes = new StepInPass[indices.Count];
        var nextRows = new int[indices.Count];
        var nextObserved = new int[indices.Count];
        var observed = adapts ? model.Observed : null;
        var observedArena = (HostArena?)observed?.Arena;
        var frames = indices.Sum(index => steps[index].Frames.Count);
        var novelty = ArrayPool<float>.Shared.Rent(frames);
        Array.Clear(novelty, 0, frames);
        using var pinned = novelty.AsMemory().Pin();
        var at = 0;
        for (var i = 0; i < passes.Length; i++)
        {
            var step = steps[indices[i]];
            var state = step.State;
            var arena = (HostArena)state.Runtime!.Arena;
            nextRows[i] = arena.Rent();
            var observation = default(StepObservation);
            if (observed is not null)
            {
                nextObserved[i] = observedArena!.Rent();
                observation = new StepObservation(observed, state.ObservedFrames, observedArena.Pointer(state.ObservedRow), observedArena.Pointer(nextObserved[i]), (float*)pinned.Pointer + at);
            }

            passes[i] = new StepInPass(state.Runtime, at, step.Frames.Count, state.Frames, arena.Pointer(state.Row), arena.Pointer(nextRows[i]))
            {
                Observation = observation,
                Verdicts = adapts && model.Ranges is not null ? new FrameVerdicts(step.Frames.Count) { ComparesFit = step.ComparesFit } : null,
            };
            at = checked(at + step.Frames.Count);
        }

        try
        {
            FrameBlock[] blocks = [.. indices.Select(index => steps[index].Frames)];
            var outputs = model.Forward(blocks, frames, threads => adapts ? new ForwardPass(passes, threads, model.Ranges) : null);
            using var commit = model.TimeCommit();
            for (var i = 0; i < passes.Length; i++)
            {
                var step = steps[indices[i]];
                var (runtime, next) = (step.State.Runtime!, nextRows[i]);
                var learns = step.Teaches && passes[i].Verdicts is not { AnyOutside: true };
                var answer = StepAnswers.Judge(step, passes[i].FirstFrame, outputs, frames, () => learns ? StepAnswers.NotFinite(runtime.Layout, runtime.Arena.Read(next)) : null);
                if (answer.Status == StepStatus.Ok)
                {
                    if (!step.Freeze && learns)
                    {
                        (step.State.Row, nextRows[i]) = (nextRows[i], step.State.Row);
                    }

                    step.State.Misfit = passes[i].Verdicts?.Misfit ?? 0;
                    answer = StepAnswers.Count(step, answer, learns);
                    if (observed is not null && learns && StepAnswers.NotFinite(observed.Layout, observedArena!.Row(nextObserved[i])) is null)
                    {
                        // A frozen stream is watched too. What is not finite is not taken: watching never fails a step.
                        (step.State.ObservedRow, nextObserved[i]) = (nextObserved[i], step.State.ObservedRow);
                        StepAnswers.CountObserved(step.State, novelty.AsSpan(passes[i].FirstFrame, passes[i].FrameCount));
                    }
                }

                results[indices[i]] = answer;
            }
        }
        finally
        {
            for (var i = 0; i < passes.Length; i++)
            {
                steps[indices[i]].State.Runtime!.Arena.Return(nextRows[i]);
                observedArena?.Return(nextObserved[i]);
            }

            ArrayPool<float>.Shared.Return(novelty);
        }
    }
}

using TtaService.Engine.Drift;
using TtaService.Engine.Normalization;
using TtaService.Engine.Normalization.Affine;
using TtaService.Engine.Streams;

namespace TtaService.Engine.Execution;

/// <summary>Runs the steps of a call: which pass each takes, what is committed when, and which streams have collapsed and go back.</summary>
/// <param name="pass">What they run through.</param>
/// <param name="states">Of the streams.</param>
/// <param name="runner">Where the states are.</param>
/// <param name="torch">Where the states are, in torch operators: for streams with scales and biases of their own.</param>
/// <param name="collapseFrames">Frames of one class that make a stream suspect; 0 for never.</param>
internal sealed class StepRuns(ModelPass pass, StreamStates states, IBatchRunner runner, Lazy<IBatchRunner> torch, int collapseFrames)
{
    /// <summary>Runs steps that were checked.</summary>
    public StepResult[] Run(IReadOnlyList<StreamStep> steps)
    {
        var results = new StepResult[steps.Count];
        var marked = new MarkedSteps(steps);
        for (var i = 0; i < steps.Count; i++)
        {
            var frames = steps[i].Frames.Count;
            var together = PassSchedule.SmallestPart(frames, pass.Plan.FramesPerPass);
            var (reason, fault) = Refusal(steps[i].State.Runtime!, together);
            if (fault is not null)
            {
                results[i] = StepAnswers.Unchanged(steps[i].State, StepStatus.MethodFailed, fault);
            }
            else if (reason is not null)
            {
                var parts = together == frames ? reason
                    : $"the model takes {pass.Plan.FramesPerPass} frame(s) a pass ({pass.Plan.Reason}), so that of {frames} frames only {together} are normalized "
                        + $"together: {reason}";
                results[i] = StepAnswers.Unchanged(steps[i].State, StepStatus.Refused, parts);
            }
        }

        // Frames that teach nothing go first: a step of which one part can't be answered must not have changed anything.
        RunParts(marked.Aside, results, observes: false);
        var aside = marked.Put(results);
        RunParts(marked.Taught, results, observes: true);
        marked.Join(results, aside);
        CheckForCollapse(steps, results);
        return results;
    }

    private static (string? Reason, string? Fault) Refusal(MethodRuntime runtime, int frames)
    {
        try
        {
            return (runtime.Method.Refuses(frames), null);
        }
        catch (Exception fault) when (MethodFault.IsOwn(fault))
        {
            return (null, MethodFault.Message(runtime.Settings.Name, $"when it was asked whether it takes {frames} frames", fault));
        }
    }

    // The steps that are not null and have no result yet.
    private void RunParts(IReadOnlyList<StreamStep?> steps, StepResult?[] results, bool observes)
    {
        var plain = new List<int>();
        var adapted = new List<int>();
        var affine = new List<int>();
        var trained = new SortedDictionary<int, List<int>>();
        for (var i = 0; i < steps.Count; i++)
        {
            if (steps[i] is { } step && results[i] is null)
            {
                if (step.State.Runtime!.Method is IAffineMethod method)
                {
                    // What teaches nothing needs no way back.
                    var trains = !step.Freeze && step.Teaches;
                    (!trains ? affine : trained.TryGetValue(method.Rounds, out var alike) ? alike : trained[method.Rounds] = []).Add(i);
                    continue;
                }

                // Without a site to adapt or to observe the folded graph answers, which is faster.
                (step.State.Runtime!.ReadsFrames || (observes && step.Teaches && IsObservedNow(step.State)) ? adapted : plain).Add(i);
            }
        }

        // Nothing is committed before all steps have run: a call that throws has changed nothing.
        using var proposed = new ProposedRuns();
        var filters = new StepFilters(pass.Scores);
        int[] ran = [.. plain, .. adapted, .. affine, .. trained.Values.SelectMany(alike => alike)];
        var showedFeatures = pass.ShowsFeatures;
        try
        {
            var showsFeatures = pass.ShowsFeatures = StepFilters.ReadFeatures(ran.Select(index => steps[index]!));
            proposed.Run(runner, steps!, plain, results!, PassForm.Folded);
            proposed.Run(runner, steps!, adapted, results!, PassForm.Adaptive);
            if (affine.Count + trained.Count > 0)
            {
                proposed.Run(torch.Value, steps!, affine, results!, PassForm.Adaptive);
                foreach (var alike in trained.Values)
                {
                    proposed.Run(torch.Value, steps!, alike, results!, PassForm.Trained);
                }
            }

            filters.Run(steps, results, ran, showsFeatures);
        }
        finally
        {
            // A pass that gave way to this one goes on.
            pass.ShowsFeatures = showedFeatures;
        }

        using var commit = pass.TimeCommit();
        proposed.Commit();
        filters.Commit();
        if (observes)
        {
            CountUnobserved(steps!, plain, adapted, results!);
        }
    }

    // A stream that has answered one class for long is compared with the source model now and then, and goes back to it when its own state is what makes it blind.
    private void CheckForCollapse(IReadOnlyList<StreamStep> steps, StepResult[] results)
    {
        if (collapseFrames == 0 || pass.Scores is not { Index: var scores })
        {
            return;
        }

        var suspects = new List<(int Index, StreamStep Step)>();
        for (var i = 0; i < steps.Count; i++)
        {
            var (step, state) = (steps[i], steps[i].State);
            if (results[i].Status != StepStatus.Ok || step.Freeze || step.NotLearned?.Any(reason => reason != NotLearnedReason.None) == true
                || state.Runtime!.Layout.RowFloats == 0 || results[i].Outputs[scores] is not { Shape: [_, > 1] } answer)
            {
                continue;
            }

            state.Collapse.Observe(answer.Values, answer.Shape[1]);
            if (state.Collapse.Suspects)
            {
                var frames = step.Frames.Count <= collapseFrames ? step.Frames : step.Frames.Copy([.. Enumerable.Range(0, collapseFrames)]);
                suspects.Add((i, new StreamStep(state, frames, Freeze: true) { Teaches = false, ComparesFit = true }));
            }
        }

        if (suspects.Count == 0)
        {
            return;
        }

        var source = pass.RunSource(suspects.ConvertAll(suspect => suspect.Step.Frames))[scores];
        var (classes, at) = (source.Shape[1], 0);
        var contradicted = new List<(int Index, StreamStep Step)>();
        foreach (var suspect in suspects)
        {
            var floats = suspect.Step.Frames.Count * classes;
            if (suspect.Step.State.Collapse.Contradicts(source.Values.AsSpan(at, floats), classes))
            {
                contradicted.Add(suspect);
            }

            at += floats;
        }

        if (contradicted.Count == 0)
        {
            return;
        }

        var fresh = new List<StreamState>(contradicted.Count);
        try
        {
            contradicted.RemoveAll(suspect => !TryBeginAnew(suspect.Step.State, fresh));
            var (own, anew) = (new StepResult[contradicted.Count], new StepResult[contradicted.Count]);
            RunParts(contradicted.ConvertAll(suspect => suspect.Step), own, observes: false);
            RunParts([.. contradicted.Zip(fresh, (suspect, twin) => suspect.Step with { State = twin })], anew, observes: false);
            for (var i = 0; i < contradicted.Count; i++)
            {
                var ((index, step), twin) = (contradicted[i], fresh[i]);
                // Scales and biases describe no frames: they have collapsed where the class of the run is theirs alone.
                var (misfit, freshMisfit) = step.State.Runtime!.Method is IAffineMethod
                    ? (Named(step, own[i]), Named(step, anew[i]))
                    : (step.State.Misfit, twin.Misfit);
                // A method that fails here has not been compared.
                if (own[i].Status != StepStatus.MethodFailed && anew[i].Status != StepStatus.MethodFailed && step.State.Collapse.HasCollapsed(misfit, freshMisfit))
                {
                    step.State.Frames = 0;
                    states.Initialize(step.State);
                    results[index] = results[index] with { Frames = 0, RolledBack = RollbackReason.Collapsed };
                }
            }
        }
        finally
        {
            fresh.ForEach(states.ReturnTwin);
        }

        double Named(StreamStep step, StepResult answer) => answer.Status == StepStatus.Ok ? step.State.Collapse.Named(answer.Outputs[scores].Values, classes) : 0;
    }

    // The answers are committed: a method that can't begin a state now fails nobody.
    private bool TryBeginAnew(StreamState state, List<StreamState> fresh)
    {
        try
        {
            fresh.Add(states.FreshTwin(state));
            return true;
        }
        catch (MethodSettingsException)
        {
            return false;
        }
    }

    // A method without statistics is observed in full until it has warmed up, then now and then: its folded graph shows nothing, and the other one costs more.
    private bool IsObservedNow(StreamState state) =>
        pass.Observed is not null && (state.ObservedFrames < pass.Observed.Options.Tau || state.UnobservedSteps + 1 >= pass.Observed.Options.SourceInterval);

    /// <summary>The proposals of several runs, disposed of in the order opposite to that in which they ran.</summary>
    private sealed class ProposedRuns : IDisposable
    {
        private readonly Stack<IProposedSteps> _runs = [];

        public void Run(IBatchRunner runner, IReadOnlyList<StreamStep> steps, List<int> indices, StepResult[] results, PassForm form)
        {
            if (indices.Count > 0)
            {
                _runs.Push(runner.Run(steps, indices, results, form));
            }
        }

        /// <summary>Commits all, or, when it throws, none.</summary>
        public void Commit()
        {
            var written = new List<IProposedSteps>();
            try
            {
                foreach (var run in _runs)
                {
                    run.Write();
                    written.Add(run);
                }
            }
            catch
            {
                written.ForEach(run => run.TryUndo());
                throw;
            }

            foreach (var run in _runs)
            {
                run.Count();
            }
        }

        public void Dispose()
        {
            while (_runs.TryPop(out var run))
            {
                run.Dispose();
            }
        }
    }

    private static void CountUnobserved(IReadOnlyList<StreamStep> steps, List<int> plain, List<int> adapted, StepResult[] results)
    {
        foreach (var index in plain.Where(index => results[index].Status == StepStatus.Ok))
        {
            steps[index].State.UnobservedSteps++;
        }

        foreach (var index in adapted.Where(index => results[index].Status == StepStatus.Ok))
        {
            steps[index].State.UnobservedSteps = 0;
        }
    }
}

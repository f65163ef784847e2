using System.Diagnostics;
using System.Runtime.CompilerServices;
using TtaService.Engine.Execution;
using TtaService.Engine.Streams;

namespace TtaService.Serving.Streams;

/// <summary>Runs a batch on the engine's thread, and once more, entry by entry, what did not count when it failed. One batch at a time, and small ones, of streams that are owed,
/// between the operators of a larger one.</summary>
internal sealed class PassRunner(InferenceEngine engine, StreamResidency residency, StepDefects defects, TimeProvider clock)
{
    // A batch is small beside one of so many times its frames.
    private const int SmallShare = 2;

    private bool _givesWay;
    private int _failuresInARow;

    /// <summary>Forms a batch of at most so many frames, of streams whose states are resident; may be empty. Called on the engine's thread while a large batch runs; null for
    /// none.</summary>
    public Func<int, List<BatchEntry>>? FormSmall { get; set; }

    /// <summary>Hears what became of a small batch.</summary>
    public Action<List<BatchEntry>, EntryResult[], BatchPass>? SmallEnded { get; set; }

    /// <summary>Runs between the operators of a large batch. Tests wait here.</summary>
    public Action? Gap { get; set; }

    /// <summary>Passes that failed since the last that went well: what a stream sent, or the device.</summary>
    public int FailuresInARow
    {
        get => Volatile.Read(ref _failuresInARow);
        set => Volatile.Write(ref _failuresInARow, value);
    }

    /// <summary>Runs a pass on the engine's thread. Tests put passes here that fail at a chosen point.</summary>
    public Func<AdaptiveModel, IReadOnlyList<StreamStep>, IReadOnlyList<StepResult>> RunPass
    {
        get => field ??= RunGivingWay;
        set;
    }

    /// <summary>Runs a batch; a result an entry. Does not throw.</summary>
    public async Task<(EntryResult[] Results, BatchPass Pass)> RunAsync(List<BatchEntry> batch)
    {
        var (started, times) = (clock.GetTimestamp(), new StrongBox<PassTimes>());
        var results = await TryRunAsync(batch, times).ConfigureAwait(false);
        return (results, new BatchPass(started, clock.GetElapsedTime(started), times.Value));
    }

    private async Task<EntryResult[]> TryRunAsync(List<BatchEntry> batch, StrongBox<PassTimes> times)
    {
        PassAttempt attempt;
        try
        {
            attempt = await engine.InvokeAsync(model => Attempt(model, batch, times)).ConfigureAwait(false);
        }
        catch (Exception defect)
        {
            // The engine has stopped: nothing ran.
            attempt = PassAttempt.NotRun(batch.Count, defect);
        }

        return await ResultsAsync(batch, attempt, times).ConfigureAwait(false);
    }

    private async Task<EntryResult[]> ResultsAsync(List<BatchEntry> batch, PassAttempt attempt, StrongBox<PassTimes> times)
    {
        if (attempt.Results is { } ran)
        {
            FailuresInARow = 0;
            return [.. ran.Select(result => new EntryResult(result))];
        }

        var failure = WhyFailed(attempt.Thrown!);
        var results = new EntryResult[batch.Count];
        for (var i = 0; i < results.Length; i++)
        {
            if (attempt.Committed[i] is { } counters)
            {
                // It must not run again, whatever became of its answer.
                results[i] = new EntryResult(new LostAnswer(counters.Steps, counters.Frames, failure));
            }
            else if (batch.Count == 1)
            {
                results[i] = new EntryResult(failure);
            }
            else
            {
                // One step may have spoiled the pass for the others, and states that do not fit together may fit one by one.
                results[i] = (await TryRunAsync([batch[i]], times).ConfigureAwait(false))[0];
            }
        }

        return results;
    }

    private PassAttempt Attempt(AdaptiveModel model, List<BatchEntry> batch, StrongBox<PassTimes> times)
    {
        try
        {
            residency.Enter(model, batch.ConvertAll(entry => entry.Session));
        }
        catch (Exception failure)
        {
            return PassAttempt.NotRun(batch.Count, failure);
        }

        return PassAttempt.Run(batch.ConvertAll(entry => new StreamStep(entry.Session.State!, entry.Block, entry.Freeze) { NotLearned = entry.NotLearned }), steps =>
        {
            var ran = RunPass(model, steps);
            times.Value += model.RunTimes;
            return ran;
        });
    }

    // A large pass gives at most half of the time to small ones.
    private IReadOnlyList<StepResult> RunGivingWay(AdaptiveModel model, IReadOnlyList<StreamStep> steps)
    {
        var most = steps.Sum(step => step.Frames.Count) / SmallShare;
        if (most == 0 || _givesWay || FormSmall is not { } form)
        {
            return model.Run(steps);
        }

        var (began, given) = (Stopwatch.GetTimestamp(), 0L);
        _givesWay = true;
        try
        {
            return model.Run(steps, () =>
            {
                Gap?.Invoke();
                var now = Stopwatch.GetTimestamp();
                if (2 * given <= now - began)
                {
                    RunSmall(model, form, most);
                    given += Stopwatch.GetTimestamp() - now;
                }
            });
        }
        finally
        {
            _givesWay = false;
        }
    }

    // Does not throw: the pass that it runs in is not to blame.
    private void RunSmall(AdaptiveModel model, Func<int, List<BatchEntry>> form, int most)
    {
        try
        {
            var batch = form(most);
            if (batch.Count > 0)
            {
                var (started, times) = (clock.GetTimestamp(), new StrongBox<PassTimes>());
                var attempt = Attempt(model, batch, times);
                var run = clock.GetElapsedTime(started);
                _ = Task.Run(async () => SmallEnded!(batch, await ResultsAsync(batch, attempt, times).ConfigureAwait(false), new BatchPass(started, run, times.Value)));
            }
        }
        catch (Exception defect)
        {
            defects.Explain(defect);
        }
    }

    private Failure WhyFailed(Exception thrown)
    {
        if (thrown is ArenaFullException full)
        {
            return new Failure(FailureKind.ResourceExhausted, "STATE_MEMORY_FULL", $"{full.Message} (Models:ArenaBytes); raise it") { RetryAfter = TimeSpan.FromSeconds(1) };
        }

        Interlocked.Increment(ref _failuresInARow);
        return defects.Explain(thrown);
    }
}

using TtaService.Engine.Execution;
using TtaService.Engine.Streams;

namespace TtaService.Serving.Streams;

/// <summary>Runs a batch on the engine's thread, and once more, entry by entry, what did not count when it failed. One batch at a time.</summary>
internal sealed class PassRunner(InferenceEngine engine, StreamResidency residency, StepDefects defects, TimeProvider clock)
{
    private PassTimes _times;
    private int _failuresInARow;

    /// <summary>Passes that failed since the last that went well: what a stream sent, or the device.</summary>
    public int FailuresInARow
    {
        get => Volatile.Read(ref _failuresInARow);
        set => Volatile.Write(ref _failuresInARow, value);
    }

    /// <summary>Runs a pass on the engine's thread. Tests put passes here that fail at a chosen point.</summary>
    public Func<AdaptiveModel, IReadOnlyList<StreamStep>, IReadOnlyList<StepResult>> RunPass { get; set; } = static (model, steps) => model.Run(steps);

    /// <summary>Runs a batch; a result an entry. Does not throw.</summary>
    public async Task<(EntryResult[] Results, BatchPass Pass)> RunAsync(List<BatchEntry> batch)
    {
        var started = clock.GetTimestamp();
        _times = default;
        var results = await TryRunAsync(batch).ConfigureAwait(false);
        return (results, new BatchPass(started, clock.GetElapsedTime(started), _times));
    }

    private async Task<EntryResult[]> TryRunAsync(List<BatchEntry> batch)
    {
        PassAttempt attempt;
        try
        {
            attempt = await engine.InvokeAsync(model => Attempt(model, batch)).ConfigureAwait(false);
        }
        catch (Exception defect)
        {
            // The engine has stopped: nothing ran.
            attempt = PassAttempt.NotRun(batch.Count, defect);
        }

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
                results[i] = (await TryRunAsync([batch[i]]).ConfigureAwait(false))[0];
            }
        }

        return results;
    }

    private PassAttempt Attempt(AdaptiveModel model, List<BatchEntry> batch)
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
            _times += model.RunTimes;
            return ran;
        });
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

using TtaService.Engine.Execution;

namespace TtaService.Serving.Streams;

/// <summary>A pass on the engine's thread, and which steps it committed when it threw: the counters of the states are the truth.</summary>
/// <param name="Results">A result a step; null when it threw.</param>
/// <param name="Thrown">What it threw; null when it did not.</param>
/// <param name="Committed">Of a pass that threw, for each step: the counters that its state has now if they moved, else null.</param>
internal sealed record PassAttempt(IReadOnlyList<StepResult>? Results, Exception? Thrown, (long Steps, long Frames)?[] Committed)
{
    /// <summary>Runs a pass over states that are resident.</summary>
    public static PassAttempt Run(IReadOnlyList<StreamStep> steps, Func<IReadOnlyList<StreamStep>, IReadOnlyList<StepResult>> run)
    {
        var before = steps.Select(Counters).ToArray();
        try
        {
            return new PassAttempt(run(steps), null, []);
        }
        catch (Exception thrown)
        {
            return new PassAttempt(null, thrown, [.. steps.Select((step, i) => Counters(step) == before[i] ? ((long, long)?)null : (step.State.Steps, step.State.Frames))]);
        }
    }

    /// <summary>A pass that did not begin.</summary>
    public static PassAttempt NotRun(int steps, Exception why) => new(null, why, new (long, long)?[steps]);

    // A frozen step commits no statistics but may have been observed.
    private static (long Steps, long Frames, long Observed) Counters(StreamStep step) => (step.State.Steps, step.State.Frames, step.State.ObservedFrames);
}

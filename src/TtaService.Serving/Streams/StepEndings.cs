using TtaService.Serving.Loops;

namespace TtaService.Serving.Streams;

/// <summary>Gives steps their outcomes: they leave the line, what they hold is given back, and whoever stood behind them is next. Guarded by the batcher's gate.</summary>
internal sealed class StepEndings(StepAdmission admission, StepReports reports, WorkLine line, SignalledLoop loop)
{
    /// <summary>Ends a step that never runs.</summary>
    public void Refuse(QueuedStep step, StepOutcome outcome)
    {
        reports.NotRun(step, outcome);
        Complete(step, outcome);
    }

    /// <summary>Ends a step that runs or waits.</summary>
    public void Complete(QueuedStep step, StepOutcome outcome)
    {
        WorkLine.Leave(step);
        admission.Leave(step.Queue, step.Submission.Bytes);
        step.Decoded?.Dispose();
        step.Decoded = null;
        step.Cancellation.Unregister();
        step.Outcome.TrySetResult(outcome);
        line.Settle(step.Queue);
        loop.Signal();
    }
}

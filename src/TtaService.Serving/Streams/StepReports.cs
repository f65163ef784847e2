using System.Diagnostics;
using TtaService.Engine.Execution;
using TtaService.Serving.Loops;
using TtaService.Serving.Telemetry;

namespace TtaService.Serving.Streams;

/// <summary>Tells metrics, traces and logs what became of steps. Who listens to them may fail; the steps must not for it. Thread-safe.</summary>
internal sealed partial class StepReports(TtaMetrics metrics, TtaActivities activities, LoopBeat beat, TimeProvider clock, ILogger logger)
{
    /// <summary>A step came. Returns its span when it is traced.</summary>
    public Activity? Began(StreamSession session, int frames) => Guarded(() => activities.StepBegan(session.Model.Name, session.Method.Name, session.Name, frames));

    /// <summary>A step that never ran.</summary>
    public void NotRun(QueuedStep step, StepOutcome outcome) => Guarded(() =>
    {
        if (outcome.Answer is not null)
        {
            metrics.StepReplayed(step.Session.Model.Name);
        }
        else
        {
            StepCompleted(step, outcome);
            Log.StepRefused(logger, step.Session.Name, outcome.Failure!.Reason);
        }

        SpanEnded(step, outcome);
        return true;
    });

    /// <summary>A pass begins. Returns its span when it is traced.</summary>
    public Activity? BatchBegan(List<BatchEntry> batch) => Guarded(() =>
        activities.Source.HasListeners() ? activities.BatchBegan(batch[0].Session.Model.Name, batch.SelectMany(entry => entry.Steps).Select(step => step.Span)) : null);

    /// <summary>A pass is over.</summary>
    public void BatchEnded(Activity? span, List<BatchEntry> batch, BatchPass pass)
    {
        if (span is not null)
        {
            Guarded(() =>
            {
                TtaActivities.BatchEnded(span, batch.Count, batch.Sum(entry => entry.Block.Count), pass.Times);
                return true;
            });
        }
    }

    /// <summary>A pass and the steps that ran in it.</summary>
    public void Ran(List<BatchEntry> batch, EntryResult[] results, StepOutcome[][] outcomes, BatchPass pass) => Guarded(() =>
    {
        Report(batch, results, outcomes, pass);
        return true;
    });

    private void Report(List<BatchEntry> batch, EntryResult[] results, StepOutcome[][] outcomes, BatchPass pass)
    {
        var model = batch[0].Session.Model.Name;
        var (steps, decode, queue) = (0, TimeSpan.Zero, TimeSpan.Zero);
        for (var i = 0; i < batch.Count; i++)
        {
            for (var j = 0; j < outcomes[i].Length; j++)
            {
                var step = batch[i].Steps[j];
                steps++;
                decode += step.DecodeTime;
                queue += pass.QueueTime(step, clock);
                StepCompleted(step, outcomes[i][j]);
                SpanEnded(step, outcomes[i][j]);
                if (results[i].Result is { Status: var status } && (status == StepStatus.NotFinite || (status == StepStatus.Ok && batch[i].Freeze)))
                {
                    metrics.AdaptationSkipped(model, status == StepStatus.Ok ? SkipCause.Frozen : SkipCause.NotFinite);
                }
            }
        }

        for (var i = 0; i < batch.Count; i++)
        {
            if (results[i].Result is { NotLearned: { Count: > 0 } reasons })
            {
                NotLearned(batch[i].Session, reasons);
            }

            if (results[i].Result is { RolledBack: not null } collapsed)
            {
                batch[i].Session.Watch.RolledBack(collapsed.Steps);
                metrics.StreamReset(model, batch[i].Session.Name, ResetCause.Guard);
                Log.StreamCollapsed(logger, batch[i].Session.Name, batch[i].Session.Method.Name);
            }
        }

        // The device's own queue holds operations of other streams; that is waiting, too.
        var waited = pass.Run - pass.Times.Transfer - pass.Times.Forward - pass.Times.Commit;
        var frames = batch.Sum(entry => entry.Block.Count);
        var postprocess = clock.GetElapsedTime(pass.Started) - pass.Run;
        metrics.BatchCompleted(model, batch.Count, frames, decode / steps, (queue / steps) + (waited < TimeSpan.Zero ? TimeSpan.Zero : waited), pass.Times, postprocess);
    }

    private void NotLearned(StreamSession session, IReadOnlyList<NotLearnedReason> reasons)
    {
        foreach (var reason in reasons)
        {
            if (reason == NotLearnedReason.None)
            {
                continue;
            }

            metrics.FrameNotLearned(session.Model.Name, reason);
            if (session.Watch.NotLearned.Add(reason, clock.GetUtcNow()))
            {
                Log.FramesNotLearned(logger, session.Name, reason);
            }
        }
    }

    private static void SpanEnded(QueuedStep step, StepOutcome outcome)
    {
        if (outcome.Answer is { Times: var times } answer)
        {
            TtaActivities.StepAnswered(step.Span, times.Decode, times.Queue, times.Run, answer.Steps);
        }
        else if (outcome.Failure is { } failure)
        {
            TtaActivities.StepFailed(step.Span, failure);
        }
    }

    private void StepCompleted(QueuedStep step, StepOutcome outcome)
    {
        var session = step.Session;
        metrics.StepCompleted(session.Model.Name, session.Method.Name, session.Name, clock.GetElapsedTime(step.Submitted), outcome.Failure?.Kind);
    }

    private T? Guarded<T>(Func<T?> report)
    {
        try
        {
            return report();
        }
        catch (Exception defect)
        {
            beat.Failed("a report of steps", defect);
            return default;
        }
    }

    private static partial class Log
    {
        [LoggerMessage(
            EventId = 4,
            Level = LogLevel.Warning,
            Message = "StreamCollapsed {Stream}: what {Method} had learned answered every frame with one class, which the source model contradicts; "
                + "the stream is back at the source statistics (Learning:CollapseFrames)")]
        public static partial void StreamCollapsed(ILogger logger, string stream, string method);

        [LoggerMessage(EventId = 2, Level = LogLevel.Debug, Message = "StepRefused {Stream}: {Reason}")]
        public static partial void StepRefused(ILogger logger, string stream, string reason);

        [LoggerMessage(EventId = 3, Level = LogLevel.Information, Message = "FramesNotLearned {Stream}: {Reason}; said once a minute at most")]
        public static partial void FramesNotLearned(ILogger logger, string stream, NotLearnedReason reason);
    }
}

using System.Diagnostics;
using TtaService.Engine.Execution;

namespace TtaService.Serving.Telemetry;

/// <summary>The service's spans: a step, a batch with links to its steps, a checkpoint. Null where nobody listens or the sampler declines. Thread-safe.</summary>
internal sealed class TtaActivities : IDisposable
{
    public const string SourceName = "TtaService";
    public const string Step = "tta.step";
    public const string Batch = "tta.batch";
    public const string Checkpoint = "tta.checkpoint";

    public ActivitySource Source { get; } = new(SourceName);

    /// <summary>A step was admitted. Its parent is the client's span if the call brought one; otherwise it begins a trace of its own, so that a call of hours is sampled step by
    /// step.</summary>
    public Activity? StepBegan(string model, string method, string stream, int frames)
    {
        var span = Start(Step, ActivityKind.Server, ClientsSpan(Activity.Current), null);
        span?.SetTag(MetricCatalogue.Model, model)
            .SetTag(MetricCatalogue.Method, method)
            .SetTag(MetricCatalogue.Stream, stream)
            .SetTag("tta.step.frames", frames);
        return span;
    }

    /// <summary>A step was answered.</summary>
    public static void StepAnswered(Activity? span, TimeSpan decode, TimeSpan queue, TimeSpan run, long step)
    {
        if (span is not null)
        {
            Stop(span.SetTag("tta.step.decode", decode.TotalSeconds)
                .SetTag("tta.step.queue", queue.TotalSeconds)
                .SetTag("tta.step.run", run.TotalSeconds)
                .SetTag("tta.step.number", step));
        }
    }

    /// <summary>A step failed or was refused.</summary>
    public static void StepFailed(Activity? span, Failure failure)
    {
        if (span is not null)
        {
            Stop(span.SetTag(
                MetricCatalogue.ErrorType,
                Label<FailureKind>.Of(failure.Kind)).SetTag("tta.failure.reason", failure.Reason).SetStatus(ActivityStatusCode.Error, failure.Reason));
        }
    }

    /// <summary>A forward pass began. It belongs to the trace of its first sampled step and links to all that are sampled; without one there is nothing to explain.</summary>
    public Activity? BatchBegan(string model, IEnumerable<Activity?> steps)
    {
        var sampled = steps.OfType<Activity>().Where(step => step.Recorded).ToList();
        return sampled.Count == 0
            ? null
            : Start(Batch, ActivityKind.Internal, sampled[0].Context, sampled.Select(step => new ActivityLink(step.Context)))?.SetTag(MetricCatalogue.Model, model);
    }

    /// <summary>A forward pass is over.</summary>
    public static void BatchEnded(Activity span, int steps, int frames, PassTimes times)
    {
        span.SetTag("tta.batch.steps", steps)
            .SetTag("tta.batch.size", frames)
            .SetTag("tta.batch.transfer", times.Transfer.TotalSeconds)
            .SetTag("tta.batch.forward", times.Forward.TotalSeconds)
            .SetTag("tta.batch.commit", times.Commit.TotalSeconds);
        Stop(span);
    }

    /// <summary>A checkpoint is about to be taken.</summary>
    public Activity? CheckpointBegan(string model, string stream) =>
        Start(Checkpoint, ActivityKind.Internal, default, null)?.SetTag(MetricCatalogue.Model, model).SetTag(MetricCatalogue.Stream, stream);

    /// <summary>A checkpoint was written, or not.</summary>
    public static void CheckpointEnded(Activity? span, long bytes, FailureKind? failure)
    {
        if (span is null)
        {
            return;
        }

        span.SetTag("tta.checkpoint.size", bytes);
        if (failure is { } kind)
        {
            span.SetTag(MetricCatalogue.ErrorType, Label<FailureKind>.Of(kind)).SetStatus(ActivityStatusCode.Error);
        }

        Stop(span);
    }

    public void Dispose() => Source.Dispose();

    // The server's own span of a call is not exported: it would last as long as the camera is connected. Its parent is what the client sent.
    private static ActivityContext ClientsSpan(Activity? call) =>
        ActivityContext.TryParse(call?.ParentId, call?.TraceStateString, isRemote: true, out var span) ? span : default;

    // Neither the parent nor what runs next here is the caller's current span: steps end on other threads.
    private Activity? Start(string name, ActivityKind kind, ActivityContext parent, IEnumerable<ActivityLink>? links)
    {
        if (!Source.HasListeners())
        {
            return null;
        }

        var caller = Activity.Current;
        Activity.Current = null;
        try
        {
            return Source.StartActivity(name, kind, parent, tags: null, links);
        }
        finally
        {
            Activity.Current = caller;
        }
    }

    private static void Stop(Activity span)
    {
        var caller = Activity.Current;
        span.Stop();
        Activity.Current = caller;
    }
}

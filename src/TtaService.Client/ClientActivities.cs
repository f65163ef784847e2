using System.Diagnostics;
using TtaService.V1;

namespace TtaService.Client;

/// <summary>The client's spans.</summary>
public static class ClientActivities
{
    /// <summary>The name of the source: <c>AddSource("TtaService.Client")</c>.</summary>
    public const string SourceName = "TtaService.Client";

    internal static readonly ActivitySource Source = new(SourceName);

    /// <summary>A span of a step, from the call to the answer; the caller's own activity stays the current one.</summary>
    internal static Activity? Step(OpenStream open, StepRequest request)
    {
        var current = Activity.Current;
        var activity = Source.StartActivity("tta.client.step", ActivityKind.Client);
        Activity.Current = current;
        activity?.SetTag("tta.stream", open.Stream).SetTag("tta.model", open.Model).SetTag("tta.frames", request.Frames.Count).SetTag("tta.sequence", (long)request.Sequence);
        return activity;
    }

    internal static void Answered(Activity? activity, StepReply reply) => activity?.SetTag("tta.step", reply.Step).SetTag("tta.replayed", reply.Replayed);

    internal static void Failed(Activity? activity, Exception failed) => activity?
        .SetTag("error.type", failed is StepFailedException step ? step.Error.Reason : failed.GetType().Name)
        .SetStatus(ActivityStatusCode.Error, failed.Message);
}

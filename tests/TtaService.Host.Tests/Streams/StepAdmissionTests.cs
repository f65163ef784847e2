using TtaService.Serving.Streams;

namespace TtaService.Host.Tests.Streams;

/// <summary>What may wait, without anything that waits.</summary>
public sealed class StepAdmissionTests
{
    [Theory]
    [InlineData(2, 100, 1000, "STREAM_QUEUE_FULL")]
    [InlineData(100, 2, 1000, "QUEUE_FULL")]
    [InlineData(100, 100, 20, "QUEUE_FULL")]
    [InlineData(100, 100, 9, "STEP_TOO_LARGE")]
    public void Limit_Reached_NamesItsSetting(int pending, int steps, int bytes, string reason)
    {
        var admission = new StepAdmission(new BatchingOptions { MaxQueuedSteps = steps, MaxQueuedBytes = bytes }, new StreamsOptions { MaxPendingSteps = pending });
        var queue = new StreamQueue();
        Failure? refused;
        while ((refused = admission.WhyFull("camera", queue, 10)) is null)
        {
            admission.Enter(queue, 10);
        }

        Assert.Equal((FailureKind.ResourceExhausted, reason), (refused.Kind, refused.Reason));
        Assert.Equal(reason == "STEP_TOO_LARGE", refused.RetryAfter is null);
    }

    [Fact]
    public void Queue_FilledByOneStream_KeepsRoomForStreamsThatHaveNothingWaiting()
    {
        var admission = new StepAdmission(new BatchingOptions { MaxQueuedSteps = 16, MaxQueuedBytes = 1000 }, new StreamsOptions { MaxPendingSteps = 100 });
        var (flood, camera) = (new StreamQueue(), new StreamQueue());
        while (admission.WhyFull("flood", flood, 1) is null)
        {
            admission.Enter(flood, 1);
        }

        Assert.Equal(14, admission.Steps);
        Assert.Null(admission.WhyFull("camera", camera, 1));
        admission.Leave(flood, 1);
        Assert.Null(admission.WhyFull("flood", flood, 1));
        Assert.Equal(13, flood.PendingSteps);
    }

    [Fact]
    public void Refusal_AfterPasses_TellsWhenToComeAgain()
    {
        var admission = new StepAdmission(new BatchingOptions { MaxQueuedSteps = 1 }, new StreamsOptions());
        var queue = new StreamQueue();
        admission.Enter(queue, 1);
        admission.Ran(TimeSpan.FromSeconds(4), streamsInPass: 2);

        Assert.Equal(TimeSpan.FromSeconds(1), admission.WhyFull("camera", new StreamQueue(), 1)!.RetryAfter);
    }
}

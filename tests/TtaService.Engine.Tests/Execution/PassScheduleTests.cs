using TtaService.Engine.Execution;

namespace TtaService.Engine.Tests.Execution;

public sealed class PassScheduleTests
{
    [Fact]
    public void Of_AnyNumberOfFramesInAPass_IsOnePassOfWholeSteps()
    {
        var passes = PassSchedule.Of([3, 1, 70], PassPlan.Unlimited);

        Assert.Equal([new StepPart(0, 0, 3), new StepPart(1, 0, 1), new StepPart(2, 0, 70)], Assert.Single(passes));
    }

    [Theory]
    [InlineData(1)]
    [InlineData(4)]
    [InlineData(5)]
    [InlineData(16)]
    public void Of_FewFramesInAPass_HoldsEachFrameOnceInOrder(int framesPerPass)
    {
        int[] steps = [6, 1, 4, 9, 1];

        var passes = PassSchedule.Of(steps, framesPerPass);

        Assert.All(passes, pass => Assert.InRange(pass.Sum(part => part.Count), 1, framesPerPass));
        Assert.All(passes, pass => Assert.Equal(pass.Length, pass.Select(part => part.Step).Distinct().Count()));
        for (var step = 0; step < steps.Length; step++)
        {
            var frames = passes.SelectMany(pass => pass).Where(part => part.Step == step).SelectMany(part => Enumerable.Range(part.First, part.Count));
            Assert.Equal(Enumerable.Range(0, steps[step]), frames);
        }
    }

    [Fact]
    public void SmallestPart_OfALongStep_IsAboutAsLongAsTheOthers()
    {
        Assert.Equal(3, PassSchedule.SmallestPart(6, 4));
        Assert.Equal(2, PassSchedule.SmallestPart(7, 3));
        Assert.Equal(64, PassSchedule.SmallestPart(64, PassPlan.Unlimited));
    }
}

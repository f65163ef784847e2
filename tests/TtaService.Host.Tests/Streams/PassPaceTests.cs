using TtaService.Serving.Streams;

namespace TtaService.Host.Tests.Streams;

public sealed class PassPaceTests
{
    private readonly PassPace _pace = new(new BatchingOptions { MaxFrames = 64, MaxPassTime = TimeSpan.FromMilliseconds(20) });

    [Theory]
    [InlineData(0.1, 64)]
    [InlineData(0.5, 40)]
    [InlineData(1, 20)]
    [InlineData(50, PassPace.AlwaysAllowed)]
    public void Pass_OfAModelThatTakesSoLongAFrame_HasTheFramesThatFit(double millisecondsPerFrame, int frames)
    {
        _pace.Ran(10, TimeSpan.FromMilliseconds(10 * millisecondsPerFrame));

        Assert.Equal(frames, _pace.MaxFrames);
    }

    [Fact]
    public void Pass_ModelIsSlowerThanBefore_HasFewerFramesSoon()
    {
        _pace.Ran(40, TimeSpan.FromMilliseconds(20));
        Assert.Equal(40, _pace.MaxFrames);

        for (var i = 0; i < 20; i++)
        {
            _pace.Ran(20, TimeSpan.FromMilliseconds(20));
        }

        Assert.InRange(_pace.MaxFrames, 20, 24);
    }

    [Fact]
    public void Pass_TimeIsAlmostAllOverhead_GrowsUntilTheTimeIsUsed()
    {
        for (var i = 0; i < 100; i++)
        {
            var frames = _pace.MaxFrames;
            _pace.Ran(frames, TimeSpan.FromMilliseconds(10 + (frames / 4.0)));
        }

        Assert.InRange(_pace.MaxFrames, 38, 41);
    }

}

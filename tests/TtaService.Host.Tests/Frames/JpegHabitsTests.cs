using TtaService.Serving.Frames;

namespace TtaService.Host.Tests.Frames;

public sealed class JpegHabitsTests
{
    private readonly JpegHabits _habits = new(wide: 8);

    [Fact]
    public void Blocks_EndedAtOnceAndBehindARunOfZeros_AreOfTwoEncoders()
    {
        _habits.BlockEnded(40, passed: false);
        Assert.False(_habits.AreBroken);

        _habits.BlockEnded(20, passed: true);

        Assert.True(_habits.AreBroken);
    }

    [Fact]
    public void Runs_OneBehindTheOtherWithinARow_AreNotOfAnEncoderThatMerges()
    {
        _habits.RunBegins(0, blocks: 2, isEmpty: true);
        _habits.RunBegins(2, blocks: 3, isEmpty: true);

        Assert.True(_habits.AreBroken);
    }

    [Fact]
    public void Runs_RowByRowOrWithABlockBetweenOrBehindARestart_AreOfOneEncoder()
    {
        _habits.RunBegins(0, blocks: 8, isEmpty: true);
        _habits.RunBegins(8, blocks: 3, isEmpty: true);
        _habits.RunBegins(12, blocks: 3, isEmpty: true);
        _habits.Restarts();
        _habits.RunBegins(15, blocks: 1, isEmpty: true);

        Assert.False(_habits.AreBroken);
    }

    [Fact]
    public void Blocks_EndedEachByItself_AreOfAnEncoderThatDoesNotMerge()
    {
        for (var block = 0; block < 8; block++)
        {
            _habits.RunBegins(block, blocks: 1, isEmpty: true);
        }

        Assert.False(_habits.AreBroken);
    }

    [Theory]
    [InlineData(900, false)]
    [InlineData(10, true)]
    public void Runs_OneBehindTheOther_AreOfOneEncoderWhenTheFirstHasManyRefinements(int bits, bool broken)
    {
        _habits.RunBegins(0, blocks: 30, isEmpty: true);
        _habits.Refined(bits: 950);
        _habits.RunBegins(41, blocks: 2, isEmpty: true);
        _habits.Refined(bits);
        _habits.RunBegins(43, blocks: 3, isEmpty: true);

        Assert.Equal(broken, _habits.AreBroken);
    }
}

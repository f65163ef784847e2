using TtaService.Serving.Streams;

namespace TtaService.Host.Tests.Streams;

public sealed class FairLineTests
{
    [Fact]
    public void Line_OneAsksForMuch_OthersWaitForOneOfItsTurnsAtMost()
    {
        var line = new FairLine<string>();
        var (greedy, modest) = (new FairShare(), new FairShare());
        line.Add("greedy", greedy, 64);
        var order = new List<string>();
        for (var i = 0; i < 200; i++)
        {
            if (i % 3 == 0)
            {
                line.Add("modest", modest, 1);
            }

            var turn = line.Take();
            line.Charge(turn, turn.Cost);
            order.Add(turn.Who);
            if (turn.Who == "greedy")
            {
                line.Add("greedy", greedy, 64);
            }
        }

        var waited = order.Select((who, i) => (who, i)).Where(place => place.who == "modest").Select(place => place.i % 3);
        Assert.All(waited, places => Assert.InRange(places, 0, 1));
        Assert.Equal(67, order.Count(who => who == "modest"));
    }

    [Fact]
    public void Line_AllAskAlways_EachGetsTheSameWhateverATurnCosts()
    {
        var line = new FairLine<int>();
        FairShare[] shares = [.. Enumerable.Range(0, 4).Select(_ => new FairShare())];
        int[] costs = [1, 4, 16, 64];
        var had = new long[4];
        for (var who = 0; who < 4; who++)
        {
            line.Add(who, shares[who], costs[who]);
        }

        for (var i = 0; i < 20_000; i++)
        {
            var turn = line.Take();
            line.Charge(turn, turn.Cost);
            had[turn.Who] += turn.Cost;
            line.Add(turn.Who, shares[turn.Who], costs[turn.Who]);
        }

        Assert.All(had, all => Assert.InRange(all, had.Max() - 128, had.Max()));
    }

    [Fact]
    public void Line_WhoWasAwayForLong_IsOwedNothing()
    {
        var line = new FairLine<string>();
        var (here, back) = (new FairShare(), new FairShare());
        for (var i = 0; i < 1000; i++)
        {
            line.Add("here", here, 5);
            var turn = line.Take();
            line.Charge(turn, turn.Cost);
        }

        var order = new List<string>();
        line.Add("back", back, 5);
        line.Add("here", here, 5);
        for (var i = 0; i < 10; i++)
        {
            var turn = line.Take();
            line.Charge(turn, turn.Cost);
            order.Add(turn.Who);
            line.Add(turn.Who, turn.Share, 5);
        }

        Assert.Equal(5, order.Count(who => who == "back"));
    }

    [Fact]
    public void Line_WithCredit_WhoWasAwayPassesAllAndIsOwedNoMore()
    {
        var line = new FairLine<string>(credit: 8);
        var (here, back) = (new FairShare(), new FairShare());
        for (var i = 0; i < 1000; i++)
        {
            line.Add("here", here, 1);
            var turn = line.Take();
            line.Charge(turn, turn.Cost);
        }

        line.Add("here", here, 1);
        Assert.False(line.FirstIsOwed);
        line.Add("back", back, 1);
        Assert.True(line.FirstIsOwed);
        var order = new List<string>();
        for (var i = 0; i < 28; i++)
        {
            var turn = line.Take();
            line.Charge(turn, turn.Cost);
            order.Add(turn.Who);
            line.Add(turn.Who, turn.Share, 1);
        }

        Assert.All(order.Take(8), who => Assert.Equal("back", who));
        Assert.Equal(18, order.Count(who => who == "back"));
    }

    [Fact]
    public void Line_TakenButNotCharged_KeepsItsPlace()
    {
        var line = new FairLine<string>();
        line.Add("first", new FairShare(), 3);
        line.Add("second", new FairShare(), 3);

        line.PutBack(line.Take());

        Assert.Equal(["first", "second"], [line.Take().Who, line.Take().Who]);
    }
}

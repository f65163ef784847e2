using TtaService.Evaluation;

namespace TtaService.Engine.Tests.Evaluation;

public sealed class StreamOrderTests
{
    private static readonly int[] Labels = [.. Enumerable.Range(0, 2000).Select(i => i % 10)];

    [Theory]
    [InlineData(0.0)]
    [InlineData(0.1)]
    [InlineData(10.0)]
    public void Correlated_AnyDelta_IsAPermutation(double delta) =>
        Assert.Equal(Enumerable.Range(0, Labels.Length), StreamOrders.Correlated(Labels, 3, delta).Order());

    [Fact]
    public void Correlated_HasLongRunsOfOneClass()
    {
        Assert.True(RunLength(StreamOrders.Correlated(Labels, 0)) > 15);
        Assert.True(RunLength(StreamOrders.Iid(Labels.Length, 0)) < 1.3);
        Assert.Equal(200, RunLength(StreamOrders.Correlated(Labels, 0, delta: 0)));
    }

    [Fact]
    public void Correlated_LargerDelta_HasShorterRuns() =>
        Assert.True(RunLength(StreamOrders.Correlated(Labels, 0, 0.05)) > RunLength(StreamOrders.Correlated(Labels, 0, 5)));

    [Fact]
    public void Correlated_SameSeed_IsTheSameOrder()
    {
        Assert.Equal(StreamOrders.Correlated(Labels, 5), StreamOrders.Correlated(Labels, 5));
        Assert.NotEqual(StreamOrders.Correlated(Labels, 5), StreamOrders.Correlated(Labels, 6));
    }

    [Fact]
    public void Correlated_TinySet_StillGivesEverySample() => Assert.Equal([0, 1, 2], StreamOrders.Correlated([0, 1, 2], 0).Order());

    [Fact]
    public void Correlated_FewClassesWithLargeNumbers_IsAPermutation() =>
        Assert.Equal(Enumerable.Range(0, 40), StreamOrders.Correlated([.. Enumerable.Range(0, 40).Select(i => i % 2 * 200_000)], 0).Order());

    [Fact]
    public void Streams_Single_IsAStreamADomainInTheSameOrder()
    {
        var streams = EvaluationPlan.Streams(Labels, 3, DomainSetting.Single, StreamOrder.Correlated, 1, limit: 100);

        Assert.Equal(3, streams.Count);
        Assert.Equal(streams[0].Select(sample => sample.Image), streams[2].Select(sample => sample.Image));
        Assert.All(streams[1], sample => Assert.Equal(1, sample.Domain));
        Assert.All(streams, stream => Assert.Equal(100, stream.Count));
    }

    [Fact]
    public void OneClass_AnySeed_IsThatClassOnly()
    {
        var order = StreamOrders.OneClass(Labels, 4, 50);
        Assert.Equal(50, order.Distinct().Count());
        Assert.Single(order.Select(index => Labels[index]).Distinct());
        Assert.True(Enumerable.Range(0, 20).Select(seed => Labels[StreamOrders.OneClass(Labels, seed, 1)[0]]).Distinct().Count() > 3);
    }

    [Fact]
    public void Imbalanced_EachClassIsHalfAsFrequentAsTheOneBefore()
    {
        var order = StreamOrders.Imbalanced(Labels, 4, 256);
        Assert.Equal(order.Length, order.Distinct().Count());
        Assert.Equal([128, 64, 32, 16, 8, 4, 2, 1], order.GroupBy(index => Labels[index]).Select(group => group.Count()).OrderDescending().Take(8));
        Assert.NotEqual(order, StreamOrders.Imbalanced(Labels, 5, 256));
    }

    [Fact]
    public void Streams_Recurring_GoesThroughTheDomainsInTurn()
    {
        var stream = Assert.Single(EvaluationPlan.Streams(Labels, 3, DomainSetting.Recurring, StreamOrder.Sorted, 1, limit: 200));

        Assert.Equal(600, stream.Count);
        Assert.Equal([.. Enumerable.Repeat(0, 96), .. Enumerable.Repeat(1, 96), .. Enumerable.Repeat(2, 96), .. Enumerable.Repeat(0, 96)],
            stream.Take(4 * 96).Select(sample => sample.Domain));
        Assert.Equal(8, stream.Skip(6 * 96).TakeWhile(sample => sample.Domain == 0).Count());
        Assert.All(Enumerable.Range(0, 3), domain => Assert.Equal(200, stream.Where(sample => sample.Domain == domain).Select(sample => sample.Image).Distinct().Count()));
    }

    [Fact]
    public void Streams_Continual_IsOneStreamDomainAfterDomain()
    {
        var stream = Assert.Single(EvaluationPlan.Streams(Labels, 3, DomainSetting.Continual, StreamOrder.Iid, 1));

        Assert.Equal(Enumerable.Range(0, 3).SelectMany(domain => Enumerable.Repeat(domain, Labels.Length)), stream.Select(sample => sample.Domain));
    }

    [Fact]
    public void Streams_Mixed_HasEveryImageOfEveryDomainOnce()
    {
        var stream = Assert.Single(EvaluationPlan.Streams(Labels, 3, DomainSetting.Mixed, StreamOrder.Correlated, 1));

        Assert.Equal(6000, stream.Distinct().Count());
        Assert.NotEqual(0, stream.Take(100).Max(sample => sample.Domain));
    }

    [Fact]
    public void Streams_AsIs_KeepsTheDataInOrder() =>
        Assert.Equal(Enumerable.Range(0, 50), EvaluationPlan.Streams(Labels, 1, DomainSetting.Single, StreamOrder.AsIs, 9, limit: 50)[0].Select(sample => sample.Image));

    private static double RunLength(int[] order)
    {
        var runs = 1 + order.Zip(order.Skip(1)).Count(pair => Labels[pair.First] != Labels[pair.Second]);
        return (double)order.Length / runs;
    }
}

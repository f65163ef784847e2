using TtaService.Engine.Evaluation;

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

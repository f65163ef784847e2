using System.Collections.Concurrent;
using System.Globalization;
using TtaService.Engine.Execution;
using TtaService.Serving.Streams;

namespace TtaService.Host.Tests.Streams;

public sealed class DecodeTurnsTests
{
    private const long Dear = 100_000_000;

    private static readonly TimeSpan Enough = TimeSpan.FromSeconds(60);

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    public async Task CheapFrames_WhileDearOnesTakeForEver_AreDecoded(int places)
    {
        var turns = new DecodeTurns(new BatchingOptions { DecodeConcurrency = places });
        using var stuck = new ManualResetEventSlim();
        var dear = Enumerable.Range(0, 4).Select(_ => Decode(turns, new DecodeShare(), new Frames(64, Dear, _ => stuck.Wait()))).ToList();

        for (var i = 0; i < 10; i++)
        {
            Assert.NotNull((await Decode(turns, new DecodeShare(), new Frames(3, 1000, _ => { })).WaitAsync(Enough)).Frames);
        }

        Assert.DoesNotContain(dear, decoding => decoding.IsCompleted);
        stuck.Set();
        Assert.All(await Task.WhenAll(dear), decoded => Assert.NotNull(decoded.Frames));
    }

    [Fact]
    public async Task StepOfManyFrames_LetsTheFramesOfOthersPass()
    {
        var turns = new DecodeTurns(new BatchingOptions { DecodeConcurrency = 1 });
        using var first = new ManualResetEventSlim();
        var order = new ConcurrentQueue<string>();
        var many = Decode(turns, new DecodeShare(), new Frames(64, 1000, turn =>
        {
            first.Wait();
            order.Enqueue("many");
        }));
        var others = Enumerable.Range(0, 3).Select(_ => Decode(turns, new DecodeShare(), new Frames(1, 1000, _ => order.Enqueue("other")))).ToList();
        first.Set();

        await Task.WhenAll([many, .. others]).WaitAsync(Enough);

        // The first of the many was under way; then each had a turn.
        Assert.InRange(order.ToList().FindLastIndex(who => who == "other"), 3, 5);
    }

    [Fact]
    public async Task Step_ThatNobodyWantsAnyMore_IsGivenUpAtOnceAndLetsGoOfItsFrames()
    {
        var turns = new DecodeTurns(new BatchingOptions { DecodeConcurrency = 1 });
        using var stuck = new ManualResetEventSlim();
        var front = Decode(turns, new DecodeShare(), new Frames(1, 1000, _ => stuck.Wait()));
        var (share, gone) = (new DecodeShare(), new TaskCompletionSource());
        Frames[] waiting = [.. Enumerable.Range(0, 3).Select(_ => new Frames(64, 1000, _ => Assert.Fail("nobody wants it")))];
        var given = waiting.Select(frames => turns.DecodeAsync(share, frames, () => !gone.Task.IsCompleted, gone.Task)).ToList();

        gone.SetResult();

        Assert.All(await Task.WhenAll(given).WaitAsync(Enough), decoded => Assert.Null(decoded.Frames));
        Assert.All(waiting, frames => Assert.True(frames.IsDisposed));
        // One that still stands in line, and none behind it.
        Assert.InRange(share.Jobs.Count, 0, 1);
        stuck.Set();
        await front;
        Assert.NotNull((await Decode(turns, share, new Frames(2, 1000, _ => { })).WaitAsync(Enough)).Frames);
    }

    [Fact]
    public async Task BadFrame_FailsItsStepAndNoOther()
    {
        var turns = new DecodeTurns(new BatchingOptions { DecodeConcurrency = 2 });
        var share = new DecodeShare();
        var decoded = 0;
        var bad = Decode(turns, share, new Frames(1000, 1000, turn =>
        {
            Interlocked.Increment(ref decoded);
            if (turn == 5)
            {
                throw new FailureException(Failure.Invalid("BAD", "frame", "bad"));
            }
        }));
        var good = Decode(turns, share, new Frames(10, 1000, _ => { }));

        Assert.Equal("BAD", (await Assert.ThrowsAsync<FailureException>(() => bad.WaitAsync(Enough))).Failure.Reason);
        Assert.NotNull((await good.WaitAsync(Enough)).Frames);
        // The frame beside the bad one may not have begun.
        Assert.InRange(decoded, 5, 999);
    }

    [Fact]
    public async Task ManySteps_OfManyStreams_AreEachDecodedOnce()
    {
        var turns = new DecodeTurns(new BatchingOptions { DecodeConcurrency = 3 });
        var random = new Random(3);
        DecodeShare[] shares = [.. Enumerable.Range(0, 7).Select(_ => new DecodeShare())];
        var had = new ConcurrentBag<(int Step, int Turn)>();
        var decoding = new List<Task<(DecodedFrames? Frames, TimeSpan Busy)>>();
        var expected = 0;
        for (var step = 0; step < 300; step++)
        {
            var (number, count) = (step, random.Next(1, 20));
            expected += count;
            decoding.Add(Decode(turns, shares[random.Next(7)], new Frames(count, random.Next(3) == 0 ? Dear : random.Next(1, 2_000_000), turn => had.Add((number, turn)))));
        }

        Assert.All(await Task.WhenAll(decoding).WaitAsync(Enough), decoded => Assert.NotNull(decoded.Frames));
        Assert.Equal(expected, had.Distinct().Count());
        Assert.Equal(expected, had.Count);
        Assert.All(shares, share => Assert.Empty(share.Jobs));
    }

    [Fact]
    public async Task DearFrames_AreDecodedOnThreadsThatGiveWay_AndNothingElseIs()
    {
        var turns = new DecodeTurns(new BatchingOptions { DecodeConcurrency = 2 });
        var usual = Niceness.OfThisThread();
        var decoded = new ConcurrentBag<(bool IsPools, int Nice)>();
        var cheap = new ConcurrentBag<(bool IsPools, int Nice)>();
        for (var i = 0; i < 20; i++)
        {
            var both = new[] { Decode(turns, new DecodeShare(), Noting(Dear, decoded)), Decode(turns, new DecodeShare(), Noting(1000, cheap)) };
            Assert.All(await Task.WhenAll(both).WaitAsync(Enough), step => Assert.NotNull(step.Frames));
            // What goes on behind a dear frame, and every thread that the pool grew by meanwhile.
            Assert.Equal(usual, Niceness.OfThisThread());
        }

        Assert.All(cheap, thread => Assert.Equal((true, usual), thread));
        Assert.All(decoded, thread => Assert.False(thread.IsPools));
        if (OperatingSystem.IsLinux())
        {
            Assert.All(decoded, thread => Assert.Equal(Math.Min(usual + 5, 19), thread.Nice));
        }

        static Frames Noting(long cost, ConcurrentBag<(bool IsPools, int Nice)> notes) =>
            new(3, cost, _ => notes.Add((Thread.CurrentThread.IsThreadPoolThread, Niceness.OfThisThread())));
    }

    private static Task<(DecodedFrames? Frames, TimeSpan Busy)> Decode(DecodeTurns turns, DecodeShare share, Frames frames) =>
        turns.DecodeAsync(share, frames, () => true, new TaskCompletionSource().Task);

    private static class Niceness
    {
        // The 19th field of the line; the name of the thread, which may hold spaces, is in brackets before the third.
        public static int OfThisThread() => OperatingSystem.IsLinux()
            ? int.Parse(File.ReadAllText("/proc/thread-self/stat").Split(") ")[^1].Split(' ')[16], CultureInfo.InvariantCulture)
            : 0;
    }

    private sealed class Frames(int count, long cost, Action<int> decode) : StepDecoding
    {
        public bool IsDisposed { get; private set; }

        public override int Turns => count;

        public override long CostOf(int turn) => cost;

        public override void Decode(int turn) => decode(turn);

        public override DecodedFrames Take() => new(FrameBlock.FromPixels(new byte[count], count, 1, 1, 1));

        public override void Dispose() => IsDisposed = true;
    }
}

using System.Diagnostics.Metrics;
using Microsoft.Extensions.Time.Testing;
using TtaService.Engine.Drift;
using TtaService.Engine.Execution;
using TtaService.Host.Tests.Infrastructure;
using TtaService.Host.Tests.Store;
using TtaService.Serving.Loops;
using TtaService.Serving.Store;
using TtaService.Serving.Streams;
using TtaService.Serving.Telemetry;

namespace TtaService.Host.Tests.Loops;

/// <summary>Each loop of the server with an item that fails: it goes on, and says what failed.</summary>
public sealed class FailingItemTests
{
    [Fact]
    public async Task IdleStreams_DeletionRacesTheSweep_SweepingGoesOn()
    {
        var clock = new FakeTimeProvider();
        await using var host = await TestHost.StartAsync(clock, "--Streams:IdleTimeout=00:10:00");
        await host.StepAsync("a", TestFrames.Tensor(1));
        var directory = host.Part<StreamDirectory>();
        var a = directory.Get("a");
        await a.Keeping.Writing.WaitAsync(TestContext.Current.CancellationToken);
        var deleting = host.Part<StreamDepartures>().DeleteAsync("a");
        clock.Advance(TimeSpan.FromMinutes(11));
        await Task.Delay(100, TestContext.Current.CancellationToken);
        a.Keeping.Writing.Release();
        await deleting;

        await host.StepAsync("b", TestFrames.Tensor(1));
        await UntilAsync(clock, () => !directory.Contains("b"), "b was idle and is still there");
    }

    [Fact]
    public async Task IdleStreams_StoreRefusesOne_TheOthersLeave()
    {
        var clock = new FakeTimeProvider();
        await using var host = await TestHost.StartAsync(clock, "--Streams:IdleTimeout=00:10:00");
        host.ExpectsDefects = true;
        var store = Spoil(host, clock);
        await host.StepAsync("bad", TestFrames.Tensor(1));
        await host.StepAsync("good", TestFrames.Tensor(1));
        var directory = host.Part<StreamDirectory>();

        await UntilAsync(clock, () => !directory.Contains("good"), "the good one is still there");
        await UntilAsync(clock, () => IsNamed(host, "the sweep for idle streams", "stream 'bad'"), "the bad one is not named");
        store.Bad = "";
        Assert.Equal(2, (await host.StepAsync("bad", TestFrames.Tensor(2))).Step);
    }

    [Fact]
    public async Task Checkpoints_OneStreamCantBeWritten_TheOthersAre()
    {
        var clock = new FakeTimeProvider();
        await using var host = await TestHost.StartAsync(clock, "--Store:CheckpointInterval=00:00:01");
        host.ExpectsDefects = true;
        Spoil(host, clock);
        await host.StepAsync("bad", TestFrames.Tensor(1));
        await host.StepAsync("good", TestFrames.Tensor(1));

        var good = host.Part<StreamDirectory>().Get("good");
        await UntilAsync(clock, () => !good.Keeping.Dirty, "the good one was not written", TimeSpan.FromSeconds(1));
        await host.StepAsync("good", TestFrames.Tensor(2));
        await UntilAsync(clock, () => !good.Keeping.Dirty, "the good one was written once only", TimeSpan.FromSeconds(1));
        await UntilNamedAsync(host, "the writing of checkpoints", "stream 'bad'");
    }

    [Fact]
    public async Task ClaimRenewal_OneClaimFails_TheOthersAreConfirmed()
    {
        var clock = new FakeTimeProvider();
        await using var host = await TestHost.StartAsync(clock, "--Store:CheckpointInterval=1.00:00:00");
        host.ExpectsDefects = true;
        Spoil(host, clock);
        await host.StepAsync("bad", TestFrames.Tensor(1));
        await host.StepAsync("good", TestFrames.Tensor(1));
        var good = host.Part<StreamDirectory>().Get("good");

        for (var turn = 0; turn < 2; turn++)
        {
            var before = good.Keeping.ConfirmedAt;
            await UntilAsync(clock, () => good.Keeping.ConfirmedAt != before, "the good claim was not confirmed", TimeSpan.FromSeconds(2));
        }

        await UntilNamedAsync(host, "the renewal of claims", "the claim of stream 'bad'");
    }

    [Fact]
    public async Task ClaimRenewal_ATurnOfCheckpointsTakesLong_GoesOn()
    {
        using var folder = new TestFolder();
        await using var host = await TestHost.StartAsync("--Store:Kind=file", $"--Store:Path={folder.Path}", "--Store:RenewInterval=00:00:00.100",
            "--Store:BytesPerSecond=1024", "--Store:CheckpointInterval=00:00:01", "--Store:StopTimeout=00:00:05");
        await host.StepAsync("idle", TestFrames.Tensor(1));
        await host.UntilAsync("idle", session => !session.Keeping.Dirty);
        var idle = host.Part<StreamDirectory>().Get("idle");
        for (var i = 0; i < 12; i++)
        {
            await host.StepAsync($"s{i}", TestFrames.Tensor(1));
        }

        // The budget is spent for minutes; the claim is confirmed again and again all the same.
        for (var turn = 0; turn < 5; turn++)
        {
            var before = idle.Keeping.ConfirmedAt;
            await TestHost.UntilAsync(() => idle.Keeping.ConfirmedAt != before, "the claim of an idle stream is not renewed");
        }

        Assert.Contains(host.Part<StreamDirectory>().Loaded, session => session.Keeping.Dirty);
    }

    [Fact]
    public async Task DriftSweep_OneStreamCantBeJudged_TheOthersAre()
    {
        var clock = new FakeTimeProvider();
        await using var host = await TestHost.StartAsync(clock);
        host.ExpectsDefects = true;
        await host.StepAsync("bad", TestFrames.Tensor(1));
        await host.StepAsync("good", TestFrames.Tensor(1));
        var (directory, board) = (host.Part<StreamDirectory>(), host.Part<DriftBoard>());
        var publisher = host.Part<DriftPublisher>();
        await publisher.SweepAsync();
        var bad = directory.Get("bad");
        // A reading without its sites, of a state that is not there to be read anew.
        await bad.Model.Engine.InvokeAsync(model =>
        {
            bad.Place.Cold = model.Evict(bad.State!, clock.GetUtcNow());
            return true;
        });
        bad.Watch.Pending = bad.Watch.Last! with { Score = null, GaussianKl = null! };

        for (var sweep = 0; sweep < 2; sweep++)
        {
            await host.StepAsync("good", TestFrames.Tensor(sweep));
            await publisher.SweepAsync();
            Assert.Equal(["good"], board.Latest[TestHost.Model].Streams.Select(drift => drift.Stream));
        }

        await UntilNamedAsync(host, "the sweep for drift", "stream 'bad'");
    }

    [Fact]
    public async Task DriftHistory_OneStreamCantBeRecorded_TheOthersAre()
    {
        await using var host = await TestHost.StartAsync("--Drift:Interval=01:00:00");
        host.ExpectsDefects = true;
        await host.StepAsync("good", TestFrames.Tensor(1));
        await host.Part<DriftPublisher>().SweepAsync();
        var board = host.Part<DriftBoard>();
        var report = board.Latest[TestHost.Model];
        var good = report.Streams.Single();
        for (var sweep = 0; sweep < 2; sweep++)
        {
            var other = good with { Stream = $"other-{sweep}" };
            board.Publish(report with { Streams = [good with { Stream = "bad", Reading = good.Reading with { Score = null, GaussianKl = null! } }, other] }, []);
            await TestHost.UntilAsync(() => host.Part<DriftHistory>().Sites(other.Stream).Length > 0, $"{other.Stream} was not recorded");
        }

        await UntilNamedAsync(host, "the history of drift", "stream 'bad'");
    }

    [Fact]
    public async Task Shadow_APassFails_TheNextRuns()
    {
        await using var host = await TestHost.StartAsync("--Drift:Interval=01:00:00");
        host.ExpectsDefects = true;
        var model = host.Part<ModelCatalog>().Find(TestHost.Model);
        using var agreed = new Compared(host);
        var health = new StreamHealth(128, 1);
        model.Shadow.Add(health, "ema", FrameBlock.FromValues(new float[5 * 4 * 4], 1, 5, 4, 4), new float[10]);
        await model.Shadow.FlushAsync();
        var classes = (await host.StepAsync("a", TestFrames.Tensor(1))).Outputs[0].Shape[1];
        model.Shadow.Add(health, "ema", FrameBlock.FromValues(TestFrames.Values(1), 1, 3, 16, 16), new float[classes]);
        await model.Shadow.FlushAsync();

        Assert.Equal(1, agreed.Count);
        await UntilNamedAsync(host, "run through source", "1 sampled frames");
    }

    private static FailingStore Spoil(TestHost host, TimeProvider clock)
    {
        var store = new FailingStore(Memory(clock)) { Bad = "bad" };
        host.Part<RetryingStreamStateStore>().Use(store);
        return store;
    }

    private static LocalStreamStateStore Memory(TimeProvider clock) => LocalStreamStateStore.Over(new MemoryBlobs(), new StoreOptions(), StoreTestParts.Seal(clock: clock), clock);

    private static async Task UntilAsync(FakeTimeProvider clock, Func<bool> wanted, string otherwise, TimeSpan? step = null)
    {
        using var giveUp = new CancellationTokenSource(TimeSpan.FromSeconds(60));
        while (!wanted())
        {
            Assert.False(giveUp.IsCancellationRequested, otherwise);
            clock.Advance(step ?? TimeSpan.FromMinutes(1));
            await Task.Delay(20, TestContext.Current.CancellationToken);
        }
    }

    private static Task UntilNamedAsync(TestHost host, string loop, string item) =>
        TestHost.UntilAsync(() => IsNamed(host, loop, item), $"the log does not say that {loop} failed on {item}");

    private static bool IsNamed(TestHost host, string loop, string item) =>
        host.Defects.Any(defect => defect.Contains(loop, StringComparison.Ordinal) && defect.Contains($"failed on {item}", StringComparison.Ordinal));

    private sealed class Compared : IDisposable
    {
        private readonly MeterListener _listener = new();
        private long _count;

        public Compared(TestHost host)
        {
            _listener.InstrumentPublished = (instrument, listener) =>
            {
                if (instrument.Name == MetricCatalogue.ShadowFrame.Name && ReferenceEquals(instrument.Meter.Scope, host.Part<IMeterFactory>()))
                {
                    listener.EnableMeasurementEvents(instrument);
                }
            };
            _listener.SetMeasurementEventCallback<long>((_, value, _, _) => Interlocked.Add(ref _count, value));
            _listener.Start();
        }

        public long Count => Volatile.Read(ref _count);

        public void Dispose() => _listener.Dispose();
    }

    /// <summary>A store that fails on one stream after its opening, with an error that nobody expects.</summary>
    private sealed class FailingStore(IStreamStateStore inner) : IStreamStateStore
    {
        public required string Bad { get; set; }

        public bool OutlivesProcess => inner.OutlivesProcess;

        public Task<StreamOpening> OpenAsync(string stream, string owner, OpenPolicy policy, CancellationToken cancellation) =>
            inner.OpenAsync(stream, owner, policy, cancellation);

        public Task<CheckpointWrite> CheckpointAsync(StreamClaim claim, PendingCheckpoint checkpoint, CancellationToken cancellation) =>
            Check(claim.Stream, () => inner.CheckpointAsync(claim, checkpoint, cancellation));

        public Task<CheckpointWrite> CloseAsync(StreamClaim claim, PendingCheckpoint? last, CancellationToken cancellation) =>
            Check(claim.Stream, () => inner.CloseAsync(claim, last, cancellation));

        public Task<IReadOnlyList<FencedClaim>> RenewAsync(IReadOnlyCollection<StreamClaim> claims, CancellationToken cancellation) =>
            Check(claims.Any(claim => claim.Stream == Bad) ? Bad : "-", () => inner.RenewAsync(claims, cancellation));

        public Task<IReadOnlyList<StoredStream>> ListAsync(string? after, int limit, CancellationToken cancellation) => inner.ListAsync(after, limit, cancellation);

        public Task<bool> DeleteAsync(string stream, CancellationToken cancellation) => Check(stream, () => inner.DeleteAsync(stream, cancellation));

        public Task<IReadOnlyList<CheckpointDescription>> CheckpointsAsync(string stream, CancellationToken cancellation) => inner.CheckpointsAsync(stream, cancellation);

        public Task<StoredCheckpoint?> ReadAsync(string stream, long number, CancellationToken cancellation) => inner.ReadAsync(stream, number, cancellation);

        public Task RejectAsync(StreamClaim claim, long number, string reason, CancellationToken cancellation) => inner.RejectAsync(claim, number, reason, cancellation);

        public ValueTask DisposeAsync() => inner.DisposeAsync();

        private Task<T> Check<T>(string stream, Func<Task<T>> operation) =>
            stream == Bad ? Task.FromException<T>(new InvalidOperationException("an item that fails")) : operation();
    }
}

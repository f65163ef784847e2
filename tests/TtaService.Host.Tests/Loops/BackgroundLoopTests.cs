using System.Diagnostics.Metrics;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Testing;
using Microsoft.Extensions.Options;
using Microsoft.Extensions.Time.Testing;
using TtaService.Host.Tests.Infrastructure;
using TtaService.Serving.Loops;
using TtaService.Serving.Telemetry;

namespace TtaService.Host.Tests.Loops;

public sealed class BackgroundLoopTests : IAsyncDisposable
{
    private readonly FakeTimeProvider _clock = new();
    private readonly FakeLogger<LoopWatch> _log = new();
    private readonly ServiceProvider _services = new ServiceCollection().AddMetrics().BuildServiceProvider();
    private readonly LoopWatch _watch;

    public BackgroundLoopTests() =>
        _watch = new LoopWatch(new TtaMetrics(_services.GetRequiredService<IMeterFactory>(), Options.Create(new TelemetryOptions())), _clock, _log);

    public ValueTask DisposeAsync() => _services.DisposeAsync();

    [Theory]
    [InlineData(typeof(InvalidOperationException))]
    [InlineData(typeof(OperationCanceledException))]
    [InlineData(typeof(ObjectDisposedException))]
    public async Task Turn_ItemFails_TheOthersRunTheFailureIsNamedAndTheLoopGoesOn(Type failure)
    {
        var bad = failure == typeof(ObjectDisposedException) ? new ObjectDisposedException("an item") : (Exception)Activator.CreateInstance(failure)!;
        using var loop = new TestLoop(_watch, _clock, item => item == "bad" ? Task.FromException(bad) : Task.CompletedTask);
        await loop.StartAsync(CancellationToken.None);
        for (var turn = 1; turn <= 3; turn++)
        {
            await TestHost.UntilAsync(
                () =>
                {
                    _clock.Advance(TimeSpan.FromSeconds(0.1));
                    return loop.Done.Count(item => item == "good") >= turn;
                },
                "the good item did not run again");
        }

        await loop.StopAsync(CancellationToken.None);
        var reports = _log.Collector.GetSnapshot();
        // Once, and not again within the next seconds.
        Assert.Contains("the test failed on bad", Assert.Single(reports).Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Turn_FailsAsAWhole_TheNextComes()
    {
        var turns = 0;
        using var loop = new TestLoop(_watch, _clock, null, () => ++turns < 3 ? throw new InvalidOperationException("no list") : Task.CompletedTask);
        await loop.StartAsync(CancellationToken.None);
        while (turns < 5)
        {
            _clock.Advance(TimeSpan.FromSeconds(1));
            await Task.Delay(5, TestContext.Current.CancellationToken);
        }

        await loop.StopAsync(CancellationToken.None);
        Assert.Contains(_log.Collector.GetSnapshot(), report => report.Message.Contains("the test failed on its turn", StringComparison.Ordinal));
    }

    [Fact]
    public async Task Loop_StandsStill_IsUnwellUntilItGoesOn()
    {
        var release = new TaskCompletionSource();
        var entered = false;
        using var loop = new TestLoop(_watch, _clock, _ =>
        {
            entered = true;
            return release.Task;
        });
        await loop.StartAsync(CancellationToken.None);
        await TestHost.UntilAsync(
            () =>
            {
                _clock.Advance(TimeSpan.FromSeconds(0.1));
                return entered;
            },
            "it did not turn");
        Assert.Null(_watch.WhyUnwell(vitalOnly: false));

        _clock.Advance(TimeSpan.FromMinutes(2));
        Assert.Contains("the test stands still", _watch.WhyUnwell(vitalOnly: false), StringComparison.Ordinal);
        Assert.Null(_watch.WhyUnwell(vitalOnly: true));

        release.SetResult();
        await TestHost.UntilAsync(() => _watch.WhyUnwell(vitalOnly: false) is null, "it is still unwell");
        await loop.StopAsync(CancellationToken.None);
        _clock.Advance(TimeSpan.FromHours(1));
        Assert.Null(_watch.WhyUnwell(vitalOnly: false));
    }

    [Fact]
    public void Beat_WithoutWork_NeverStandsStill()
    {
        var beat = _watch.Add(LoopKind.Batcher, "a batcher", TimeSpan.FromSeconds(10), isVital: true);
        _clock.Advance(TimeSpan.FromDays(1));
        Assert.Null(_watch.WhyUnwell(vitalOnly: true));
        beat.Begin();
        _clock.Advance(TimeSpan.FromSeconds(6));
        beat.Begin();
        _clock.Advance(TimeSpan.FromSeconds(6));
        Assert.Contains("a batcher stands still", _watch.WhyUnwell(vitalOnly: true), StringComparison.Ordinal);
        beat.Rest();
        Assert.Null(_watch.WhyUnwell(vitalOnly: true));
    }

    private sealed class TestLoop(LoopWatch watch, TimeProvider clock, Func<string, Task>? item, Func<Task>? turn = null)
        : BackgroundLoop(watch, LoopKind.IdleStreams, "the test", TimeSpan.FromSeconds(1), clock)
    {
        private readonly List<string> _done = [];

        public IReadOnlyList<string> Done
        {
            get
            {
                lock (_done)
                {
                    return [.. _done];
                }
            }
        }

        protected override async Task TurnAsync(CancellationToken stop)
        {
            if (turn is not null)
            {
                await turn();
                return;
            }

            foreach (var name in new[] { "bad", "good" })
            {
                if (await Beat.TryAsync(name, () => item!(name), stop))
                {
                    lock (_done)
                    {
                        _done.Add(name);
                    }
                }
            }
        }
    }
}

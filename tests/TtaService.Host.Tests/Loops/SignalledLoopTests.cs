using System.Diagnostics.Metrics;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging.Testing;
using Microsoft.Extensions.Options;
using Microsoft.Extensions.Time.Testing;
using TtaService.Host.Tests.Infrastructure;
using TtaService.Serving.Loops;
using TtaService.Serving.Telemetry;

namespace TtaService.Host.Tests.Loops;

public sealed class SignalledLoopTests : IAsyncDisposable
{
    private readonly ServiceProvider _services = new ServiceCollection().AddMetrics().BuildServiceProvider();
    private readonly LoopWatch _watch;
    private readonly LoopBeat _beat;

    public SignalledLoopTests()
    {
        _watch = new LoopWatch(
            new TtaMetrics(_services.GetRequiredService<IMeterFactory>(), Options.Create(new TelemetryOptions())), new FakeTimeProvider(), new FakeLogger<LoopWatch>());
        _beat = _watch.Add(LoopKind.Batcher, "the test", TimeSpan.FromMinutes(1), isVital: true);
    }

    public ValueTask DisposeAsync() => _services.DisposeAsync();

    [Fact]
    public async Task Turns_AllFail_TheLoopIsUnwellUntilOneGoesWell()
    {
        using var loop = new SignalledLoop(_beat);
        var (turns, fails, over) = (0, true, false);
        var running = loop.RunAsync(
            () =>
            {
                turns++;
                return Volatile.Read(ref fails) ? throw new InvalidOperationException("every time") : Task.FromResult(!Volatile.Read(ref over));
            },
            () => Volatile.Read(ref over));
        loop.Signal();

        await TestHost.UntilAsync(() => _watch.WhyUnwell(vitalOnly: true) is not null, "it is well");
        Assert.InRange(turns, SignalledLoop.FailuresToBeUnwell, int.MaxValue);
        Assert.Contains("every turn fails (InvalidOperationException)", _watch.WhyUnwell(vitalOnly: true), StringComparison.Ordinal);

        Volatile.Write(ref fails, false);
        await TestHost.UntilAsync(() => _watch.WhyUnwell(vitalOnly: true) is null, "it is unwell");
        Volatile.Write(ref over, true);
        loop.Signal();
        await running.WaitAsync(TimeSpan.FromMinutes(1));
    }

    [Fact]
    public async Task Signal_WhileItTurns_IsNotLost()
    {
        using var loop = new SignalledLoop(_beat);
        var (looked, work, over) = (0, 0, false);
        var running = loop.RunAsync(
            () =>
            {
                Interlocked.Increment(ref looked);
                return Task.FromResult(Interlocked.Exchange(ref work, 0) > 0);
            },
            () => Volatile.Read(ref over));
        for (var i = 0; i < 100; i++)
        {
            Interlocked.Increment(ref work);
            loop.Signal();
            await TestHost.UntilAsync(() => Volatile.Read(ref work) == 0, "the work was not seen");
        }

        Volatile.Write(ref over, true);
        loop.Signal();
        await running.WaitAsync(TimeSpan.FromMinutes(1));
        Assert.InRange(looked, 100, int.MaxValue);
    }
}

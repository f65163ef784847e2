using System.Net;
using Grpc.Core;
using Microsoft.Extensions.Time.Testing;
using TtaService.Host.Tests.Infrastructure;
using TtaService.Serving.Loops;
using TtaService.Serving.Streams;

namespace TtaService.Host.Tests.Loops;

/// <summary>The probes tell when steps can't be answered any more.</summary>
public sealed class LivenessTests
{
    private static readonly HttpClient Probe = new();

    [Fact]
    public async Task DeviceThread_Stuck_IsNeitherAliveNorReadyUntilItGoesOn()
    {
        var clock = new FakeTimeProvider();
        await using var host = await TestHost.StartAsync(clock, "--Batching:StuckAfter=00:01:00", "--Drift:Sites=off");
        using (await host.OccupyEngineAsync())
        {
            await AskAsync(clock, host, 30);
            Assert.Equal((HttpStatusCode.OK, HttpStatusCode.OK), await ProbeAsync(host));
            await AskAsync(clock, host, 40);
            Assert.Equal((HttpStatusCode.ServiceUnavailable, HttpStatusCode.ServiceUnavailable), await ProbeAsync(host));
        }

        await TestHost.UntilAsync(() => host.Part<LoopWatch>().WhyUnwell(vitalOnly: false) is null, "it is still unwell");
        Assert.Equal((HttpStatusCode.OK, HttpStatusCode.OK), await ProbeAsync(host));
    }

    [Fact]
    public async Task Batcher_StuckWithWorkBeforeIt_IsNotAlive()
    {
        var clock = new FakeTimeProvider();
        await using var host = await TestHost.StartAsync(clock, "--Batching:StuckAfter=00:01:00", "--Batching:MaxDelay=00:00:00", "--Drift:Sites=off");
        using var call = await DuplexClient.OpenAsync(host, "camera");
        using (await host.OccupyEngineAsync())
        {
            await call.SendAsync(1, TestFrames.Tensor(1));
            await host.UntilAsync("camera", session => session.Waiting.Phase == StreamPhase.Running);
            clock.Advance(TimeSpan.FromSeconds(61));
            Assert.Contains(host.Part<LoopWatch>().Loops, loop => loop is { Kind: LoopKind.Batcher, WhyUnwell: not null });
        }

        Assert.Equal(1, (await call.ReadAsync()).Step.Step);
        await TestHost.UntilAsync(() => host.Part<LoopWatch>().WhyUnwell(vitalOnly: true) is null, "it is still unwell");
    }

    [Fact]
    public async Task Device_EveryPassFails_IsNotAlive()
    {
        await using var host = await TestHost.StartAsync("--Drift:Sites=off");
        host.ExpectsDefects = true;
        var model = host.Part<ModelCatalog>().Find(TestHost.Model);
        // The weights are gone, as after an error of the device that sticks.
        await model.Engine.InvokeAsync(loaded =>
        {
            loaded.Dispose();
            return true;
        });
        await FailAsync(host);
        await host.Part<DeviceWatch>().LookAsync();

        Assert.Equal((HttpStatusCode.ServiceUnavailable, HttpStatusCode.ServiceUnavailable), await ProbeAsync(host));
        Assert.Contains("every pass fails", host.Part<LoopWatch>().WhyUnwell(vitalOnly: true), StringComparison.Ordinal);
    }

    [Fact]
    public async Task Stream_EveryStepFails_SaysNothingOfTheDevice()
    {
        await using var host = await TestHost.StartAsync();
        host.ExpectsDefects = true;
        var model = host.Part<ModelCatalog>().Find(TestHost.Model);
        var run = model.Batcher.Runner.RunPass;
        model.Batcher.Runner.RunPass = (_, _) => throw new InvalidOperationException("these frames");
        await FailAsync(host);
        await host.Part<DeviceWatch>().LookAsync();
        Assert.Equal((HttpStatusCode.OK, HttpStatusCode.OK), await ProbeAsync(host));

        model.Batcher.Runner.RunPass = run;
        Assert.Equal(1, (await host.StepAsync("camera", TestFrames.Tensor(1))).Step);
    }

    private static async Task FailAsync(TestHost host)
    {
        for (var i = 0; i < DeviceWatch.FailuresToTry; i++)
        {
            await RpcAssert.RefusedAsync(StatusCode.Internal, "INTERNAL", () => host.StepAsync("camera", TestFrames.Tensor(i)));
        }
    }

    private static async Task AskAsync(FakeTimeProvider clock, TestHost host, int seconds)
    {
        for (var second = 0; second < seconds; second += 5)
        {
            clock.Advance(TimeSpan.FromSeconds(5));
            // A turn of the watch waits for the answer for its period, by the same clock.
            await Task.Delay(50, TestContext.Current.CancellationToken);
        }

        Assert.Contains(host.Part<LoopWatch>().Loops, loop => loop is { Kind: LoopKind.Device } && loop.Age > TimeSpan.Zero);
    }

    private static async Task<(HttpStatusCode Live, HttpStatusCode Ready)> ProbeAsync(TestHost host)
    {
        using var live = await Probe.GetAsync(new Uri(host.Http, "/health/live"), TestContext.Current.CancellationToken);
        using var ready = await Probe.GetAsync(new Uri(host.Http, "/health/ready"), TestContext.Current.CancellationToken);
        return (live.StatusCode, ready.StatusCode);
    }
}

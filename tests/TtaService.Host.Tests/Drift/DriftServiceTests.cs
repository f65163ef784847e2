using Google.Protobuf;
using Grpc.Core;
using Microsoft.Extensions.DependencyInjection;
using TtaService.Evaluation;
using TtaService.Host.Tests.Commands;
using TtaService.Host.Tests.Functional;
using TtaService.Host.Tests.Infrastructure;
using TtaService.Serving.Streams;
using TtaService.Serving.Telemetry;
using TtaService.V1;
using DriftLevel = TtaService.V1.DriftLevel;
using DriftUpdate = TtaService.V1.DriftUpdate;
using StreamDrift = TtaService.V1.StreamDrift;

namespace TtaService.Host.Tests.Drift;

/// <summary>Drift as clients of the real server see it.</summary>
public sealed class DriftServiceTests
{
    private const int FramesAStep = FashionCamera.FramesAStep;

    private static readonly string Models = FashionCamera.Models;

    [Fact]
    public async Task WatchDrift_AStreamWhoseDomainSwitches_TellsLevelStepAndSummary()
    {
        await using var host = await StartAsync("--Drift:ShadowShare=0.05", $"--Models:Path={Models}");
        using var call = Client(host).WatchDrift(new WatchDriftRequest(), cancellationToken: TestContext.Current.CancellationToken);
        var updates = Collect(call);
        for (var step = 0; step < 20; step++)
        {
            await SendAsync(host, "steady", step, null);
            await SendAsync(host, "camera", step, null);
        }

        await SweepAsync(host);
        Assert.Equal(DriftLevel.Normal, (await GetAsync(host, "camera")).Level);
        for (var step = 20; step < 32; step++)
        {
            await SendAsync(host, "steady", step, null);
            await SendAsync(host, "camera", step, "contrast");
            await SweepAsync(host);
        }

        var drift = await GetAsync(host, "camera");
        Assert.Equal(DriftLevel.Critical, drift.Level);
        Assert.InRange(drift.ChangedAtStep, 20, 22);
        Assert.Equal(13, drift.Sites.Count);
        Assert.True(drift.Sites[0].GaussianKl > drift.Sites[0].Limit, $"{drift.Sites[0]}");
        Assert.Equal(10, drift.Predictions.Classes.Count);
        Assert.Equal(1, drift.Predictions.Classes.Sum(), 1e-3);
        Assert.Equal(32 * FramesAStep, drift.Predictions.Frames);
        Assert.InRange(drift.Predictions.LabelShift, 0, 1);
        // Every twentieth frame, in passes of sixteen and at each sweep.
        Assert.Equal(32 * FramesAStep / 20, drift.Predictions.ShadowFrames);
        Assert.InRange(drift.Predictions.ShadowAgreed, 1, drift.Predictions.ShadowFrames);
        var steady = await GetAsync(host, "steady");
        Assert.Equal(DriftLevel.Normal, steady.Level);

        await WaitAsync(() => updates.Any(update => update.Level?.Stream.Level == DriftLevel.Critical)
            && updates.Any(update => update.Domain is not null) && updates.Count(update => update.Summary is not null) >= 13);
        Assert.All(updates.Where(update => update.Level is { } change && change.Stream.Level > DriftLevel.Normal), update => Assert.Equal("camera", update.Level.Stream.Stream));
        Assert.All(updates.Where(update => update.Domain is not null), update => Assert.Equal("camera", update.Domain.Stream.Stream));
        var summary = updates.Last(update => update.Summary is not null).Summary;
        Assert.True(summary.Calibrated);
        Assert.Contains("calibrated", summary.Calibration, StringComparison.Ordinal);
        Assert.Equal(["camera", "steady"], summary.Worst.Select(stream => stream.Stream));
        Assert.Empty(summary.Worst[0].Sites);
        Assert.Equal(2, summary.Levels.Sum(level => level.Streams));

        var top = await TtaRun.Of("top", "--address", host.Grpc.ToString(), "--sweeps", "1");
        Assert.Equal("", top.Error);
        Assert.Contains(top.Lines, line => line.Contains("camera", StringComparison.Ordinal) && line.Contains("critical", StringComparison.Ordinal));
    }

    [Fact]
    public async Task Sweep_SourceMethodAndReset_AreWatchedAndWatchedAnew()
    {
        await using var host = await StartAsync($"--Models:Path={Models}");
        for (var step = 0; step < 10; step++)
        {
            await SendAsync(host, "plain", step, null, "source");
        }

        await SweepAsync(host);
        var drift = await GetAsync(host, "plain");
        // Eight steps warm up, then one in four.
        Assert.Equal(8 * FramesAStep, drift.ObservedFrames);
        Assert.Equal((DriftLevel.Normal, true, 0), (drift.Level, drift.HasScore, drift.Predictions.ShadowFrames));

        await host.Streams.ResetStreamAsync(new ResetStreamRequest { Name = "plain" });
        var refused = await Assert.ThrowsAsync<RpcException>(async () => await Client(host).GetDriftAsync(new GetDriftRequest { Stream = "plain" }));
        Assert.Equal(StatusCode.FailedPrecondition, refused.StatusCode);
        await SendAsync(host, "plain", 0, null, "source");
        await SweepAsync(host);
        Assert.Equal((DriftLevel.WarmingUp, FramesAStep), ((await GetAsync(host, "plain")).Level, (int)(await GetAsync(host, "plain")).ObservedFrames));
    }

    [Fact]
    public async Task Frames_BlankAndFrozen_AreCounted()
    {
        await using var host = await StartAsync();
        await host.StepAsync("camera", TestFrames.Tensor(1));
        await host.StepAsync("camera", TestFrames.Tensor(1));
        await host.StepAsync("camera", TestFrames.Tensor([3, 16, 16], [.. Enumerable.Repeat(0.5f, 3 * 16 * 16)]));

        var drift = await GetAsync(host, "camera");

        Assert.Equal((3, 1, 1), (drift.Predictions.Frames, drift.Predictions.BlankFrames, drift.Predictions.FrozenFrames));
    }

    [Fact]
    public async Task Uncalibrated_Model_SaysSo()
    {
        await using var host = await StartAsync();
        await host.StepAsync("camera", TestFrames.Tensor(1));
        await SweepAsync(host);

        var drift = await GetAsync(host, "camera");
        Assert.Equal((DriftLevel.Uncalibrated, false), (drift.Level, drift.HasScore));
        Assert.All(drift.Sites, site => Assert.True(!site.HasLimit && site.GaussianKl > 0));
        using var call = Client(host).WatchDrift(new WatchDriftRequest { Model = TestHost.Model }, cancellationToken: TestContext.Current.CancellationToken);
        Assert.True(await call.ResponseStream.MoveNext(TestContext.Current.CancellationToken));
        Assert.Equal((false, "uncalibrated: run tta calibrate"), (call.ResponseStream.Current.Summary.Calibrated, call.ResponseStream.Current.Summary.Calibration));
        Assert.Equal(2, host.Host.Services.GetRequiredService<ModelCatalog>().Find(TestHost.Model).Drift.Calibration.Split(':').Length);
    }

    [Fact]
    public async Task Off_NothingIsObserved()
    {
        await using var host = await StartAsync("--Drift:Sites=off");
        await host.StepAsync("camera", TestFrames.Tensor(1), method: "ema");
        await SweepAsync(host);

        Assert.Equal(4 * 2 * (8 + 8 + 16), (await host.GetAsync("camera")).StateBytes);
        Assert.Empty(host.Host.Services.GetRequiredService<DriftBoard>().Latest);
        await RpcAssert.RefusedAsync(StatusCode.FailedPrecondition, "DRIFT_NOT_WATCHED", () => GetAsync(host, "camera"));
    }

    [Fact]
    public async Task Requests_ThatAreWrong_AreRefused()
    {
        await using var host = await StartAsync();
        await RpcAssert.RefusedAsync(StatusCode.NotFound, "STREAM_NOT_FOUND", () => GetAsync(host, "nobody"));
        await RpcAssert.RefusedAsync(StatusCode.InvalidArgument, "WORST_OUT_OF_RANGE", () => FirstAsync(host, new WatchDriftRequest { Worst = -1 }));
        await RpcAssert.RefusedAsync(StatusCode.NotFound, "MODEL_NOT_FOUND", () => FirstAsync(host, new WatchDriftRequest { Model = "nothing" }));
    }

    // The sweeps are the test's own.
    private static Task<TestHost> StartAsync(params string[] settings) => TestHost.StartAsync(["--Drift:Interval=01:00:00", .. settings]);

    private static DriftService.DriftServiceClient Client(TestHost host) => new(host.Connect());

    private static async Task<StreamDrift> GetAsync(TestHost host, string stream) => await Client(host).GetDriftAsync(new GetDriftRequest { Stream = stream });

    private static async Task<bool> FirstAsync(TestHost host, WatchDriftRequest request)
    {
        using var call = Client(host).WatchDrift(request);
        return await call.ResponseStream.MoveNext(TestContext.Current.CancellationToken);
    }

    private static Task SweepAsync(TestHost host) => host.Host.Services.GetRequiredService<DriftPublisher>().SweepAsync();

    private static Task SendAsync(TestHost host, string stream, int step, string? corruption, string? method = null) =>
        FashionCamera.SendAsync(host, stream, step, corruption, method);

    private static System.Collections.Concurrent.ConcurrentQueue<DriftUpdate> Collect(AsyncServerStreamingCall<DriftUpdate> call)
    {
        var updates = new System.Collections.Concurrent.ConcurrentQueue<DriftUpdate>();
        _ = Task.Run(async () =>
        {
            try
            {
                while (await call.ResponseStream.MoveNext(CancellationToken.None))
                {
                    updates.Enqueue(call.ResponseStream.Current);
                }
            }
            catch (RpcException)
            {
                // The test is over.
            }
        });
        return updates;
    }

    private static async Task WaitAsync(Func<bool> wanted)
    {
        using var giveUp = new CancellationTokenSource(TimeSpan.FromSeconds(60));
        while (!wanted())
        {
            await Task.Delay(20, giveUp.Token);
        }
    }
}

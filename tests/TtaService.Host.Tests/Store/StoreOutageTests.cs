using System.Diagnostics;
using System.Globalization;
using System.Net;
using Grpc.Core;
using Microsoft.Extensions.DependencyInjection;
using TtaService.Host.Tests.Infrastructure;
using TtaService.Serving.Store;
using TtaService.V1;

namespace TtaService.Host.Tests.Store;

/// <summary>A store that does not serve never stops inference, and loses no stream that is in memory.</summary>
public sealed class StoreOutageTests
{
    private static readonly HttpClient Probe = new();

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task RedisAway_StreamsGoOnAndAreSavedWhenItIsBack(bool paused)
    {
        await using var redis = await RedisServer.StartAsync();
        await using var host = await ReplicaTests.StartAsync(redis, "a");
        using var call = await DuplexClient.OpenAsync(host, "camera");
        await call.StepAsync(1, TestFrames.Tensor(1));
        await ReplicaTests.SavedAsync(host, "camera");

        await (paused ? redis.PauseAsync() : redis.KillAsync());
        for (var i = 2; i <= 30; i++)
        {
            Assert.Equal(i, (await call.StepAsync((ulong)i, TestFrames.Tensor(i))).Step.Step);
        }

        await UntilAsync(host, trouble => trouble is not null);
        using var blind = await DuplexClient.OpenAsync(host, "opened-meanwhile");
        await blind.StepAsync(1, TestFrames.Tensor(1));
        Assert.Equal("Degraded", await ReadinessAsync(host));
        await (paused ? redis.ContinueAsync() : redis.RestartAsync());
        await UntilAsync(host, trouble => trouble is null);
        await ReplicaTests.SavedAsync(host, "camera");
        await host.UntilAsync("opened-meanwhile", session => session.Keeping.Claim is not null && !session.Keeping.Dirty);

        Assert.Equal(V1.StateOrigin.Fresh, blind.Opened.Origin);
        Assert.Contains(blind.Opened.Warnings, warning => warning.Contains("out of reach", StringComparison.Ordinal));
        Assert.Equal("Healthy", await ReadinessAsync(host));
        await using var other = await ReplicaTests.StartAsync(redis, "b");
        using var moved = await DuplexClient.OpenAsync(other, "camera");
        Assert.Equal(30, moved.Opened.Age.Steps);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task RedisAway_UnderLoad_NoFrameFailsAndSavesResume(bool paused)
    {
        var outage = TimeSpan.FromSeconds(int.TryParse(Environment.GetEnvironmentVariable("TTA_OUTAGE_SECONDS"), CultureInfo.InvariantCulture, out var seconds) ? seconds : 2);
        await using var redis = await RedisServer.StartAsync();
        // A process of its own: what the test does must not show in its latency.
        await using var server = await ServerProcess.StartAsync(
            "Store:Kind=redis", $"Store:RedisConfiguration={redis.Configuration}", "Store:Replica=a", "Store:CheckpointInterval=00:00:01", "Store:RenewInterval=00:00:00.5");
        var cameras = Enumerable.Range(0, 8).Select(i => new Camera($"camera-{i}", server.GrpcPort, TimeSpan.FromMilliseconds(50))).ToList();
        try
        {
            await Task.WhenAll(cameras.Select(camera => camera.UntilAnsweredAsync(20)));
            await Task.Delay(outage, TestContext.Current.CancellationToken);
            var began = Stopwatch.GetTimestamp();
            await (paused ? redis.PauseAsync() : redis.KillAsync());
            await Task.Delay(outage, TestContext.Current.CancellationToken);
            var over = Stopwatch.GetTimestamp();
            await (paused ? redis.ContinueAsync() : redis.RestartAsync());
            await redis.UntilSavedAsync("camera-0");
            var resumed = Stopwatch.GetElapsedTime(over);

            var (before, during) = (P99(cameras, began - (long)(outage.TotalSeconds * Stopwatch.Frequency), began), P99(cameras, began, over));
            TestContext.Current.TestOutputHelper!.WriteLine($"figure: redis {(paused ? "paused" : "killed")} for {outage.TotalSeconds:0} s under load: "
                + $"{cameras.Sum(camera => camera.Failures.Count)} failed "
                + $"frames of {cameras.Sum(camera => camera.Answers.Count)}, p99 {before.TotalMilliseconds:0.0} ms before, {during.TotalMilliseconds:0.0} ms during "
                + $"({during / before:0.00}), first save {resumed.TotalSeconds:0.0} s after its return");
            Assert.All(cameras, camera => Assert.Empty(camera.Failures));
            // Taken once: the cameras go on.
            Assert.All(cameras.Select(camera => camera.Answers.ToArray()), answers => Assert.Equal(answers.Length, answers[^1].Reply.Step));
        }
        finally
        {
            await Task.WhenAll(cameras.Select(camera => camera.DisposeAsync().AsTask()));
        }
    }

    private static TimeSpan P99(IReadOnlyList<Camera> cameras, long from, long to)
    {
        var took = cameras.SelectMany(camera => camera.Answers).Where(answer => answer.At >= from && answer.At < to).Select(answer => answer.Took).Order().ToList();
        return took[(int)(took.Count * 0.99)];
    }

    [Fact]
    public async Task RedisAway_RequireFencing_RefusesNewOpensAndServesThoseAtHand()
    {
        await using var redis = await RedisServer.StartAsync();
        await using var host = await ReplicaTests.StartAsync(redis, "a", "--Store:RequireFencing=true");
        using var call = await DuplexClient.OpenAsync(host, "camera");
        await redis.KillAsync();

        await RpcAssert.RefusedAsync(StatusCode.Unavailable, "STORE_UNAVAILABLE", () => DuplexClient.OpenAsync(host, "new"));
        Assert.Equal(1, (await call.StepAsync(1, TestFrames.Tensor(1))).Step.Step);
        await redis.RestartAsync();
        await UntilAsync(host, trouble => trouble is null);

        using var opened = await DuplexClient.OpenAsync(host, "new");
        Assert.Equal(V1.StateOrigin.Fresh, opened.Opened.Origin);
        Assert.Empty(opened.Opened.Warnings);
    }

    [Fact]
    public async Task OpenedBlind_TheStoreHasMore_TheClientIsSentBackToIt()
    {
        await using var redis = await RedisServer.StartAsync();
        await using (var before = await ReplicaTests.StartAsync(redis, "a"))
        {
            for (var i = 0; i < 20; i++)
            {
                await before.StepAsync("camera", TestFrames.Tensor(i));
            }
        }

        await using var host = await ReplicaTests.StartAsync(redis, "b");
        await redis.PauseAsync();
        using var blind = await DuplexClient.OpenAsync(host, "camera");
        await blind.StepAsync(1, TestFrames.Tensor(1));
        await redis.ContinueAsync();

        RpcAssert.Refused(StatusCode.Unavailable, "STREAM_STATE_FOUND", await blind.EndAsync());
        using var again = await DuplexClient.OpenAsync(host, "camera");
        Assert.Equal((V1.StateOrigin.Restored, 20), (again.Opened.Origin, again.Opened.Age.Steps));
    }

    [Fact]
    public async Task FolderGone_StreamsGoOnAndAreSavedWhenItIsBack()
    {
        using var folder = new TestFolder();
        await using (var host = await TestHost.StartAsync(
            "--Store:Kind=file", $"--Store:Path={folder.In("store")}", "--Store:CheckpointInterval=00:00:00.2", "--Store:RetryDelay=00:00:00.1"))
        {
            await host.StepAsync("camera", TestFrames.Tensor(0));
            await ReplicaTests.SavedAsync(host, "camera");
            Directory.Move(folder.In("store"), folder.In("away"));
            for (var i = 2; i <= 20; i++)
            {
                Assert.Equal(i, (await host.StepAsync("camera", TestFrames.Tensor(i))).Step);
            }

            await UntilAsync(host, trouble => trouble is not null);
            Assert.Equal("Degraded", await ReadinessAsync(host));
            Directory.Move(folder.In("away"), folder.In("store"));
            await UntilAsync(host, trouble => trouble is null);
        }

        await using var again = await TestHost.StartAsync("--Store:Kind=file", $"--Store:Path={folder.In("store")}");
        Assert.Equal(20, (await again.GetAsync("camera")).Age.Steps);
    }

    [Fact]
    public async Task DiskFull_IsReportedAndRecoversByItself()
    {
        using var folder = new TestFolder();
        await using var mount = OtherProgram.Start(OtherProgram.Require("mount"), ["-t", "tmpfs", "-o", "size=128k", "tmpfs", folder.Path]);
        await mount.ExitAsync();
        if (mount.ExitCode != 0)
        {
            Assert.Skip($"a small disk needs the right to mount one: {mount.Printed}");
        }

        try
        {
            var filler = folder.In("filler");
            await using (var host = await TestHost.StartAsync(
                "--Store:Kind=file", $"--Store:Path={folder.In("store")}", "--Store:CheckpointInterval=00:00:00.2", "--Store:RetryDelay=00:00:00.1"))
            {
                await host.StepAsync("camera", TestFrames.Tensor(0));
                await ReplicaTests.SavedAsync(host, "camera");
                await Assert.ThrowsAsync<IOException>(() => FillAsync(filler));
                for (var i = 2; i <= 20; i++)
                {
                    Assert.Equal(i, (await host.StepAsync("camera", TestFrames.Tensor(i))).Step);
                }

                await UntilAsync(host, trouble => trouble?.Contains("full", StringComparison.Ordinal) == true);
                File.Delete(filler);
                await UntilAsync(host, trouble => trouble is null);
            }

            await using var again = await TestHost.StartAsync("--Store:Kind=file", $"--Store:Path={folder.In("store")}");
            Assert.Equal(20, (await again.GetAsync("camera")).Age.Steps);
        }
        finally
        {
            await using var unmount = OtherProgram.Start(OtherProgram.Require("umount"), ["-l", folder.Path]);
            await unmount.ExitAsync();
        }
    }

    private static async Task FillAsync(string path)
    {
        await using var file = new FileStream(path, FileMode.Create, FileAccess.Write, FileShare.None, bufferSize: 0);
        while (true)
        {
            await file.WriteAsync(new byte[1024]);
        }
    }

    private static async Task<string> ReadinessAsync(TestHost host)
    {
        using var answer = await Probe.GetAsync(new Uri(host.Http, "/health/ready"), TestContext.Current.CancellationToken);
        Assert.Equal(HttpStatusCode.OK, answer.StatusCode);
        // Behind the status stands what is wrong.
        return (await answer.Content.ReadAsStringAsync(TestContext.Current.CancellationToken)).Split(':')[0];
    }

    private static async Task UntilAsync(TestHost host, Predicate<string?> wanted)
    {
        var health = host.Host.Services.GetRequiredService<StoreHealth>();
        using var giveUp = new CancellationTokenSource(TimeSpan.FromSeconds(30));
        while (!wanted(health.Trouble))
        {
            Assert.False(giveUp.IsCancellationRequested, $"the store's trouble is '{health.Trouble}'");
            await Task.Delay(10, TestContext.Current.CancellationToken);
        }
    }
}

using System.Diagnostics;
using TtaService.Host.Tests.Infrastructure;
using TtaService.V1;

namespace TtaService.Host.Tests.Store;

/// <summary>Three replicas behind haproxy with one Redis: what cameras notice when a replica is killed, stopped or paused.</summary>
public sealed class LoadBalancerTests
{
    private static int Cameras => int.TryParse(Environment.GetEnvironmentVariable("TTA_CAMERAS"), out var cameras) ? cameras : 12;

    private static int Pauses => int.TryParse(Environment.GetEnvironmentVariable("TTA_PAUSES"), out var pauses) ? pauses : 1;

    [Fact]
    public async Task Killed_OneOfThree_ItsStreamsComeBackAndTheOthersNoticeNothing()
    {
        await using var cluster = await Cluster.StartAsync(Cameras);
        await cluster.UntilAnsweredAsync(10);
        // Every stream has been stored at least once.
        await Task.Delay(1500, TestContext.Current.CancellationToken);
        await cluster.RunThroughAsync(() => cluster.Replicas[0].Process.KillAsync());

        cluster.Report("kill -9 of one of 3");
        Assert.All(cluster.Cameras, camera => Assert.Empty(camera.Failures));
        Assert.InRange(cluster.Victims.Count, 1, Cameras - 1);
        Assert.All(
            cluster.Victims, victim => Assert.True(victim.Steps > 1 && victim.Origin == StateOrigin.Restored, $"{victim.Name} came back {victim.Origin} at step {victim.Steps}"));
    }

    [Fact]
    public async Task Stopped_OneOfThree_NoStepIsLost()
    {
        await using var cluster = await Cluster.StartAsync(Cameras);
        await cluster.UntilAnsweredAsync(10);
        await cluster.RunThroughAsync(() => cluster.Replicas[0].Process.TerminateAsync());

        cluster.Report("graceful stop of one of 3");
        Assert.Equal(0, cluster.Replicas[0].Process.ExitCode);
        Assert.All(cluster.Cameras, camera => Assert.Empty(camera.Failures));
        Assert.InRange(cluster.Victims.Count, 1, Cameras - 1);
        // Not one step of adaptation is missing, and none was made twice.
        Assert.All(
            cluster.Cameras, camera => Assert.Equal(Enumerable.Range(1, camera.Answers.Count).Select(step => (long)step), camera.Answers.Select(answer => answer.Reply.Step)));
    }

    [Fact]
    public async Task Paused_AndWokenLater_ItsLateWritesAreRefused()
    {
        await using var cluster = await Cluster.StartAsync(Cameras);
        await cluster.UntilAnsweredAsync(10);
        for (var pause = 0; pause < Pauses; pause++)
        {
            var replica = cluster.Replicas[pause % 3].Process;
            await cluster.RunThroughAsync(async () =>
            {
                await replica.PauseAsync();
                await Task.Delay(2500);
            });
            var before = cluster.Cameras.ConvertAll(camera => camera.Answers.ToArray());
            await replica.ContinueAsync();
            await cluster.UntilAnsweredAsync(20);

            Assert.All(cluster.Cameras, camera => Assert.Empty(camera.Failures));
            // Had a late write come through, some stream would have gone back to it on the way.
            Assert.All(cluster.Cameras.Zip(before), pair => Assert.Equal(
                Enumerable.Range(1, 20).Select(i => pair.Second[^1].Reply.Step + i),
                pair.First.Answers.Skip(pair.Second.Length).Take(20).Select(answer => answer.Reply.Step)));
        }

        cluster.Report($"SIGSTOP of one of 3, {Pauses} times");
    }

    private sealed record Victim(string Name, long Steps, StateOrigin Origin, long GapMilliseconds);

    private sealed class Cluster : IAsyncDisposable
    {
        private readonly RedisServer _redis;
        private readonly LoadBalancer _balancer;

        private Cluster(RedisServer redis, List<ServerProcess> replicas, LoadBalancer balancer, List<Camera> cameras) =>
            (_redis, Replicas, _balancer, Cameras) = (redis, replicas, balancer, cameras);

        public List<ServerProcess> Replicas { get; }

        public List<Camera> Cameras { get; }

        /// <summary>The cameras whose stream moved.</summary>
        public List<Victim> Victims { get; } = [];

        private List<long> OtherGaps { get; } = [];

        public static async Task<Cluster> StartAsync(int cameras)
        {
            OtherProgram.Require("haproxy");
            var redis = await RedisServer.StartAsync();
            var replicas = await Task.WhenAll(Enumerable.Range(0, 3).Select(i => ServerProcess.StartAsync(
                "Store:Kind=redis", $"Store:RedisConfiguration={redis.Configuration}", $"Store:Replica=replica-{i}",
                    "Store:CheckpointInterval=00:00:01", "Store:RenewInterval=00:00:00.5")));
            var balancer = await LoadBalancer.StartAsync(replicas);
            return new Cluster(
                redis, [.. replicas], balancer, [.. Enumerable.Range(0, cameras).Select(i => new Camera($"camera-{i}", balancer.Port, TimeSpan.FromMilliseconds(100)))]);
        }

        public Task UntilAnsweredAsync(int more) => Task.WhenAll(Cameras.Select(camera => camera.UntilAnsweredAsync(more)));

        /// <summary>Does something to a replica while the cameras run, until all of them go on.</summary>
        public async Task RunThroughAsync(Func<Task> happening)
        {
            var before = Cameras.ConvertAll(camera => camera.Answers.Count);
            var began = Stopwatch.GetTimestamp();
            await happening();
            await UntilAnsweredAsync(20);
            for (var i = 0; i < Cameras.Count; i++)
            {
                var gap = Cameras[i].LongestGapMilliseconds(began);
                var answers = Cameras[i].Answers.ToArray();
                var moved = Enumerable.Range(before[i], answers.Length - before[i])
                    .FirstOrDefault(at => answers[at].Reply.Origin == StateOrigin.Restored && answers[at - 1].Reply.Origin != StateOrigin.Restored, -1);
                if (moved >= 0)
                {
                    Victims.Add(new Victim(Cameras[i].Name, answers[moved].Reply.Step, answers[moved].Reply.Origin, gap));
                }
                else
                {
                    OtherGaps.Add(gap);
                }
            }
        }

        public void Report(string what)
        {
            var gaps = Victims.Select(victim => victim.GapMilliseconds).Order().ToList();
            TestContext.Current.TestOutputHelper!.WriteLine(gaps.Count == 0
                ? $"figure: {what}: no stream moved, longest gap {OtherGaps.Max()} ms"
                : $"figure: {what}: {gaps.Count} of {Cameras.Count} streams moved, gap median {gaps[gaps.Count / 2]} ms, longest {gaps[^1]} ms; "
                    + $"the others' longest {OtherGaps.Max()} ms, {Cameras.Sum(camera => camera.Failures.Count)} errors");
        }

        public async ValueTask DisposeAsync()
        {
            await Task.WhenAll(Cameras.Select(camera => camera.DisposeAsync().AsTask()));
            await _balancer.DisposeAsync();
            foreach (var replica in Replicas)
            {
                await replica.DisposeAsync();
            }

            await _redis.DisposeAsync();
        }
    }
}

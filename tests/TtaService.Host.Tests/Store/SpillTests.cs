using Grpc.Core;
using Microsoft.Extensions.DependencyInjection;
using TtaService.Host.Tests.Infrastructure;
using TtaService.Serving.Streams;
using TtaService.V1;

namespace TtaService.Host.Tests.Store;

/// <summary>Many streams on little memory: states go to the store and come back, and nobody notices.</summary>
public sealed class SpillTests
{
    private const int Streams = 24;
    private const int Rounds = 8;

    [Fact]
    public async Task ManyStreams_FewSlots_AnswerLikeEachAlone()
    {
        using var folder = new TestFolder();
        await using var alone = await TestHost.StartAsync();
        var stateBytes = await StateBytesAsync(alone);
        await using var host = await TestHost.StartAsync(
            "--Store:Kind=file", $"--Store:Path={folder.Path}", "--Store:CheckpointInterval=00:00:00.2", $"--Models:ArenaBytes={stateBytes * 4}");
        var directory = host.Host.Services.GetRequiredService<StreamDirectory>();
        var spilled = 0;
        for (var round = 0; round < Rounds; round++)
        {
            var replies = await Task.WhenAll(Enumerable.Range(0, Streams).Select(stream => host.StepAsync($"s{stream}", TestFrames.Tensor((stream * 100) + round))));
            for (var stream = 0; stream < Streams; stream++)
            {
                var expected = await alone.StepAsync($"s{stream}", TestFrames.Tensor((stream * 100) + round));
                Assert.Equal(round + 1, replies[stream].Step);
                Assert.All(TestFrames.Scores(expected).Zip(TestFrames.Scores(replies[stream])), pair => Assert.Equal(pair.First, pair.Second, 1e-6));
            }

            spilled = Math.Max(spilled, await UntilSpilledAsync(directory, Streams - 8));
        }

        Assert.InRange(spilled, Streams - 8, Streams);
    }

    [Fact]
    public async Task MoreStreamsThanTheLimit_IdleOnesWaitInTheStore()
    {
        using var folder = new TestFolder();
        await using var host = await TestHost.StartAsync("--Store:Kind=file", $"--Store:Path={folder.Path}", "--Streams:MaxStreams=4");
        for (var round = 1; round <= 3; round++)
        {
            for (var stream = 0; stream < 12; stream++)
            {
                Assert.Equal(round, (await host.StepAsync($"s{stream}", TestFrames.Tensor(stream))).Step);
            }
        }

        Assert.Equal(4, host.Host.Services.GetRequiredService<StreamDirectory>().Count);
    }

    [Fact]
    public async Task StreamsUnderUse_PastTheLimit_AreNotUnloaded()
    {
        using var folder = new TestFolder();
        await using var host = await TestHost.StartAsync("--Store:Kind=file", $"--Store:Path={folder.Path}", "--Streams:MaxStreams=2");
        using var first = await DuplexClient.OpenAsync(host, "first");
        using var second = await DuplexClient.OpenAsync(host, "second");

        await RpcAssert.RefusedAsync(StatusCode.ResourceExhausted, "TOO_MANY_STREAMS", () => DuplexClient.OpenAsync(host, "third"));

        Assert.Equal(1, (await first.StepAsync(1, TestFrames.Tensor(1))).Step.Step);
        Assert.Equal(1, (await second.StepAsync(1, TestFrames.Tensor(1))).Step.Step);
    }

    [Fact]
    public async Task SpilledStream_UpdateResetExport_WorkAsAtHand()
    {
        using var folder = new TestFolder();
        await using var probe = await TestHost.StartAsync();
        var stateBytes = await StateBytesAsync(probe);
        await using var host = await TestHost.StartAsync(
            "--Store:Kind=file", $"--Store:Path={folder.Path}", "--Store:CheckpointInterval=00:00:00.2", $"--Models:ArenaBytes={stateBytes}");
        var directory = host.Host.Services.GetRequiredService<StreamDirectory>();
        foreach (var stream in new[] { "a", "b", "c" })
        {
            await host.StepAsync(stream, TestFrames.Tensor(1));
        }

        await UntilSpilledAsync(directory, 2);
        Assert.NotEmpty(await host.ExportAsync("a"));
        await host.Streams.UpdateStreamAsync(new UpdateStreamRequest
        {
            Stream = new V1.Stream { Name = "b", MaxCoalesce = 2 },
            UpdateMask = new Google.Protobuf.WellKnownTypes.FieldMask { Paths = { "max_coalesce" } }
        });
        await UntilSpilledAsync(directory, 2);
        var reset = await host.Streams.ResetStreamAsync(new ResetStreamRequest { Name = "c" });

        Assert.Equal(0, reset.Age.Steps);
        Assert.Equal(2, (await host.StepAsync("a", TestFrames.Tensor(2))).Step);
        Assert.Equal(2, (await host.StepAsync("b", TestFrames.Tensor(2))).Step);
        Assert.Equal(1, (await host.StepAsync("c", TestFrames.Tensor(2))).Step);
    }

    [Fact]
    public async Task SpilledFile_GoneBad_StreamEndsAndStartsAnewTruthfully()
    {
        using var folder = new TestFolder();
        await using var probe = await TestHost.StartAsync();
        var stateBytes = await StateBytesAsync(probe);
        await using var host = await TestHost.StartAsync(
            "--Store:Kind=file", $"--Store:Path={folder.Path}", "--Store:CheckpointInterval=00:00:00.2", $"--Models:ArenaBytes={stateBytes}");
        using var call = await DuplexClient.OpenAsync(host, "a");
        await call.StepAsync(1, TestFrames.Tensor(1));
        await host.StepAsync("b", TestFrames.Tensor(1));
        await UntilSpilledAsync(host.Host.Services.GetRequiredService<StreamDirectory>(), 1);
        var path = Directory.GetFiles(folder.Path, "a~*.safetensors").Max()!;
        await File.WriteAllBytesAsync(path, new byte[100], TestContext.Current.CancellationToken);

        var failed = await call.StepAsync(2, TestFrames.Tensor(2));
        RpcAssert.Refused(StatusCode.Unavailable, "STREAM_STATE_LOST", await call.EndAsync());
        using var again = await DuplexClient.OpenAsync(host, "a");

        Assert.Equal("STREAM_STATE_LOST", failed.Error.Reason);
        Assert.Equal(V1.StateOrigin.Reset, again.Opened.Origin);
        Assert.Contains(again.Opened.Warnings, warning => warning.Contains("refused and set aside", StringComparison.Ordinal));
    }

    private static async Task<long> StateBytesAsync(TestHost host)
    {
        await host.StepAsync("probe", TestFrames.Tensor(0));
        return (await host.GetAsync("probe")).StateBytes;
    }

    private static async Task<int> UntilSpilledAsync(StreamDirectory directory, int streams)
    {
        using var giveUp = new CancellationTokenSource(TimeSpan.FromSeconds(30));
        while (true)
        {
            var spilled = directory.Loaded.Count(session => session.Keeping.Spilled);
            if (spilled >= streams)
            {
                return spilled;
            }

            Assert.False(giveUp.IsCancellationRequested, string.Join(", ", directory.Loaded.Select(session =>
                $"{session.Name}: evicted {session.Keeping.Evicted}, dirty {session.Keeping.Dirty}, number {session.Keeping.Number}, "
                    + $"{session.Waiting.Phase}, cold {session.Place.Cold is not null}, resident {session.State?.IsResident}, claim {session.Keeping.Claim}")));
            await Task.Delay(10, TestContext.Current.CancellationToken);
        }
    }
}

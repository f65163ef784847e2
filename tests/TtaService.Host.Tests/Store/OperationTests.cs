using Google.Protobuf.WellKnownTypes;
using Grpc.Core;
using Microsoft.Extensions.DependencyInjection;
using TtaService.Host.Tests.Infrastructure;
using TtaService.Serving.Streams;
using TtaService.V1;

namespace TtaService.Host.Tests.Store;

/// <summary>What an operator does to streams: fork, roll back, pin, list.</summary>
public sealed class OperationTests
{
    [Theory]
    [InlineData("memory")]
    [InlineData("file")]
    public async Task Fork_NewStream_GoesOnLikeItsSource(string kind)
    {
        using var folder = new TestFolder();
        await using var host = await StartAsync(kind, folder);
        await StepsAsync(host, "source", 1, 5);

        var fork = await host.Streams.ForkStreamAsync(new ForkStreamRequest { Source = "source", Name = "fork" });

        Assert.Equal((5, 0ul), (fork.Age.Steps, fork.LastSequence));
        Assert.Equal(fork.Method, (await host.GetAsync("source")).Method);
        var (expected, actual) = (await host.StepAsync("source", TestFrames.Tensor(9)), await host.StepAsync("fork", TestFrames.Tensor(9)));
        Assert.Equal(expected.Outputs, actual.Outputs);
        await host.StepAsync("fork", TestFrames.Tensor(10));
        Assert.Equal(6, (await host.GetAsync("source")).Age.Steps);
    }

    [Fact]
    public async Task Fork_WrongNames_AreRefusedAndChangeNothing()
    {
        await using var host = await TestHost.StartAsync();
        await StepsAsync(host, "source", 1, 1);
        await StepsAsync(host, "taken", 1, 2);

        await RpcAssert.RefusedAsync(
            StatusCode.NotFound, "STREAM_NOT_FOUND", async () => await host.Streams.ForkStreamAsync(new ForkStreamRequest { Source = "nobody", Name = "fork" }));
        await RpcAssert.RefusedAsync(
            StatusCode.AlreadyExists, "STREAM_EXISTS", async () => await host.Streams.ForkStreamAsync(new ForkStreamRequest { Source = "source", Name = "taken" }));
        await RpcAssert.RefusedAsync(
            StatusCode.InvalidArgument, "STREAM_NAME_INVALID", async () => await host.Streams.ForkStreamAsync(new ForkStreamRequest { Source = "source", Name = "a/b" }));

        Assert.Equal(2, (await host.GetAsync("taken")).Age.Steps);
    }

    [Theory]
    [InlineData("memory")]
    [InlineData("file")]
    [InlineData("redis")]
    public async Task RollBack_ToAKeptCheckpoint_GoesOnFromThere(string kind)
    {
        using var folder = new TestFolder();
        await using var redis = kind == "redis" ? await RedisServer.StartAsync() : null;
        await using var host = await StartAsync(kind, folder, redis);
        await StepsAsync(host, "camera", 1, 3);
        await ReplicaTests.SavedAsync(host, "camera");
        var good = (await CheckpointsAsync(host, "camera"))[0];
        await StepsAsync(host, "twin", 1, 4);
        await StepsAsync(host, "camera", 4, 6);
        await ReplicaTests.SavedAsync(host, "camera");

        var back = await host.Streams.RollBackStreamAsync(new RollBackStreamRequest { Name = "camera", Checkpoint = good.Number });

        Assert.Equal((3, 3ul), (good.Step, good.Sequence));
        // The state is the old one; what was answered stays answered.
        Assert.Equal((3, 6ul, V1.StateOrigin.Restored), (back.Age.Steps, back.LastSequence, back.Origin));
        Assert.True((await host.StepAsync("camera", TestFrames.Tensor(6), 6)).Replayed);
        var next = await host.StepAsync("camera", TestFrames.Tensor(4), 7);
        Assert.Equal(4, next.Step);
        Assert.Equal(await StateAsync(host, "twin"), await StateAsync(host, "camera"));
        await ReplicaTests.SavedAsync(host, "camera");
        Assert.Equal((4, 7ul), ((await CheckpointsAsync(host, "camera"))[0].Step, (await CheckpointsAsync(host, "camera"))[0].Sequence));
    }

    [Fact]
    public async Task RollBack_NotKeptOrNothingStored_IsRefusedAndTheStateStays()
    {
        await using var host = await TestHost.StartAsync("--Store:CheckpointInterval=01:00:00");
        await StepsAsync(host, "camera", 1, 2);

        await RpcAssert.RefusedAsync(
            StatusCode.NotFound, "CHECKPOINT_NOT_FOUND", async () => await host.Streams.RollBackStreamAsync(new RollBackStreamRequest { Name = "camera" }));
        await RpcAssert.RefusedAsync(
            StatusCode.NotFound, "CHECKPOINT_NOT_FOUND", async () => await host.Streams.RollBackStreamAsync(new RollBackStreamRequest { Name = "camera", Checkpoint = 7 }));
        await RpcAssert.RefusedAsync(
            StatusCode.InvalidArgument, "CHECKPOINT_INVALID", async () => await host.Streams.RollBackStreamAsync(new RollBackStreamRequest { Name = "camera", Checkpoint = -1 }));
        await RpcAssert.RefusedAsync(StatusCode.NotFound, "STREAM_NOT_FOUND", async () => await host.Streams.ListCheckpointsAsync(new ListCheckpointsRequest { Name = "nobody" }));

        Assert.Equal(2, (await host.GetAsync("camera")).Age.Steps);
    }

    [Fact]
    public async Task RollBack_AcrossAChangeOfMethod_BringsTheOldMethodBack()
    {
        using var folder = new TestFolder();
        await using var host = await StartAsync("file", folder);
        await host.StepAsync("camera", TestFrames.Tensor(1), method: "ema");
        await ReplicaTests.SavedAsync(host, "camera");
        var number = (await CheckpointsAsync(host, "camera"))[0].Number;
        await host.Adaptation.InferAsync(new InferRequest
        {
            Open = new OpenStream { Stream = "camera", Method = new V1.Method { Name = "unmix_tns" }, ResumePolicy = ResumePolicy.Reset },
            Step = new StepRequest { Frames = { TestFrames.Tensor(1) } },
        });

        var back = await host.Streams.RollBackStreamAsync(new RollBackStreamRequest { Name = "camera", Checkpoint = number });

        Assert.Equal(("ema", 1), (back.Method.Name, back.Age.Steps));
        Assert.Equal(2, (await host.StepAsync("camera", TestFrames.Tensor(2))).Step);
    }

    [Fact]
    public async Task Pinned_IdleAndWantedByOthers_StaysInMemoryAlsoAfterARestart()
    {
        using var folder = new TestFolder();
        string[] settings = ["--Store:Kind=file", $"--Store:Path={folder.Path}", "--Streams:MaxStreams=3"];
        await using (var host = await TestHost.StartAsync(settings))
        {
            await StepsAsync(host, "pinned", 1, 1);
            var pinned = await host.Streams.UpdateStreamAsync(
                new UpdateStreamRequest { Stream = new V1.Stream { Name = "pinned", Pinned = true }, UpdateMask = FieldMask.FromString("pinned") });
            Assert.True(pinned.Pinned);
            await CrowdAsync(host);
        }

        await using var again = await TestHost.StartAsync(settings);
        Assert.True((await again.GetAsync("pinned")).Pinned);
        await CrowdAsync(again);

        static async Task CrowdAsync(TestHost host)
        {
            for (var stream = 0; stream < 8; stream++)
            {
                await host.StepAsync($"s{stream}", TestFrames.Tensor(stream));
            }

            Assert.True(host.Host.Services.GetRequiredService<StreamDirectory>().Contains("pinned"));
        }
    }

    [Fact]
    public async Task Pinned_SmallArena_OthersLeaveIt()
    {
        await using var sizing = await TestHost.StartAsync();
        var bytes = (await sizing.Streams.CreateStreamAsync(new CreateStreamRequest { Stream = new V1.Stream { Name = "s" } })).StateBytes;
        await using var host = await TestHost.StartAsync($"--Models:ArenaBytes={bytes * 3}");
        await host.Streams.CreateStreamAsync(new CreateStreamRequest { Stream = new V1.Stream { Name = "pinned", Pinned = true } });
        for (var stream = 0; stream < 6; stream++)
        {
            await host.StepAsync($"s{stream}", TestFrames.Tensor(stream));
        }

        Assert.True((await host.GetAsync("pinned")).Resident);
        Assert.False((await host.GetAsync("s0")).Resident);
    }

    [Fact]
    public async Task List_AfterARestart_NamesTheStoredStreams()
    {
        using var folder = new TestFolder();
        await using (var before = await StartAsync("file", folder))
        {
            foreach (var name in (string[])["a", "c", "e"])
            {
                await StepsAsync(before, name, 1, 2);
            }
        }

        await using var host = await StartAsync("file", folder);
        await StepsAsync(host, "b", 1, 1);
        await StepsAsync(host, "c", 3, 3);

        var first = await host.Streams.ListStreamsAsync(new ListStreamsRequest { PageSize = 3 });
        var second = await host.Streams.ListStreamsAsync(new ListStreamsRequest { PageSize = 3, PageToken = first.NextPageToken });

        Assert.Equal([("a", 2, false), ("b", 1, true), ("c", 3, true)], first.Streams.Select(stream => (stream.Name, stream.Age.Steps, stream.Resident)));
        Assert.Equal([("e", 2, false)], second.Streams.Select(stream => (stream.Name, stream.Age.Steps, stream.Resident)));
        Assert.Equal((string.Empty, TestHost.Model, 2ul, string.Empty), (second.NextPageToken, second.Streams[0].Model, second.Streams[0].LastSequence, second.Streams[0].Owner));
        Assert.All(first.Streams.Skip(1), stream => Assert.NotEmpty(stream.Owner));
    }

    private static Task<TestHost> StartAsync(string kind, TestFolder folder, RedisServer? redis = null) => redis is null
        ? TestHost.StartAsync($"--Store:Kind={kind}", $"--Store:Path={folder.Path}", "--Store:CheckpointInterval=00:00:00.3")
        : ReplicaTests.StartAsync(redis, "a");

    private static async Task StepsAsync(TestHost host, string stream, int first, int last)
    {
        for (var step = first; step <= last; step++)
        {
            await host.StepAsync(stream, TestFrames.Tensor(step), (ulong)step);
        }
    }

    private static async Task<IReadOnlyList<Checkpoint>> CheckpointsAsync(TestHost host, string stream) =>
        (await host.Streams.ListCheckpointsAsync(new ListCheckpointsRequest { Name = stream })).Checkpoints;

    // Without the metadata, which hold the time of the export.
    private static async Task<byte[]> StateAsync(TestHost host, string stream)
    {
        var file = await host.ExportAsync(stream);
        return file[(8 + (int)BitConverter.ToInt64(file))..];
    }
}

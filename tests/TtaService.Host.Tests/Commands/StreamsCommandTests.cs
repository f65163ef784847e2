using System.Text.Json;
using TtaService.Host.Tests.Infrastructure;
using TtaService.V1;

namespace TtaService.Host.Tests.Commands;

public sealed class StreamsCommandTests
{
    [Fact]
    public async Task Streams_EveryVerb_DoesWhatItSays()
    {
        using var folder = new TestFolder();
        await using var host = await TestHost.StartAsync("--Store:Kind=file", $"--Store:Path={folder.In("store")}", "--Store:CheckpointInterval=00:00:00.2");
        await host.StepAsync("camera", TestFrames.Tensor(1), 1);
        Task<TtaRun> Run(params string[] arguments) => TtaRun.Of(["streams", "--address", host.Grpc.AbsoluteUri, .. arguments]);
        async Task<JsonElement> Ask(params string[] arguments)
        {
            var run = await Run(arguments);
            Assert.True(run.ExitCode == 0, run.Error);
            return JsonDocument.Parse(run.Output).RootElement;
        }

        var listed = await Run("list");
        Assert.Contains(listed.Lines, line => line.StartsWith("camera", StringComparison.Ordinal) && line.Contains("tiny", StringComparison.Ordinal));
        Assert.Contains("1 streams", listed.Lines);
        Assert.Equal("camera", (await Ask("list", "--json")).GetProperty("name").GetString());
        Assert.Equal("1", (await Ask("show", "camera")).GetProperty("age").GetProperty("steps").GetString());

        Assert.True((await Ask("freeze", "camera")).GetProperty("frozen").GetBoolean());
        Assert.False((await Ask("unfreeze", "camera")).GetProperty("frozen").GetBoolean());

        Assert.Equal("beside", (await Ask("fork", "camera", "beside")).GetProperty("name").GetString());
        Assert.Equal(1, (await host.GetAsync("beside")).Age.Steps);

        Assert.Equal(0, (await Run("export", "camera", folder.In("one.safetensors"))).ExitCode);
        Assert.Equal("1", (await Ask("import", "again", folder.In("one.safetensors"))).GetProperty("age").GetProperty("steps").GetString());

        await Store.ReplicaTests.SavedAsync(host, "camera");
        var kept = await host.Streams.ListCheckpointsAsync(new ListCheckpointsRequest { Name = "camera" });
        Assert.Contains((await Run("checkpoints", "camera")).Lines, line => line.StartsWith($"{kept.Checkpoints[0].Number} ", StringComparison.Ordinal));
        Assert.Equal("0", (await Ask("reset", "camera")).GetProperty("age").GetProperty("steps").GetString());
        var back = kept.Checkpoints.First(checkpoint => checkpoint.Step == 1).Number;
        Assert.Equal("1", (await Ask("rollback", "camera", "--checkpoint", $"{back}")).GetProperty("age").GetProperty("steps").GetString());

        Assert.Equal(["deleted beside", "deleted again"], (await Run("delete", "beside", "again")).Lines);
        (await Run("show", "beside")).AssertRefused(1, "show stream 'beside'", host.Grpc.AbsoluteUri.TrimEnd('/'), "NotFound");
    }

    [Fact]
    public async Task Streams_SnapshotFiles_BareNamesAreWrittenAndTroubleIsNamed()
    {
        await using var host = await TestHost.StartAsync();
        await host.StepAsync("camera", TestFrames.Tensor(1), 1);
        Task<TtaRun> Run(params string[] arguments) => TtaRun.Of(["streams", "--address", host.Grpc.AbsoluteUri, .. arguments]);
        var bare = $"bare-{Guid.NewGuid():N}.safetensors";
        try
        {
            var exported = await Run("export", "camera", bare);
            Assert.True(exported.ExitCode == 0, exported.Error);
            Assert.Equal(0, (await Run("import", "again", bare)).ExitCode);
        }
        finally
        {
            File.Delete(bare);
        }

        (await Run("export", "camera", "/no-folder/camera.safetensors")).AssertRefused(1, "could not write /no-folder/camera.safetensors");
        (await Run("import", "third", bare)).AssertRefused(1, $"could not read {bare}");
    }

    [Fact]
    public async Task Streams_WrongVerb_NamesTheNearest() => (await TtaRun.Of("streams", "lst")).AssertRefused(2, "lst", "Did you mean 'list'?");
}

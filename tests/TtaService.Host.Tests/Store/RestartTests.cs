using Grpc.Core;
using TtaService.Host.Tests.Infrastructure;
using TtaService.V1;

namespace TtaService.Host.Tests.Store;

/// <summary>Streams outlive the server that learned them, in the file store.</summary>
public sealed class RestartTests
{
    private const int Steps = 40;

    [Fact]
    public async Task GracefulRestart_EveryFewSteps_OutputsEqualAnUninterruptedRun()
    {
        var whole = new List<float[]>();
        await using (var host = await TestHost.StartAsync())
        {
            for (var i = 0; i < Steps; i++)
            {
                whole.Add(TestFrames.Scores(await host.StepAsync("camera", TestFrames.Tensor(i))));
            }
        }

        using var folder = new TestFolder();
        var interrupted = new List<float[]>();
        while (interrupted.Count < Steps)
        {
            await using var host = await StartAsync(folder);
            for (var i = 0; i < 7 && interrupted.Count < Steps; i++)
            {
                var reply = await host.StepAsync("camera", TestFrames.Tensor(interrupted.Count));
                interrupted.Add(TestFrames.Scores(reply));
                Assert.Equal(interrupted.Count, reply.Step);
            }
        }

        for (var i = 0; i < Steps; i++)
        {
            // The passes' threads may differ, and with them the order of sums; the state that comes back is the same to the bit.
            Assert.All(whole[i].Zip(interrupted[i]), pair => Assert.Equal(pair.First, pair.Second, 1e-6));
        }
    }

    [Fact]
    public async Task Restart_ResentStep_IsAnsweredAgainWithoutAStep()
    {
        using var folder = new TestFolder();
        StepReply committed;
        await using (var host = await StartAsync(folder))
        {
            using var call = await DuplexClient.OpenAsync(host, "camera");
            Assert.Equal(StateOrigin.Fresh, call.Opened.Origin);
            await call.StepAsync(1, TestFrames.Tensor(1));
            committed = (await call.StepAsync(2, TestFrames.Tensor(2))).Step;
        }

        await using var again = await StartAsync(folder);
        using var reopened = await DuplexClient.OpenAsync(again, "camera");
        var replayed = (await reopened.StepAsync(2, TestFrames.Tensor(2))).Step;
        var next = (await reopened.StepAsync(3, TestFrames.Tensor(3))).Step;

        Assert.Equal((StateOrigin.Restored, 2ul, 2), (reopened.Opened.Origin, reopened.Opened.LastSequence, reopened.Opened.Age.Steps));
        Assert.True(replayed.Replayed);
        Assert.Equal(TestFrames.Scores(committed), TestFrames.Scores(replayed));
        Assert.Equal((3, false), (next.Step, next.Replayed));
    }

    [Fact]
    public async Task GracefulStop_OpenCall_EndsUnavailableWithAllItLearnedSaved()
    {
        using var folder = new TestFolder();
        var host = await StartAsync(folder);
        using var call = await DuplexClient.OpenAsync(host, "camera");
        await call.StepAsync(1, TestFrames.Tensor(1));
        await using (host)
        {
            var ended = call.EndAsync();
            await host.Host.StopAsync(TestContext.Current.CancellationToken);
            RpcAssert.Refused(StatusCode.Unavailable, "SERVER_STOPPING", await ended);
        }

        await using var again = await StartAsync(folder);
        Assert.Equal(1, (await again.GetAsync("camera")).Age.Steps);
    }

    [Fact]
    public async Task Restart_SettingsAndAges_ComeBack()
    {
        using var folder = new TestFolder();
        V1.Stream before;
        await using (var host = await StartAsync(folder))
        {
            await host.Streams.CreateStreamAsync(new CreateStreamRequest
            {
                Stream = new V1.Stream
                {
                    Name = "camera",
                    Frozen = true,
                    MaxCoalesce = 3,
                    Seed = 7,
                    Labels = { ["site"] = "north" },
                    Method = new Method { Name = "ema" }
                }
            });
            await host.StepAsync("camera", TestFrames.Tensor(1), sequence: 5);
            before = await host.GetAsync("camera");
        }

        await using var again = await StartAsync(folder);
        var after = await again.GetAsync("camera");

        Assert.Equal((true, 3, 7ul, "north", "ema", 5ul), (after.Frozen, after.MaxCoalesce, after.Seed, after.Labels["site"], after.Method.Name, after.LastSequence));
        Assert.Equal((before.CreateTime, before.ResetTime, StateOrigin.Restored), (after.CreateTime, after.ResetTime, after.Origin));
    }

    [Fact]
    public async Task Restart_DeletedStream_StaysDeleted()
    {
        using var folder = new TestFolder();
        await using (var host = await StartAsync(folder))
        {
            await host.StepAsync("camera", TestFrames.Tensor(1));
        }

        await using (var host = await StartAsync(folder))
        {
            // Not in memory: the store alone knows it.
            await host.Streams.DeleteStreamAsync(new DeleteStreamRequest { Name = "camera" });
        }

        await using var again = await StartAsync(folder);
        await RpcAssert.RefusedAsync(StatusCode.NotFound, "STREAM_NOT_FOUND", async () => await again.Streams.DeleteStreamAsync(new DeleteStreamRequest { Name = "camera" }));
        Assert.Equal(1, (await again.StepAsync("camera", TestFrames.Tensor(1))).Step);
    }

    [Fact]
    public async Task Restart_PoliciesAndOtherMethods_SeeTheStoredStream()
    {
        using var folder = new TestFolder();
        await using (var host = await StartAsync(folder))
        {
            await host.StepAsync("camera", TestFrames.Tensor(1), method: "ema");
        }

        await using var again = await StartAsync(folder);
        await RpcAssert.RefusedAsync(
            StatusCode.NotFound, "STREAM_NOT_FOUND", () => DuplexClient.OpenAsync(again.Adaptation, new OpenStream { Stream = "none", ResumePolicy = ResumePolicy.MustExist }));
        await RpcAssert.RefusedAsync(StatusCode.AlreadyExists, "STREAM_EXISTS", () =>
            DuplexClient.OpenAsync(again.Adaptation, new OpenStream { Stream = "camera", ResumePolicy = ResumePolicy.MustCreate }));
        await RpcAssert.RefusedAsync(StatusCode.FailedPrecondition, "STREAM_OF_ANOTHER_METHOD", () => DuplexClient.OpenAsync(again, "camera", "tbn"));
        using var continued = await DuplexClient.OpenAsync(again, "camera", "ema");
        using var reset = await DuplexClient.OpenAsync(again.Adaptation, new OpenStream { Stream = "camera", ResumePolicy = ResumePolicy.Reset });
        Assert.Equal((1, 0, StateOrigin.Reset), (continued.Opened.Age.Steps, reset.Opened.Age.Steps, reset.Opened.Origin));
    }

    [Theory]
    [InlineData("torn")]
    [InlineData("flipped")]
    [InlineData("of another stream")]
    public async Task BadFile_IsSetAsideAndTheOpeningSaysSo(string how)
    {
        using var folder = new TestFolder();
        await using (var host = await StartAsync(folder))
        {
            await host.StepAsync("camera", TestFrames.Tensor(1), sequence: 4);
            await host.StepAsync("other", TestFrames.Tensor(2));
        }

        var path = Directory.GetFiles(folder.Path, "camera~*.safetensors").Max()!;
        var bytes = await File.ReadAllBytesAsync(
            how == "of another stream" ? Directory.GetFiles(folder.Path, "other~*.safetensors").Max()! : path, TestContext.Current.CancellationToken);
        if (how == "flipped")
        {
            bytes[^5] ^= 4;
        }

        await File.WriteAllBytesAsync(path, how == "torn" ? bytes[..(bytes.Length / 2)] : bytes, TestContext.Current.CancellationToken);

        await using var again = await StartAsync(folder);
        using var call = await DuplexClient.OpenAsync(again, "camera");

        Assert.Equal((StateOrigin.Reset, 0, 0ul), (call.Opened.Origin, call.Opened.Age.Steps, call.Opened.LastSequence));
        Assert.Contains(call.Opened.Warnings, warning => warning.Contains("refused and set aside", StringComparison.Ordinal));
        Assert.Single(Directory.GetFiles(folder.Path, "camera~*.rejected"));
        Assert.Equal(1, (await call.StepAsync(1, TestFrames.Tensor(1))).Step.Step);
    }

    [Fact]
    public async Task TwoHosts_OneFolder_TheSecondRefusesToStart()
    {
        using var folder = new TestFolder();
        await using var host = await StartAsync(folder);
        // Locks of one process do not exclude each other everywhere, so the second is a process of its own.
        var start = await Assert.ThrowsAnyAsync<Exception>(() => ServerProcess.StartAsync("Store:Kind=file", $"Store:Path={folder.Path}"));

        Assert.Contains("perhaps another process uses it", start.Message, StringComparison.Ordinal);
    }

    private static Task<TestHost> StartAsync(TestFolder folder, params string[] settings) => TestHost.StartAsync(["--Store:Kind=file", $"--Store:Path={folder.Path}", .. settings]);
}

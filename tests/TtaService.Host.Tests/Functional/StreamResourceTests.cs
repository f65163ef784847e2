using Google.Protobuf;
using Google.Protobuf.WellKnownTypes;
using Grpc.Core;
using TtaService.Host.Tests.Infrastructure;
using TtaService.V1;
using Method = TtaService.V1.Method;

namespace TtaService.Host.Tests.Functional;

public sealed class StreamResourceTests
{
    [Fact]
    public async Task Create_ThenGet_SaysAllHyperparametersAndAFreshState()
    {
        await using var host = await TestHost.StartAsync();

        await host.Streams.CreateStreamAsync(new CreateStreamRequest { Stream = new V1.Stream { Name = "gate-7", Method = new Method { Name = "ema" }, Seed = 5, Labels = { ["hall"] = "north" } } });

        var stream = await host.GetAsync("gate-7");
        Assert.Equal((TestHost.Model, "ema", 5ul, StateOrigin.Fresh, 0L), (stream.Model, stream.Method.Name, stream.Seed, stream.Origin, stream.Age.Steps));
        Assert.Equal(0.05, stream.Method.Hyperparameters.Fields["momentum"].NumberValue, 6);
        Assert.Equal("north", stream.Labels["hall"]);
        Assert.True(stream.Resident && stream.StateBytes > 0);
        await RpcAssert.RefusedAsync(StatusCode.AlreadyExists, "STREAM_EXISTS", () => host.Streams.CreateStreamAsync(new CreateStreamRequest { Stream = new V1.Stream { Name = "gate-7" } }).ResponseAsync);
    }

    [Fact]
    public async Task List_PageByPage_GivesEveryStreamOnceInOrder()
    {
        await using var host = await TestHost.StartAsync();
        var names = Enumerable.Range(0, 7).Select(i => $"s{i}").ToList();
        foreach (var name in names)
        {
            await host.Streams.CreateStreamAsync(new CreateStreamRequest { Stream = new V1.Stream { Name = name } });
        }

        var seen = new List<string>();
        var token = "";
        do
        {
            var page = await host.Streams.ListStreamsAsync(new ListStreamsRequest { PageSize = 3, PageToken = token });
            Assert.True(page.Streams.Count <= 3);
            seen.AddRange(page.Streams.Select(stream => stream.Name));
            token = page.NextPageToken;
        }
        while (token.Length > 0);

        Assert.Equal(names, seen);
        await RpcAssert.RefusedAsync(StatusCode.InvalidArgument, "PAGE_TOKEN_INVALID", () => host.Streams.ListStreamsAsync(new ListStreamsRequest { PageToken = "*" }).ResponseAsync);
        await RpcAssert.RefusedAsync(StatusCode.InvalidArgument, "PAGE_SIZE_OUT_OF_RANGE", () => host.Streams.ListStreamsAsync(new ListStreamsRequest { PageSize = 1001 }).ResponseAsync);
        await RpcAssert.RefusedAsync(StatusCode.NotFound, "MODEL_NOT_FOUND", () => host.Streams.ListStreamsAsync(new ListStreamsRequest { Model = "nobody" }).ResponseAsync);
    }

    [Fact]
    public async Task Freeze_UsesTheStateWithoutUpdatingIt()
    {
        await using var host = await TestHost.StartAsync();
        await host.StepAsync("camera", TestFrames.Tensor(1), method: "ema");
        await host.Streams.UpdateStreamAsync(new UpdateStreamRequest { Stream = new V1.Stream { Name = "camera", Frozen = true }, UpdateMask = FieldMask.FromString("frozen") });
        var before = State(await host.ExportAsync("camera"));

        var first = await host.StepAsync("camera", TestFrames.Tensor(2));
        var second = await host.StepAsync("camera", TestFrames.Tensor(2));

        Assert.Equal(TestFrames.Scores(first), TestFrames.Scores(second));
        Assert.Equal(before, State(await host.ExportAsync("camera")));
        Assert.Equal((1L, 1L), (first.Step, (await host.GetAsync("camera")).Age.Steps));
        await RpcAssert.RefusedAsync(StatusCode.InvalidArgument, "UPDATE_MASK_INVALID", () => host.Streams.UpdateStreamAsync(new UpdateStreamRequest { Stream = new V1.Stream { Name = "camera" }, UpdateMask = new FieldMask { Paths = { "method" } } }).ResponseAsync);
    }

    [Fact]
    public async Task Reset_GoesBackToTheSourceStatistics()
    {
        await using var host = await TestHost.StartAsync();
        var fresh = TestFrames.Scores(await host.StepAsync("camera", TestFrames.Tensor(1), method: "unmix_tns"));
        await host.StepAsync("camera", TestFrames.Tensor(2));

        var reset = await host.Streams.ResetStreamAsync(new ResetStreamRequest { Name = "camera" });

        Assert.Equal((0L, StateOrigin.Reset), (reset.Age.Steps, reset.Origin));
        Assert.Equal(fresh, TestFrames.Scores(await host.StepAsync("camera", TestFrames.Tensor(1))));
    }

    [Fact]
    public async Task ExportAndImport_ContinueExactly()
    {
        await using var host = await TestHost.StartAsync();
        for (var i = 0; i < 5; i++)
        {
            await host.StepAsync("one", TestFrames.Tensor(i), method: "unmix_tns");
        }

        var imported = await host.Streams.ImportStreamAsync(new ImportStreamRequest { Name = "two", Snapshot = ByteString.CopyFrom(await host.ExportAsync("one")) });

        Assert.Equal((StateOrigin.Restored, 5L, "unmix_tns"), (imported.Origin, imported.Age.Steps, imported.Method.Name));
        for (var i = 5; i < 8; i++)
        {
            Assert.Equal(TestFrames.Scores(await host.StepAsync("one", TestFrames.Tensor(i))), TestFrames.Scores(await host.StepAsync("two", TestFrames.Tensor(i))));
        }
    }

    [Fact]
    public async Task SameSeed_RepeatsARun_AnotherDoesNot()
    {
        await using var host = await TestHost.StartAsync();
        var scores = new List<float[]>();
        foreach (var (name, seed) in new[] { ("a", 1ul), ("b", 1ul), ("c", 2ul) })
        {
            await host.Streams.CreateStreamAsync(new CreateStreamRequest { Stream = new V1.Stream { Name = name, Seed = seed, Method = new Method { Name = "unmix_tns" } } });
            scores.Add(TestFrames.Scores(await host.StepAsync(name, TestFrames.Tensor(1))));
        }

        Assert.Equal(scores[0], scores[1]);
        Assert.NotEqual(scores[0], scores[2]);
    }

    [Fact]
    public async Task Delete_ForgetsTheStreamAndEndsItsCall()
    {
        await using var host = await TestHost.StartAsync();
        using var call = await DuplexClient.OpenAsync(host, "camera");
        await call.StepAsync(1, TestFrames.Tensor(1));

        await host.Streams.DeleteStreamAsync(new DeleteStreamRequest { Name = "camera" });

        RpcAssert.Refused(StatusCode.Aborted, "STREAM_DELETED", await call.EndAsync());
        await RpcAssert.RefusedAsync(StatusCode.NotFound, "STREAM_NOT_FOUND", () => host.GetAsync("camera"));
    }

    [Fact]
    public async Task ResumeReset_MayChangeTheMethod()
    {
        await using var host = await TestHost.StartAsync();
        await host.StepAsync("camera", TestFrames.Tensor(1), sequence: 9, method: "ema");

        using var call = await DuplexClient.OpenAsync(host.Adaptation, new OpenStream { Stream = "camera", Method = new Method { Name = "tbr" }, ResumePolicy = ResumePolicy.Reset });

        Assert.Equal((StateOrigin.Reset, "tbr", 0ul), (call.Opened.Origin, call.Opened.Method.Name, call.Opened.LastSequence));
        Assert.Equal(1, (await call.StepAsync(1, TestFrames.Tensor(1))).Step.Step);
    }

    private static byte[] State(byte[] snapshot) => snapshot[(8 + BitConverter.ToInt32(snapshot))..];
}

using Google.Protobuf.WellKnownTypes;
using Grpc.Core;
using Microsoft.Extensions.Time.Testing;
using TtaService.Host.Tests.Infrastructure;
using TtaService.V1;
using Method = TtaService.V1.Method;
using Stream = TtaService.V1.Stream;

namespace TtaService.Host.Tests.Functional;

public sealed class StreamResourceTests(ServerFixture server) : IClassFixture<ServerFixture>
{
    private TestHost Host => server.Host;

    [Fact]
    public async Task Create_AllSet_IsAsAskedForAndHasItsHyperparameters()
    {
        var method = new Method { Name = "unmix_tns", Hyperparameters = new Struct { Fields = { ["components"] = Value.ForNumber(4) } } };
        var created = await CreateAsync(
            new Stream { Name = "created", Model = TestHost.Model, Method = method, Seed = ulong.MaxValue, Frozen = true, MaxCoalesce = 3, Labels = { ["site"] = "gate 7" } });

        Assert.Equal(("created", TestHost.Model, "unmix_tns", ulong.MaxValue, true, 3),
            (created.Name, created.Model, created.Method.Name, created.Seed, created.Frozen, created.MaxCoalesce));
        Assert.Equal("gate 7", created.Labels["site"]);
        Assert.Equal((4, 0.07), (created.Method.Hyperparameters.Fields["components"].NumberValue, created.Method.Hyperparameters.Fields["temperature"].NumberValue));
        Assert.Equal((StateOrigin.Fresh, 0, 0, 0ul, true), (created.Origin, created.Age.Steps, created.Age.Frames, created.LastSequence, created.Resident));
        // Four bytes for K = 4 means and variances a channel and K shares a site, and for the observed ones, of the last site also their spread; sites start on 16 floats.
        Assert.Equal((4 * 2 * 4 * (8 + 8 + 16)) + (3 * 4 * 16) + (4 * (16 + 16 + 48)), created.StateBytes);
        Assert.Equal(created, await Host.GetAsync("created"));
        await RpcAssert.RefusedAsync(StatusCode.AlreadyExists, "STREAM_EXISTS", () => CreateAsync(new Stream { Name = "created", Model = TestHost.Model }));
    }

    [Theory]
    [InlineData("", "STREAM_NAME_INVALID", "stream.name")]
    [InlineData("a b", "STREAM_NAME_INVALID", "stream.name")]
    [InlineData("bad-method", "METHOD_INVALID", "stream.method")]
    [InlineData("bad-coalesce", "MAX_COALESCE_OUT_OF_RANGE", "stream.max_coalesce")]
    [InlineData("many-labels", "TOO_MANY_LABELS", "stream.labels")]
    [InlineData("long-label", "LABEL_INVALID", "stream.labels")]
    public async Task Create_SomethingWrong_NamesTheField(string name, string reason, string field)
    {
        var stream = new Stream { Name = name, Model = TestHost.Model };
        switch (name)
        {
            case "bad-method":
                stream.Method = new Method { Name = "magic" };
                break;
            case "bad-coalesce":
                stream.MaxCoalesce = -1;
                break;
            case "many-labels":
                stream.Labels.Add(Enumerable.Range(0, 17).ToDictionary(i => $"{i}", i => "x"));
                break;
            case "long-label":
                stream.Labels["site"] = new string('x', 129);
                break;
        }

        var status = await RpcAssert.RefusedAsync(StatusCode.InvalidArgument, reason, () => CreateAsync(stream));

        Assert.Equal(field, Assert.Single(status.GetDetail<Google.Rpc.BadRequest>()!.FieldViolations).Field);
    }

    [Fact]
    public async Task Create_NoStream_IsRefused() =>
        await RpcAssert.RefusedAsync(StatusCode.InvalidArgument, "STREAM_MISSING", async () => await Host.Streams.CreateStreamAsync(new CreateStreamRequest()));

    [Fact]
    public async Task List_Pages_GiveEveryStreamOnceInOrder()
    {
        await using var host = await TestHost.StartAsync(TestHost.TwoModels);
        var names = Enumerable.Range(0, 23).Select(i => $"s-{i * 7 % 23:00}").ToList();
        foreach (var name in names)
        {
            await host.Streams.CreateStreamAsync(new CreateStreamRequest { Stream = new Stream { Name = name, Model = TestHost.Model } });
        }

        await host.Streams.CreateStreamAsync(new CreateStreamRequest { Stream = new Stream { Name = "s-05.plain", Model = "plain", Method = new Method { Name = "source" } } });
        var listed = new List<string>();
        var request = new ListStreamsRequest { PageSize = 5, Model = TestHost.Model };
        do
        {
            var page = await host.Streams.ListStreamsAsync(request);
            Assert.InRange(page.Streams.Count, 1, 5);
            listed.AddRange(page.Streams.Select(stream => stream.Name));
            request.PageToken = page.NextPageToken;
            // What comes and goes between two pages does not upset them.
            await host.Streams.DeleteStreamAsync(new DeleteStreamRequest { Name = listed[^1] });
        }
        while (request.PageToken.Length > 0);

        Assert.Equal(names.Order(StringComparer.Ordinal), listed);
        Assert.Equal("s-05.plain", Assert.Single((await host.Streams.ListStreamsAsync(new ListStreamsRequest { Model = "plain" })).Streams).Name);
        Assert.Contains((await host.Streams.ListStreamsAsync(new ListStreamsRequest())).Streams, stream => stream.Name == "s-05.plain");
    }

    [Theory]
    [InlineData(-1, "", "", StatusCode.InvalidArgument, "PAGE_SIZE_OUT_OF_RANGE")]
    [InlineData(1001, "", "", StatusCode.InvalidArgument, "PAGE_SIZE_OUT_OF_RANGE")]
    [InlineData(1, "*", "", StatusCode.InvalidArgument, "PAGE_TOKEN_INVALID")]
    [InlineData(1, "a", "", StatusCode.InvalidArgument, "PAGE_TOKEN_INVALID")]
    [InlineData(1, "", "other", StatusCode.NotFound, "MODEL_NOT_FOUND")]
    public async Task List_SomethingWrong_IsRefused(int size, string token, string model, StatusCode code, string reason)
    {
        await RpcAssert.RefusedAsync(code, reason, async () => await Host.Streams.ListStreamsAsync(new ListStreamsRequest { PageSize = size, PageToken = token, Model = model }));
        await RpcAssert.RefusedAsync(
            StatusCode.InvalidArgument, "PAGE_TOKEN_INVALID", async () => await Host.Streams.ListStreamsAsync(new ListStreamsRequest { PageToken = new string('A', 100_000) }));
    }

    [Fact]
    public async Task Update_Mask_ChangesWhatItNamesOnly()
    {
        await CreateAsync(new Stream { Name = "updated", Model = TestHost.Model, Labels = { ["a"] = "1" } });

        var updated = await UpdateAsync(new Stream { Name = "updated", Frozen = true, MaxCoalesce = 9, Labels = { ["b"] = "2" } }, "frozen");
        Assert.Equal((true, 1, "1"), (updated.Frozen, updated.MaxCoalesce, updated.Labels["a"]));
        updated = await UpdateAsync(new Stream { Name = "updated", MaxCoalesce = 9, Labels = { ["b"] = "2" } }, "max_coalesce", "labels");
        Assert.Equal((true, 9, "2", 1), (updated.Frozen, updated.MaxCoalesce, updated.Labels["b"], updated.Labels.Count));
        Assert.Equal(updated, await Host.GetAsync("updated"));
    }

    [Fact]
    public async Task Update_SomethingWrong_ChangesNothing()
    {
        var stream = await CreateAsync(new Stream { Name = "not-updated", Model = TestHost.Model });

        await RpcAssert.RefusedAsync(StatusCode.InvalidArgument, "UPDATE_MASK_EMPTY", () => UpdateAsync(new Stream { Name = "not-updated", Frozen = true }));
        await RpcAssert.RefusedAsync(StatusCode.InvalidArgument, "UPDATE_MASK_INVALID", () => UpdateAsync(new Stream { Name = "not-updated", Frozen = true }, "frozen", "method"));
        await RpcAssert.RefusedAsync(
            StatusCode.InvalidArgument, "MAX_COALESCE_OUT_OF_RANGE", () => UpdateAsync(new Stream { Name = "not-updated", MaxCoalesce = 2000 }, "max_coalesce"));
        await RpcAssert.RefusedAsync(StatusCode.NotFound, "STREAM_NOT_FOUND", () => UpdateAsync(new Stream { Name = "nobody", Frozen = true }, "frozen"));

        Assert.Equal(stream, await Host.GetAsync("not-updated"));
    }

    [Fact]
    public async Task Frozen_Stream_AnswersFromItsStateUntilItAdaptsAgain()
    {
        await Host.StepAsync("frozen", TestFrames.Tensor(1));
        await UpdateAsync(new Stream { Name = "frozen", Frozen = true }, "frozen");
        var before = await Host.ExportAsync("frozen");

        var first = await Host.StepAsync("frozen", TestFrames.Tensor(2));
        var again = await Host.StepAsync("frozen", TestFrames.Tensor(2));

        Assert.Equal((1, 1), (first.Step, again.Step));
        Assert.Equal(TestFrames.Scores(first), TestFrames.Scores(again));
        Assert.Equal(TestFrames.Adapted(before), TestFrames.Adapted(await Host.ExportAsync("frozen")));
        await UpdateAsync(new Stream { Name = "frozen", Frozen = false }, "frozen");
        Assert.Equal(2, (await Host.StepAsync("frozen", TestFrames.Tensor(3))).Step);
        Assert.NotEqual(TestFrames.Adapted(before), TestFrames.Adapted(await Host.ExportAsync("frozen")));
    }

    [Fact]
    public async Task Reset_Stream_IsAsNewWithItsSequenceGoingOn()
    {
        await CreateAsync(new Stream { Name = "reset", Model = TestHost.Model, Seed = 3 });
        var fresh = await Host.ExportAsync("reset");
        await Host.StepAsync("reset", TestFrames.Tensor(1), sequence: 1);
        Assert.NotEqual(fresh, await Host.ExportAsync("reset"));

        var reset = await Host.Streams.ResetStreamAsync(new ResetStreamRequest { Name = "reset" });

        Assert.Equal((StateOrigin.Reset, 0, 0, 1ul, 3ul), (reset.Origin, reset.Age.Steps, reset.Age.Frames, reset.LastSequence, reset.Seed));
        Assert.Equal(fresh, await Host.ExportAsync("reset"));
        Assert.True((await Host.StepAsync("reset", TestFrames.Tensor(1), sequence: 1)).Replayed);
        Assert.Equal(1, (await Host.StepAsync("reset", TestFrames.Tensor(1), sequence: 2)).Step);
        await RpcAssert.RefusedAsync(StatusCode.NotFound, "STREAM_NOT_FOUND", async () => await Host.Streams.ResetStreamAsync(new ResetStreamRequest { Name = "nobody" }));
    }

    [Fact]
    public async Task OpenWithReset_AnotherMethodAndSeed_StartsOverFromSequenceOne()
    {
        await Host.StepAsync("restarted", TestFrames.Tensor(1), sequence: 1);

        var reply = await Host.Adaptation.InferAsync(new InferRequest
        {
            Open = new OpenStream { Stream = "restarted", Method = new Method { Name = "ema" }, Seed = 8, ResumePolicy = ResumePolicy.Reset, Freeze = true },
            Step = new StepRequest { Sequence = 1, Freeze = false, Frames = { TestFrames.Tensor(2) } },
        });

        Assert.Equal((StateOrigin.Reset, false, 1, "ema"), (reply.Opened.Origin, reply.Step.Replayed, reply.Step.Step, reply.Step.Method));
        var stream = await Host.GetAsync("restarted");
        Assert.Equal(("ema", 8ul, true, 1ul), (stream.Method.Name, stream.Seed, stream.Frozen, stream.LastSequence));
        // Four bytes for a mean and a variance a channel, and for the observed ones.
        Assert.Equal((2 * 4 * (8 + 8 + 16)) + (4 * (16 + 16 + 48)), stream.StateBytes);
    }

    [Fact]
    public async Task Delete_OpenStream_EndsItsCallAndForgetsTheState()
    {
        using var call = await DuplexClient.OpenAsync(Host, "deleted");
        await call.StepAsync(1, TestFrames.Tensor(1));

        await Host.Streams.DeleteStreamAsync(new DeleteStreamRequest { Name = "deleted" });

        RpcAssert.Refused(StatusCode.Aborted, "STREAM_DELETED", await call.EndAsync());
        await RpcAssert.RefusedAsync(StatusCode.NotFound, "STREAM_NOT_FOUND", () => Host.GetAsync("deleted"));
        await RpcAssert.RefusedAsync(StatusCode.NotFound, "STREAM_NOT_FOUND", async () => await Host.Streams.DeleteStreamAsync(new DeleteStreamRequest { Name = "deleted" }));
        Assert.Equal(1, (await Host.StepAsync("deleted", TestFrames.Tensor(1), sequence: 1)).Step);
    }

    [Fact]
    public async Task Delete_StepsWait_FailsThem()
    {
        await using var host = await TestHost.StartAsync();
        await host.StepAsync("deleted", TestFrames.Tensor(1));
        Task<StepReply> waiting;
        Task deleting;
        using (await host.OccupyBatcherAsync())
        {
            waiting = host.StepAsync("deleted", TestFrames.Tensor(2));
            await host.UntilAsync("deleted", session => session.Waiting.PendingSteps == 1);
            deleting = host.Streams.DeleteStreamAsync(new DeleteStreamRequest { Name = "deleted" }).ResponseAsync;
            await RpcAssert.RefusedAsync(StatusCode.Aborted, "STREAM_DELETED", () => waiting);
        }

        await deleting;
    }

    [Fact]
    public async Task SameSeed_SameSteps_RepeatARunExactly()
    {
        var method = new Method { Name = "unmix_tns", Hyperparameters = new Struct { Fields = { ["initial"] = Value.ForString("reference") } } };
        async Task<(byte[] Fresh, byte[] Stepped, float[] Scores)> RunAsync(string name, ulong seed)
        {
            await CreateAsync(new Stream { Name = name, Model = TestHost.Model, Method = method, Seed = seed });
            var fresh = await Host.ExportAsync(name);
            await Host.StepAsync(name, TestFrames.Tensor(1));
            return (fresh, await Host.ExportAsync(name), TestFrames.Scores(await Host.StepAsync(name, TestFrames.Tensor(2))));
        }

        var first = await RunAsync("seed-1", 1);
        var second = await RunAsync("seed-1-again", 1);
        var other = await RunAsync("seed-2", 2);

        Assert.Equal(first.Fresh, second.Fresh);
        Assert.Equal(first.Stepped, second.Stepped);
        Assert.Equal(first.Scores, second.Scores);
        Assert.NotEqual(TestFrames.State(first.Fresh), TestFrames.State(other.Fresh));
    }

    [Fact]
    public async Task Infer_WithoutAStream_LeavesNothingBehind()
    {
        await using var host = await TestHost.StartAsync();
        var request = new InferRequest
        {
            Open = new OpenStream { Reply = new ReplyOptions { RawOutputs = true, TopK = 2 } },
            Step = new StepRequest { Frames = { TestFrames.Tensor(1), TestFrames.Tensor(2) } }
        };

        var first = await host.Adaptation.InferAsync(request);
        var second = await host.Adaptation.InferAsync(request);

        Assert.Equal((1, StateOrigin.Fresh), (first.Step.Step, first.Step.Origin));
        Assert.Equal(TestFrames.Scores(first.Step), TestFrames.Scores(second.Step));
        Assert.Equal([2, 2], first.Step.Predictions.Select(prediction => prediction.Top.Count));
        Assert.Empty((await host.Streams.ListStreamsAsync(new ListStreamsRequest())).Streams);
    }

    [Fact]
    public async Task Reply_CarriesLabelsProbabilitiesRawOutputsAndAge()
    {
        var clock = new FakeTimeProvider();
        await using var host = await TestHost.StartAsync(clock);
        await host.StepAsync("camera", TestFrames.Tensor(1));
        clock.Advance(TimeSpan.FromSeconds(90));

        var reply = await host.StepAsync("camera", TestFrames.Tensor(2), sequence: 7);

        Assert.Equal((7ul, 2, 2, 90.0), (reply.Sequence, reply.Age.Steps, reply.Age.Frames, reply.Age.Seconds));
        var top = Assert.Single(reply.Predictions).Top;
        var scores = TestFrames.Scores(reply);
        var exponentials = scores.Select(score => Math.Exp(score)).ToArray();
        Assert.Equal(Enumerable.Range(0, 5).OrderByDescending(index => scores[index]), top.Select(label => label.Index));
        Assert.All(top, label => Assert.Equal(exponentials[label.Index] / exponentials.Sum(), label.Probability, 1e-5));
        Assert.All(top, label => Assert.Equal(new[] { "ant", "bee", "cat", "dog", "eel" }[label.Index], label.Label));
        Assert.Equal(("scores", "1,5"), (reply.Outputs[0].Name, string.Join(',', reply.Outputs[0].Shape)));
    }

    [Fact]
    public async Task Reply_SaysFilteredAndUnfilteredPredictions()
    {
        await using var host = await TestHost.StartAsync();
        async Task<(StepReply Reply, float[] Scores)> StepAsync(string method, int frame, bool unfiltered, string? filter = null)
        {
            var name = $"{method.Replace('+', '-')}-{filter}";
            var chosen = new Method { Name = method, Hyperparameters = new Struct() };
            if (filter is not null)
            {
                chosen.Hyperparameters.Fields["filter"] = Value.ForString(filter);
            }

            var open = new OpenStream { Stream = name, Model = TestHost.Model, Method = chosen, Reply = new ReplyOptions { RawOutputs = true, Unfiltered = unfiltered } };
            var reply = (await host.Adaptation.InferAsync(new InferRequest { Open = open, Step = new StepRequest { Frames = { TestFrames.Tensor(frame) } } })).Step;
            return (reply, TestFrames.Scores(reply));
        }

        var differs = false;
        for (var frame = 1; frame < 6; frame++)
        {
            var bare = (await StepAsync("ema", frame, unfiltered: true)).Reply;
            var (filtered, _) = await StepAsync("ema+lame", frame, unfiltered: true);
            var off = (await StepAsync("ema+lame", frame, unfiltered: true, "off")).Reply;

            Assert.Equal((false, true, false), (bare.Filtered, filtered.Filtered, off.Filtered));
            Assert.Equal(bare.Predictions[0].Top, bare.Predictions[0].Unfiltered);
            Assert.Equal(bare.Predictions[0].Top, filtered.Predictions[0].Unfiltered);
            Assert.Equal(bare.Predictions[0].Top, off.Predictions[0].Top);
            differs |= !filtered.Predictions[0].Top.Equals(filtered.Predictions[0].Unfiltered);
        }

        Assert.True(differs);
        Assert.Empty((await StepAsync("ema+lame", 7, unfiltered: false)).Reply.Predictions[0].Unfiltered);
    }

    private async Task<Stream> CreateAsync(Stream stream) => await Host.Streams.CreateStreamAsync(new CreateStreamRequest { Stream = stream });

    private async Task<Stream> UpdateAsync(Stream stream, params string[] mask) =>
        await Host.Streams.UpdateStreamAsync(new UpdateStreamRequest { Stream = stream, UpdateMask = new FieldMask { Paths = { mask } } });
}

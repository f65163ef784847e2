using System.Buffers.Binary;
using System.Text.Json;
using Google.Rpc;
using TtaService.Host.Protocols;
using TtaService.Host.Tests.Infrastructure;
using TtaService.Serving.Front;
using TtaService.Serving.Streams;

namespace TtaService.Host.Tests.Functional;

/// <summary>What a protocol can ask for, asked without one.</summary>
public sealed class FrontDoorTests
{
    [Fact]
    public async Task Stream_OpenedSteppedAndOperated_WithoutAProtocol()
    {
        await using var host = await TestHost.StartAsync();
        var (steps, operations) = (host.Part<IStreamStepping>(), host.Part<IStreamOperations>());
        var key = StreamKey.Checked("camera", "name");
        using var stream = (await steps.OpenAsync(new StreamRequest { Key = key, Method = new MethodChoice("ema", null) }, CancellationToken.None)).OrThrow();
        var opened = await stream.SettledAsync(CancellationToken.None);

        var first = await stream.StepAsync(Step(1, TestFrames.Values(1)));
        var again = await stream.StepAsync(Step(1, TestFrames.Values(1)));
        var other = await stream.StepAsync(Step(1, TestFrames.Values(2)));

        Assert.Equal((StateOrigin.Fresh, "ema", 0UL), (opened.Origin, opened.Stream.Method.Name, opened.Stream.LastSequence));
        Assert.Equal(1, first.Answer!.Steps);
        Assert.True(again.Answer!.Replayed);
        Assert.Equal((FailureKind.AlreadyExists, "SEQUENCE_REUSED"), (other.Failure!.Kind, other.Failure.Reason));
        Assert.Equal(1, (await operations.GetAsync(key)).OrThrow().Steps);
        Assert.Equal(0, (await operations.ResetAsync(key)).OrThrow().Steps);
        Assert.Equal("camera", Assert.Single((await operations.ListAsync("", "", 10)).OrThrow().Streams).Name);
        Assert.Equal("camera", (await operations.DeleteAsync(key)).OrThrow());
        Assert.True(stream.Lost.IsCancellationRequested);
        Assert.Equal("STREAM_DELETED", stream.WhyLost.Reason);
    }

    [Fact]
    public async Task Refusals_AreValues()
    {
        await using var host = await TestHost.StartAsync();
        var (steps, operations, models, drift) = (host.Part<IStreamStepping>(), host.Part<IStreamOperations>(), host.Part<IServedModels>(), host.Part<IDriftWatching>());
        var nobody = StreamKey.Checked("nobody", "name");

        Assert.Equal("STREAM_NOT_FOUND", (await operations.GetAsync(nobody)).Failure!.Reason);
        Assert.Equal("STREAM_NOT_FOUND", (await operations.DeleteAsync(nobody)).Failure!.Reason);
        Assert.Equal("STREAM_NOT_FOUND", (await operations.CheckpointsAsync(nobody)).Failure!.Reason);
        Assert.Equal("STREAM_NOT_FOUND", (await drift.ReadAsync(nobody)).Failure!.Reason);
        Assert.Equal("MODEL_NOT_FOUND", models.Find("none").Failure!.Reason);
        Assert.Equal("MODEL_NOT_FOUND", drift.Watch("none").Failure!.Reason);
        Assert.Equal("MODEL_NOT_FOUND", (await steps.AnswerAsync("none", Step(0, TestFrames.Values(1)))).Failure!.Reason);
        Assert.Equal(
            "METHOD_INVALID", (await steps.OpenAsync(new StreamRequest { Key = nobody, Method = new MethodChoice("none", null) }, CancellationToken.None)).Failure!.Reason);
        var cut = new SentStep { Frames = [SentFrame.Tensor(new byte[8], [3, 16, 16])] };
        Assert.Equal("TENSOR_SIZE_WRONG", (await steps.AnswerAsync(TestHost.Model, cut)).Failure!.Reason);
        Assert.Equal("FRAME_EMPTY", (await steps.AnswerAsync(TestHost.Model, new SentStep { Frames = [default] })).Failure!.Reason);
        Assert.Equal("STREAM_NAME_INVALID", Assert.Throws<FailureException>(() => StreamKey.Checked("a/b", "name")).Failure.Reason);
    }

    [Fact]
    public async Task Frames_WithoutAStream_AreAnsweredAsTrainedAndLeaveNothing()
    {
        await using var host = await TestHost.StartAsync();
        var steps = host.Part<IStreamStepping>();
        using var source = (await steps.OpenAsync(new StreamRequest { Key = StreamKey.Of("source"), Method = new MethodChoice("source", null) }, CancellationToken.None)).OrThrow();
        var expected = (await source.StepAsync(Step(0, TestFrames.Values(3)))).Answer!;

        var before = (await steps.AnswerAsync(TestHost.Model, Step(0, TestFrames.Values(3)))).Answer!;
        var between = await Task.WhenAll(Enumerable.Range(10, 8).Select(seed => steps.AnswerAsync(string.Empty, Step(7, TestFrames.Values(seed)))));
        var after = (await steps.AnswerAsync(TestHost.Model, Step(0, TestFrames.Values(3)))).Answer!;

        Assert.All(between, answered => Assert.NotNull(answered.Answer));
        Assert.Equal("source", before.Method);
        Assert.Equal(JsonSerializer.Serialize(expected.Predictions), JsonSerializer.Serialize(before.Predictions));
        Assert.Equal(JsonSerializer.Serialize(before.Predictions), JsonSerializer.Serialize(after.Predictions));
        Assert.Equal((0, 0), (after.Steps, after.Frames));
        Assert.Equal("source", Assert.Single((await host.Part<IStreamOperations>().ListAsync("", "", 10)).OrThrow().Streams).Name);
    }

    [Fact]
    public void Statuses_EveryKindOfFailure_HasOneInEachProtocol()
    {
        foreach (var kind in Enum.GetValues<FailureKind>())
        {
            var status = FailureStatuses.Of(kind);
            // The kinds are named as gRPC names its codes.
            Assert.Equal(kind.ToString(), status.Grpc.ToString());
            Assert.Equal(kind.ToString(), ((Code)(int)status.Grpc).ToString());
            Assert.InRange((int)status.Http, 400, 599);
            Assert.Equal(kind == FailureKind.Internal, status.Http == System.Net.HttpStatusCode.InternalServerError);
        }
    }

    private static SentStep Step(ulong sequence, float[] values)
    {
        var data = new byte[sizeof(float) * values.Length];
        for (var i = 0; i < values.Length; i++)
        {
            BinaryPrimitives.WriteSingleLittleEndian(data.AsSpan(sizeof(float) * i), values[i]);
        }

        return new SentStep { Sequence = sequence, Frames = [SentFrame.Tensor(data, [3, 16, 16])] };
    }
}

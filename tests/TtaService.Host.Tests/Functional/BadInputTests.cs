using Google.Protobuf;
using Google.Protobuf.WellKnownTypes;
using Grpc.Core;
using SkiaSharp;
using TtaService.Host.Tests.Infrastructure;
using TtaService.V1;
using Method = TtaService.V1.Method;

namespace TtaService.Host.Tests.Functional;

/// <summary>Bad input: each gets its status, reason and a message that helps, and leaves the stream as it was.</summary>
public sealed class BadInputTests
{
    public static TheoryData<string, string, string> Frames => new()
    {
        { "cut short jpeg", "FRAME_UNREADABLE", "cut short" },
        { "cut short png", "FRAME_UNREADABLE", "cut short" },
        { "text", "FRAME_FORMAT_UNKNOWN", "JPEG, PNG or WebP" },
        { "huge", "FRAME_TOO_LARGE", "Frames:MaxSide" },
        { "many bytes", "FRAME_TOO_LARGE", "Frames:MaxBytes" },
        { "empty frame", "FRAME_EMPTY", "no content" },
        { "raw too short", "RAW_SIZE_WRONG", "stride" },
        { "raw stride", "RAW_SIZE_WRONG", "stride" },
        { "raw negative", "RAW_SIZE_WRONG", "at least 1" },
        { "raw format", "RAW_FORMAT_UNKNOWN", "RGB8" },
        { "tensor bytes", "TENSOR_SIZE_WRONG", "4*C*H*W" },
        { "tensor overflow", "TENSOR_SIZE_WRONG", "4*C*H*W" },
        { "tensor rank", "TENSOR_SIZE_WRONG", "[C,H,W]" },
        { "tensor nan", "TENSOR_NOT_FINITE", "NaN" },
        { "tensor infinite", "TENSOR_NOT_FINITE", "Infinity" },
        { "tensor shape", "FRAME_SHAPE_WRONG", "3x16x16" },
        { "tensor channels", "FRAME_SHAPE_WRONG", "3x16x16" },
        { "mixed kinds", "FRAME_KINDS_MIXED", "all images or all tensors" },
        { "no frames", "FRAME_COUNT_OUT_OF_RANGE", "Batching:MaxFramesPerStep" },
        { "too many frames", "FRAME_COUNT_OUT_OF_RANGE", "1 to 64" },
    };

    [Theory]
    [MemberData(nameof(Frames))]
    public async Task BadFrame_InADuplexCall_IsAnsweredInBandAndChangesNothing(string kind, string reason, string said)
    {
        await using var host = await TestHost.StartAsync("--Frames:MaxBytes=100000");
        using var call = await DuplexClient.OpenAsync(host, "camera", "unmix_tns");
        await call.StepAsync(1, TestFrames.Tensor(1));
        var before = await host.ExportAsync("camera");

        var answer = await call.StepAsync(2, Bad(kind));

        Assert.NotNull(answer.Error);
        Assert.Equal((2ul, (int)StatusCode.InvalidArgument, reason), (answer.Error.Sequence, answer.Error.Code, answer.Error.Reason));
        Assert.Contains(said, answer.Error.Message, StringComparison.Ordinal);
        Assert.Equal(Tensors(before), Tensors(await host.ExportAsync("camera")));
        Assert.Equal(2, (await call.StepAsync(2, TestFrames.Tensor(2))).Step.Step);
    }

    [Theory]
    [MemberData(nameof(Frames))]
    public async Task BadFrame_InAUnaryCall_IsTheCallsStatus(string kind, string reason, string said)
    {
        await using var host = await TestHost.StartAsync("--Frames:MaxBytes=100000");

        var status = await RpcAssert.RefusedAsync(StatusCode.InvalidArgument, reason, () => host.Adaptation.InferAsync(new InferRequest
        {
            Open = new OpenStream { Stream = "camera", Model = TestHost.Model },
            Step = new StepRequest { Frames = { Bad(kind) } },
        }).ResponseAsync);

        Assert.Contains(said, status.Message, StringComparison.Ordinal);
        Assert.StartsWith("step.frames", status.GetDetail<Google.Rpc.BadRequest>()!.FieldViolations[0].Field, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("name", StatusCode.InvalidArgument, "STREAM_NAME_INVALID")]
    [InlineData("model", StatusCode.NotFound, "MODEL_NOT_FOUND")]
    [InlineData("method", StatusCode.InvalidArgument, "METHOD_INVALID")]
    [InlineData("hyperparameter range", StatusCode.InvalidArgument, "METHOD_INVALID")]
    [InlineData("hyperparameter name", StatusCode.InvalidArgument, "METHOD_INVALID")]
    [InlineData("hyperparameter kind", StatusCode.InvalidArgument, "METHOD_INVALID")]
    [InlineData("must exist", StatusCode.NotFound, "STREAM_NOT_FOUND")]
    [InlineData("must create", StatusCode.AlreadyExists, "STREAM_EXISTS")]
    [InlineData("another method", StatusCode.FailedPrecondition, "STREAM_OF_ANOTHER_METHOD")]
    [InlineData("top k", StatusCode.InvalidArgument, "TOP_K_OUT_OF_RANGE")]
    [InlineData("coalesce", StatusCode.InvalidArgument, "MAX_COALESCE_OUT_OF_RANGE")]
    public async Task BadOpening_IsRefusedWithItsReason(string kind, StatusCode code, string reason)
    {
        await using var host = await TestHost.StartAsync();
        await host.StepAsync("taken", TestFrames.Tensor(1), method: "ema");
        var before = await host.ExportAsync("taken");
        var open = new OpenStream { Stream = "camera", Model = TestHost.Model };
        switch (kind)
        {
            case "name": open.Stream = "a/b"; break;
            case "model": open.Model = "nobody"; break;
            case "method": open.Method = new Method { Name = "nothing" }; break;
            case "hyperparameter range": open.Method = With("ema", "momentum", Value.ForNumber(7)); break;
            case "hyperparameter name": open.Method = With("ema", "speed", Value.ForNumber(1)); break;
            case "hyperparameter kind": open.Method = With("ema", "momentum", Value.ForNull()); break;
            case "must exist": open.ResumePolicy = ResumePolicy.MustExist; break;
            case "must create": (open.Stream, open.ResumePolicy) = ("taken", ResumePolicy.MustCreate); break;
            case "another method": (open.Stream, open.Method) = ("taken", new Method { Name = "tbr" }); break;
            case "top k": open.Reply = new ReplyOptions { TopK = -1 }; break;
            default: open.MaxCoalesce = 0; break;
        }

        await RpcAssert.RefusedAsync(code, reason, () => DuplexClient.OpenAsync(host.Adaptation, open));
        await RpcAssert.RefusedAsync(code, reason, () => host.Adaptation.InferAsync(new InferRequest { Open = open, Step = new StepRequest { Frames = { TestFrames.Tensor(1) } } }).ResponseAsync);
        Assert.Equal(Tensors(before), Tensors(await host.ExportAsync("taken")));
    }

    [Fact]
    public async Task FramesBeforeTheOpening_EndTheCall()
    {
        await using var host = await TestHost.StartAsync();
        using var call = new DuplexClient(host.Adaptation.StreamInfer());
        await call.SendAsync(1, TestFrames.Tensor(1));

        RpcAssert.Refused(StatusCode.InvalidArgument, "OPEN_MISSING", await call.EndAsync());
    }

    [Fact]
    public async Task SecondOpening_InOneCall_EndsIt()
    {
        await using var host = await TestHost.StartAsync();
        using var call = await DuplexClient.OpenAsync(host, "camera");
        await call.WriteAsync(new StreamInferRequest { Open = new OpenStream { Stream = "other" } });

        RpcAssert.Refused(StatusCode.InvalidArgument, "STEP_MISSING", await call.EndAsync());
    }

    [Fact]
    public async Task SilentCall_IsEndedAfterTheTimeForItsFirstMessage()
    {
        await using var host = await TestHost.StartAsync("--Streams:FirstMessageTimeout=00:00:00.050");
        using var call = new DuplexClient(host.Adaptation.StreamInfer());

        RpcAssert.Refused(StatusCode.DeadlineExceeded, "OPEN_TIMEOUT", await call.EndAsync());
    }

    [Fact]
    public async Task ClientThatVanishes_LeavesTheStreamAsItsLastCommittedStep()
    {
        await using var host = await TestHost.StartAsync();
        using var gone = new CancellationTokenSource();
        var call = await DuplexClient.OpenAsync(host.Adaptation, new OpenStream { Stream = "camera", Model = TestHost.Model }, gone.Token);
        await call.StepAsync(1, TestFrames.Tensor(1));
        var committed = await host.ExportAsync("camera");
        using (await host.OccupyEngineAsync())
        {
            await call.SendAsync(2, TestFrames.Tensor(2));
            await host.UntilAsync("camera", session => session.PendingSteps == 1);
            await gone.CancelAsync();
        }

        call.Dispose();
        await host.UntilAsync("camera", session => session.PendingSteps == 0);
        var after = await host.GetAsync("camera");
        Assert.True(after.Age.Steps is 1 or 2);
        if (after.Age.Steps == 1)
        {
            Assert.Equal(Tensors(committed), Tensors(await host.ExportAsync("camera")));
        }

        using var again = await DuplexClient.OpenAsync(host, "camera");
        Assert.Equal((ulong)after.Age.Steps, again.Opened.LastSequence);
    }

    [Fact]
    public async Task Snapshot_CutShortOrForeign_IsRefusedAndMakesNoStream()
    {
        await using var host = await TestHost.StartAsync();
        await host.StepAsync("camera", TestFrames.Tensor(1), method: "ema");
        var snapshot = await host.ExportAsync("camera");
        byte[][] bad = [[], snapshot[..7], snapshot[..(snapshot.Length / 2)], snapshot[..^1], [.. snapshot, 0], Replace(snapshot, "tta.stream.v1", "tta.stream.v9")];
        foreach (var bytes in bad)
        {
            await RpcAssert.RefusedAsync(StatusCode.InvalidArgument, "SNAPSHOT_REFUSED", () => host.Streams.ImportStreamAsync(new ImportStreamRequest { Name = "copy", Model = TestHost.Model, Snapshot = ByteString.CopyFrom(bytes) }).ResponseAsync);
        }

        var digest = (await host.Models.GetModelAsync(new GetModelRequest { Name = TestHost.Model })).Digest;
        var foreign = await RpcAssert.RefusedAsync(StatusCode.InvalidArgument, "SNAPSHOT_REFUSED", () => host.Streams.ImportStreamAsync(new ImportStreamRequest
        {
            Name = "copy",
            Model = TestHost.Model,
            Snapshot = ByteString.CopyFrom(Replace(snapshot, digest, new string('0', digest.Length))),
        }).ResponseAsync);
        Assert.Contains("model", foreign.Message, StringComparison.Ordinal);
        await RpcAssert.RefusedAsync(StatusCode.NotFound, "STREAM_NOT_FOUND", () => host.GetAsync("copy"));
    }

    private static Frame[] Bad(string kind) => kind switch
    {
        "cut short jpeg" => [TestFrames.Encoded(TestFrames.File(1, SKEncodedImageFormat.Jpeg)[..^40])],
        "cut short png" => [TestFrames.Encoded(TestFrames.File(1, SKEncodedImageFormat.Png)[..^40])],
        "text" => [TestFrames.Encoded([.. "hello, I am no picture"u8])],
        "huge" => [TestFrames.Encoded(Huge())],
        "many bytes" => [TestFrames.Encoded(new byte[100_001])],
        "empty frame" => [new Frame()],
        "raw too short" => [TestFrames.Raw(16, 16, 0, RawImage.Types.Format.Rgb8, (16 * 16 * 3) - 1)],
        "raw stride" => [TestFrames.Raw(16, 16, 47, RawImage.Types.Format.Rgb8, 16 * 48)],
        "raw negative" => [TestFrames.Raw(-1, int.MaxValue, 0, RawImage.Types.Format.Gray8, 10)],
        "raw format" => [TestFrames.Raw(16, 16, 0, (RawImage.Types.Format)9, 768)],
        "tensor bytes" => [TestFrames.Tensor([3, 16, 16], new float[767])],
        "tensor overflow" => [TestFrames.Tensor([int.MaxValue, int.MaxValue, 4], new float[4])],
        "tensor rank" => [TestFrames.Tensor([768], new float[768])],
        "tensor nan" => [TestFrames.Tensor([3, 16, 16], [.. new float[767], float.NaN])],
        "tensor infinite" => [TestFrames.Tensor([3, 16, 16], [.. new float[767], float.PositiveInfinity])],
        "tensor shape" => [TestFrames.Tensor([3, 8, 8], new float[192])],
        "tensor channels" => [TestFrames.Tensor([1, 16, 16], new float[256])],
        "mixed kinds" => [TestFrames.Tensor(1), TestFrames.Encoded(TestFrames.File(1, SKEncodedImageFormat.Png))],
        "no frames" => [],
        _ => [.. Enumerable.Range(0, 65).Select(TestFrames.Tensor)],
    };

    private static byte[] Huge()
    {
        var png = TestFrames.File(1, SKEncodedImageFormat.Png);
        // The width in the header chunk.
        (png[16], png[17]) = (0x7F, 0xFF);
        return png;
    }

    private static Method With(string method, string name, Value value) => new() { Name = method, Hyperparameters = new Struct { Fields = { [name] = value } } };

    private static byte[] Replace(byte[] bytes, string from, string to) => System.Text.Encoding.Latin1.GetBytes(System.Text.Encoding.Latin1.GetString(bytes).Replace(from, to, StringComparison.Ordinal));

    // Without the header, which carries the time of the export.
    private static byte[] Tensors(byte[] snapshot) => snapshot[(8 + BitConverter.ToInt32(snapshot))..];
}

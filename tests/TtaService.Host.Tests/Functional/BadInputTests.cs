using System.Buffers.Binary;
using System.Text;
using Google.Protobuf;
using Google.Protobuf.WellKnownTypes;
using Google.Rpc;
using Grpc.Core;
using SkiaSharp;
using TtaService.Host.Tests.Infrastructure;
using TtaService.V1;
using Method = TtaService.V1.Method;

namespace TtaService.Host.Tests.Functional;

public sealed class BadInputTests(ServerFixture server) : IClassFixture<ServerFixture>
{
    private static readonly Dictionary<string, BadInput> Inputs = new()
    {
        ["no step"] = new(request => request.Step = null, StatusCode.InvalidArgument, "STEP_MISSING", "no step"),
        ["no frame"] = new(request => request.Step.Frames.Clear(), StatusCode.InvalidArgument, "FRAME_COUNT_OUT_OF_RANGE", "1 to 64"),
        ["too many frames"] = new(
            request => request.Step.Frames.AddRange(Enumerable.Repeat(TestFrames.Tensor(1), 64)), StatusCode.InvalidArgument, "FRAME_COUNT_OUT_OF_RANGE", "not 65"),
        ["empty frame"] = Frames(StatusCode.InvalidArgument, "FRAME_EMPTY", "encoded, raw or tensor", new Frame()),
        ["mixed kinds"] = Frames(
            StatusCode.InvalidArgument, "FRAME_KINDS_MIXED", "all images or all tensors", TestFrames.Tensor(1), TestFrames.Encoded(TestFrames.File(1, SKEncodedImageFormat.Png))),
        ["tensor cut short"] = Frames(StatusCode.InvalidArgument, "TENSOR_SIZE_WRONG", "[3,16,16] and 3068 bytes", TestFrames.Tensor([3, 16, 16], TestFrames.Values(1)[1..])),
        ["tensor of two axes"] = Frames(StatusCode.InvalidArgument, "TENSOR_SIZE_WRONG", "[48,16]", TestFrames.Tensor([48, 16], TestFrames.Values(1))),
        ["tensor of five axes"] = Frames(StatusCode.InvalidArgument, "TENSOR_SIZE_WRONG", "[1,1,3,16,16]", TestFrames.Tensor([1, 1, 3, 16, 16], TestFrames.Values(1))),
        ["tensor of negative extents"] = Frames(StatusCode.InvalidArgument, "TENSOR_SIZE_WRONG", "[3,-16,-16]", TestFrames.Tensor([3, -16, -16], TestFrames.Values(1))),
        ["tensor of huge extents"] = Frames(
            StatusCode.InvalidArgument, "TENSOR_SIZE_WRONG", "2147483647", TestFrames.Tensor([int.MaxValue, int.MaxValue, int.MaxValue], TestFrames.Values(1))),
        ["tensor whose size wraps around"] = Frames(StatusCode.InvalidArgument, "TENSOR_SIZE_WRONG", "65536", TestFrames.Tensor([65536, 65536, 1], [])),
        ["tensors of two shapes"] = Frames(
            StatusCode.InvalidArgument, "TENSOR_SHAPES_DIFFER", "[3,8,8]", TestFrames.Tensor(1), TestFrames.Tensor([3, 8, 8], TestFrames.Values(1)[..192])),
        ["tensor of another size"] = Frames(StatusCode.InvalidArgument, "FRAME_SHAPE_WRONG", "3x16x16", TestFrames.Tensor([3, 8, 8], TestFrames.Values(1)[..192])),
        ["tensor of one channel"] = Frames(StatusCode.InvalidArgument, "FRAME_SHAPE_WRONG", "1x16x16", TestFrames.Tensor([1, 16, 16], TestFrames.Values(1)[..256])),
        ["NaN"] = Frames(StatusCode.InvalidArgument, "TENSOR_NOT_FINITE", "NaN", TestFrames.Tensor([3, 16, 16], [.. TestFrames.Values(1)[1..], float.NaN])),
        ["infinity"] = Frames(StatusCode.InvalidArgument, "TENSOR_NOT_FINITE", "finite", TestFrames.Tensor([3, 16, 16], [.. TestFrames.Values(1)[1..], float.PositiveInfinity])),
        ["values that overflow"] = Frames(
            StatusCode.InvalidArgument, "NOT_FINITE", "not finite", TestFrames.Tensor([3, 16, 16], [.. TestFrames.Values(1).Select(value => value < 0.5f ? -3e38f : 3e38f)])),
        ["empty file"] = Frames(StatusCode.InvalidArgument, "FRAME_", "", new Frame { Encoded = ByteString.Empty }),
        ["text"] = Frames(StatusCode.InvalidArgument, "FRAME_", "JPEG, PNG or WebP", TestFrames.Encoded(Encoding.UTF8.GetBytes("GET / HTTP/1.1\r\n\r\n, this is no image at all"))),
        ["JPEG cut short"] = Frames(StatusCode.InvalidArgument, "FRAME_UNREADABLE", "", Cut(SKEncodedImageFormat.Jpeg)),
        ["PNG cut short"] = Frames(StatusCode.InvalidArgument, "FRAME_UNREADABLE", "", Cut(SKEncodedImageFormat.Png)),
        ["WebP cut short"] = Frames(StatusCode.InvalidArgument, "FRAME_UNREADABLE", "", Cut(SKEncodedImageFormat.Webp)),
        ["PNG that claims many pixels"] = Frames(StatusCode.InvalidArgument, "FRAME_TOO_LARGE", "", TestFrames.Encoded(PngOf(60_000, 60_000))),
        ["file of many bytes"] = Frames(
            StatusCode.InvalidArgument, "FRAME_TOO_LARGE", "Frames:MaxBytes", TestFrames.Encoded([.. TestFrames.File(1, SKEncodedImageFormat.Png), .. new byte[9 << 20]])),
        ["raw of no format"] = Frames(StatusCode.InvalidArgument, "RAW_FORMAT_UNKNOWN", "RGB8 or GRAY8", TestFrames.Raw(16, 16, 0, RawImage.Types.Format.Unspecified, 768)),
        ["raw cut short"] = Frames(StatusCode.InvalidArgument, "RAW_SIZE_WRONG", "767 bytes", TestFrames.Raw(16, 16, 0, RawImage.Types.Format.Rgb8, 767)),
        ["raw without width"] = Frames(StatusCode.InvalidArgument, "RAW_SIZE_WRONG", "0x16", TestFrames.Raw(0, 16, 0, RawImage.Types.Format.Rgb8, 768)),
        ["raw of negative height"] = Frames(StatusCode.InvalidArgument, "RAW_SIZE_WRONG", "16x-16", TestFrames.Raw(16, -16, 0, RawImage.Types.Format.Rgb8, 768)),
        ["raw of small stride"] = Frames(StatusCode.InvalidArgument, "RAW_SIZE_WRONG", "stride 47", TestFrames.Raw(16, 16, 47, RawImage.Types.Format.Rgb8, 768)),
        ["raw whose size wraps around"] = Frames(
            StatusCode.InvalidArgument, "FRAME_TOO_LARGE", "2147483647x2147483647", TestFrames.Raw(int.MaxValue, int.MaxValue, 0, RawImage.Types.Format.Rgb8, 768)),
        ["timeout of nothing"] = new(request => request.Step.Timeout = new Duration(), StatusCode.InvalidArgument, "TIMEOUT_OUT_OF_RANGE", "more than 0"),
        ["negative timeout"] = new(request => request.Step.Timeout = new Duration { Seconds = -1 }, StatusCode.InvalidArgument, "TIMEOUT_OUT_OF_RANGE", "not -1 s"),
        ["endless timeout"] = new(
            request => request.Step.Timeout = new Duration { Seconds = long.MaxValue, Nanos = int.MaxValue }, StatusCode.InvalidArgument, "TIMEOUT_OUT_OF_RANGE", "86400"),
        ["top_k below 0"] = new(request => request.Open.Reply = new ReplyOptions { TopK = -1 }, StatusCode.InvalidArgument, "TOP_K_OUT_OF_RANGE", "not -1"),
        ["top_k too large"] = new(request => request.Open.Reply = new ReplyOptions { TopK = 1001 }, StatusCode.InvalidArgument, "TOP_K_OUT_OF_RANGE", "0 to 1000"),
        ["stream name with a slash"] = new(request => request.Open.Stream = "../camera", StatusCode.InvalidArgument, "STREAM_NAME_INVALID", "'../camera'"),
        ["stream name of 129"] = new(request => request.Open.Stream = new string('x', 129), StatusCode.InvalidArgument, "STREAM_NAME_INVALID", "129"),
        ["no model of two"] = new(request => (request.Open.Stream, request.Open.Model) = ("no-model", ""), StatusCode.InvalidArgument, "MODEL_MISSING", "plain, tiny"),
        ["unknown model"] = new(request =>
            (request.Open.Stream, request.Open.Model) = ("unknown-model", "tiny2"), StatusCode.NotFound, "MODEL_NOT_FOUND", "'tiny2' does not exist; there is plain, tiny"),
        ["unknown stream"] = new(
            request => (request.Open.Stream, request.Open.ResumePolicy) = ("nobody", ResumePolicy.MustExist), StatusCode.NotFound, "STREAM_NOT_FOUND", "'nobody'"),
        ["stream that exists"] = new(request => request.Open.ResumePolicy = ResumePolicy.MustCreate, StatusCode.AlreadyExists, "STREAM_EXISTS", "'camera'"),
        ["unknown resume policy"] = new(request => request.Open.ResumePolicy = (ResumePolicy)99, StatusCode.InvalidArgument, "RESUME_POLICY_INVALID", "99"),
        ["max_coalesce of 0"] = new(request => request.Open.MaxCoalesce = 0, StatusCode.InvalidArgument, "MAX_COALESCE_OUT_OF_RANGE", "1 to 1024"),
        ["unknown method"] = Method("unmix", StatusCode.InvalidArgument, "METHOD_INVALID", "'unmix' does not exist"),
        ["hyperparameter out of range"] = Method("unmix_tns", StatusCode.InvalidArgument, "METHOD_INVALID", "components", ("components", Value.ForNumber(0))),
        ["hyperparameter of another kind"] = Method("unmix_tns", StatusCode.InvalidArgument, "METHOD_INVALID", "alpha", ("alpha", Value.ForString("half"))),
        ["hyperparameter not whole"] = Method("unmix_tns", StatusCode.InvalidArgument, "METHOD_INVALID", "components", ("components", Value.ForNumber(1.5))),
        ["hyperparameter NaN"] = Method("unmix_tns", StatusCode.InvalidArgument, "METHOD_INVALID", "finite number", ("alpha", Value.ForNumber(double.NaN))),
        ["hyperparameter list"] = Method("unmix_tns", StatusCode.InvalidArgument, "METHOD_INVALID", "'alpha'", ("alpha", Value.ForList(Value.ForNumber(1)))),
        ["unknown hyperparameter"] = Method("unmix_tns", StatusCode.InvalidArgument, "METHOD_INVALID", "'alhpa' is not a hyperparameter", ("alhpa", Value.ForNumber(1))),
        ["method that the model can't run"] = new(request => request.Open = new OpenStream { Stream = "plain", Model = "plain", Method = new Method { Name = "ema" } },
            StatusCode.FailedPrecondition, "METHOD_UNAVAILABLE", "TrainingMode.PRESERVE"),
        ["stream of another model"] = new(request => request.Open.Model = "plain", StatusCode.FailedPrecondition, "STREAM_OF_ANOTHER_MODEL", "'tiny', not 'plain'"),
        ["stream of another method"] = new(request => request.Open.Method = new Method { Name = "ema" }, StatusCode.FailedPrecondition, "STREAM_OF_ANOTHER_METHOD", "unmix_tns"),
        ["stream of another seed"] = new(request => request.Open.Seed = 5, StatusCode.FailedPrecondition, "STREAM_OF_ANOTHER_SEED", "seed 0, not 5"),
    };

    public static TheoryData<string> Names => [.. Inputs.Keys];

    [Theory]
    [MemberData(nameof(Names))]
    public async Task Infer_BadInput_IsRefusedWithItsReasonAndLeavesTheState(string name)
    {
        var input = Inputs[name];
        await server.Host.StepAsync("camera", TestFrames.Tensor(1));
        var before = await server.Host.ExportAsync("camera");

        var refused = await Assert.ThrowsAsync<RpcException>(async () => await server.Host.Adaptation.InferAsync(Request(input)));

        input.Check(refused.StatusCode, refused.GetRpcStatus()?.GetDetail<ErrorInfo>()?.Reason, refused.Status.Detail);
        Assert.Equal(before, await server.Host.ExportAsync("camera"));
    }

    [Theory]
    [MemberData(nameof(Names))]
    public async Task StreamInfer_BadInput_IsRefusedInBandOrEndsTheCall(string name)
    {
        var input = Inputs[name];
        var request = Request(input);
        await server.Host.StepAsync("camera", TestFrames.Tensor(1));
        if (request.Open.ToByteString().Equals(Request(null).Open.ToByteString()) && request.Step is not null)
        {
            using var call = await DuplexClient.OpenAsync(server.Host.Adaptation, request.Open);
            var before = await server.Host.ExportAsync("camera");
            await call.WriteAsync(new StreamInferRequest { Step = request.Step });
            var error = (await call.ReadAsync()).Error;

            input.Check((StatusCode)error.Code, error.Reason, error.Message);
            Assert.Equal(before, await server.Host.ExportAsync("camera"));
            Assert.NotNull((await call.StepAsync(0, TestFrames.Tensor(2))).Step);
        }
        else
        {
            using var call = new DuplexClient(server.Host.Adaptation.StreamInfer());
            await call.WriteAsync(request.Step is null ? new StreamInferRequest() : new StreamInferRequest { Open = request.Open });
            var refused = await call.EndAsync();

            var expected = request.Step is null ? input with { Reason = "OPEN_MISSING", Says = "first message" } : input;
            expected.Check(refused.StatusCode, refused.GetRpcStatus()?.GetDetail<ErrorInfo>()?.Reason, refused.Status.Detail);
        }
    }

    [Fact]
    public async Task StreamInfer_FrameBeforeTheOpening_EndsTheCall()
    {
        using var call = new DuplexClient(server.Host.Adaptation.StreamInfer());
        await call.SendAsync(1, TestFrames.Tensor(1));

        RpcAssert.Refused(StatusCode.InvalidArgument, "OPEN_MISSING", await call.EndAsync());
    }

    [Fact]
    public async Task StreamInfer_NoMessage_EndsTheCall()
    {
        using var call = new DuplexClient(server.Host.Adaptation.StreamInfer());
        await call.CompleteAsync();

        RpcAssert.Refused(StatusCode.InvalidArgument, "OPEN_MISSING", await call.EndAsync());
    }

    [Fact]
    public async Task StreamInfer_SecondOpening_EndsTheCallAfterTheAnswersBeforeIt()
    {
        using var call = await DuplexClient.OpenAsync(server.Host, "opens-twice");
        await call.SendAsync(1, TestFrames.Tensor(1));
        await call.WriteAsync(new StreamInferRequest { Open = new OpenStream { Stream = "other", Model = TestHost.Model } });

        Assert.Equal(1, (await call.ReadAsync()).Step.Step);
        RpcAssert.Refused(StatusCode.InvalidArgument, "STEP_MISSING", await call.EndAsync());
        Assert.Equal(1, (await server.Host.GetAsync("opens-twice")).Age.Steps);
    }

    [Fact]
    public async Task StreamInfer_UnreadableMessage_EndsTheCallWithItsReason()
    {
        using var channel = server.Host.Connect();
        using var call = channel.CreateCallInvoker()
            .AsyncDuplexStreamingCall(RawCalls.Method(MethodType.DuplexStreaming, "tta.v1.AdaptationService", "StreamInfer"), null, default);
        await call.RequestStream.WriteAsync(new StreamInferRequest { Open = new OpenStream { Stream = "garbled", Model = TestHost.Model } }.ToByteArray());
        Assert.True(await call.ResponseStream.MoveNext(CancellationToken.None));

        await call.RequestStream.WriteAsync([0x12, 0xff, 0xff, 0xff, 0x7f, 1]);

        RpcAssert.Refused(StatusCode.InvalidArgument, "MESSAGE_UNREADABLE", await Assert.ThrowsAsync<RpcException>(() => call.ResponseStream.MoveNext(CancellationToken.None)));
    }

    [Theory]
    [InlineData("tta.v1.AdaptationService", "Learn")]
    [InlineData("tta.v2.AdaptationService", "Infer")]
    public async Task UnknownMethodOrService_IsUnimplemented(string service, string method)
    {
        using var channel = server.Host.Connect();
        using var call = channel.CreateCallInvoker().AsyncUnaryCall(RawCalls.Method(MethodType.Unary, service, method), null, default, []);

        Assert.Equal(StatusCode.Unimplemented, (await Assert.ThrowsAsync<RpcException>(async () => await call)).StatusCode);
    }

    [Fact]
    public async Task Client_VanishesMidStream_WaitingStepsNeverRunAndTheStreamGoesOn()
    {
        await using var host = await TestHost.StartAsync();
        await using var road = new BreakingRoad(host.Grpc);
        using var channel = road.Connect();
        var client = new AdaptationService.AdaptationServiceClient(channel);
        using var vanishing = await DuplexClient.OpenAsync(client, new OpenStream { Stream = "camera", Model = TestHost.Model });
        await vanishing.StepAsync(1, TestFrames.Tensor(1));
        using (await host.OccupyBatcherAsync())
        {
            for (var i = 2; i <= 4; i++)
            {
                await vanishing.SendAsync((ulong)i, TestFrames.Tensor(i));
            }

            await host.UntilAsync("camera", session => session.Waiting.PendingSteps == 3);
            road.Break();
            await host.UntilAsync("camera", session => session.Waiting.PendingSteps == 0);
        }

        Assert.Equal((1, 1ul), ((await host.GetAsync("camera")).Age.Steps, (await host.GetAsync("camera")).LastSequence));
        using var back = await DuplexClient.OpenAsync(host, "camera");
        Assert.Equal(2, (await back.StepAsync(2, TestFrames.Tensor(2))).Step.Step);
    }

    [Fact]
    public async Task Import_SnapshotCutShort_IsRefusedAtEveryLength()
    {
        await server.Host.StepAsync("whole", TestFrames.Tensor(1));
        var snapshot = await server.Host.ExportAsync("whole");
        for (var length = 0; length < snapshot.Length; length += length < 16 ? 1 : 157)
        {
            await ImportRefusedAsync("cut-short", TestHost.Model, snapshot[..length]);
        }

        await ImportRefusedAsync("cut-short", TestHost.Model, [.. snapshot, 0]);
        await RpcAssert.RefusedAsync(StatusCode.NotFound, "STREAM_NOT_FOUND", () => server.Host.GetAsync("cut-short"));
    }

    [Fact]
    public async Task Import_SnapshotOfAnotherModel_SaysWhichModels()
    {
        await server.Host.StepAsync("of-tiny", TestFrames.Tensor(1));

        var message = await ImportRefusedAsync("of-plain", "plain", await server.Host.ExportAsync("of-tiny"));

        Assert.Contains((await server.Host.Models.GetModelAsync(new GetModelRequest { Name = "tiny" })).Digest, message, StringComparison.Ordinal);
        Assert.Contains((await server.Host.Models.GetModelAsync(new GetModelRequest { Name = "plain" })).Digest, message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Import_DamagedSnapshot_IsRefusedOrReadButNeverADefect()
    {
        await server.Host.StepAsync("sound", TestFrames.Tensor(1));
        var snapshot = await server.Host.ExportAsync("sound");
        var header = 8 + (int)BitConverter.ToUInt64(snapshot);
        var random = new Random(5);
        for (var i = 0; i < 400; i++)
        {
            var damaged = snapshot.ToArray();
            damaged[random.Next(header)] = (byte)random.Next(256);
            try
            {
                // A digit of the date or of the counters may have changed, which nobody can tell.
                var stream = await server.Host.Streams.ImportStreamAsync(
                    new ImportStreamRequest { Name = $"damaged-{i}", Model = TestHost.Model, Snapshot = ByteString.CopyFrom(damaged) });
                await server.Host.Streams.DeleteStreamAsync(new DeleteStreamRequest { Name = stream.Name });
            }
            catch (RpcException refused)
            {
                RpcAssert.Refused(StatusCode.InvalidArgument, "SNAPSHOT_REFUSED", refused);
            }
        }

        BinaryPrimitives.WriteSingleLittleEndian(snapshot.AsSpan(header + 40), float.NaN);
        Assert.Contains("finite", await ImportRefusedAsync("not-finite", TestHost.Model, snapshot), StringComparison.Ordinal);
    }

    [Fact]
    public async Task Import_TakenName_IsAlreadyExistsAndLeavesTheStream()
    {
        await server.Host.StepAsync("taken", TestFrames.Tensor(1));
        var snapshot = await server.Host.ExportAsync("taken");
        await server.Host.StepAsync("taken", TestFrames.Tensor(2));
        var before = await server.Host.ExportAsync("taken");

        await RpcAssert.RefusedAsync(StatusCode.AlreadyExists, "STREAM_EXISTS", async () =>
            await server.Host.Streams.ImportStreamAsync(new ImportStreamRequest { Name = "taken", Model = TestHost.Model, Snapshot = ByteString.CopyFrom(snapshot) }));

        Assert.Equal(before, await server.Host.ExportAsync("taken"));
    }

    [Fact]
    public async Task Infer_OneLargeTensorBeforeManySmallOnes_TakesNoMemoryForThem()
    {
        var request = Request(null);
        request.Step.Frames[0] = TestFrames.Tensor([3, 1024, 256], new float[3 * 1024 * 256]);
        request.Step.Frames.AddRange(Enumerable.Repeat(TestFrames.Tensor(1), 63));
        var before = GC.GetTotalAllocatedBytes(precise: true);

        await RpcAssert.RefusedAsync(StatusCode.InvalidArgument, "TENSOR_SHAPES_DIFFER", async () => await server.Host.Adaptation.InferAsync(request));

        // As many bytes for every frame as the first has would be 192 MiB.
        Assert.InRange(GC.GetTotalAllocatedBytes(precise: true) - before, 0, 150L << 20);
    }

    private static InferRequest Request(BadInput? input)
    {
        var request = new InferRequest
        {
            Open = new OpenStream { Stream = "camera", Model = TestHost.Model },
            Step = new StepRequest { Frames = { TestFrames.Tensor(3) } },
        };
        input?.Spoil(request);
        return request;
    }

    private static BadInput Frames(StatusCode code, string reason, string says, params Frame[] frames) => new(
        request =>
        {
            request.Step.Frames.Clear();
            request.Step.Frames.AddRange(frames);
        },
        code,
        reason,
        says);

    private static BadInput Method(string name, StatusCode code, string reason, string says, params (string Name, Value Value)[] hyperparameters) => new(
        request =>
        {
            var method = new Method { Name = name, Hyperparameters = new Struct() };
            foreach (var (hyperparameter, value) in hyperparameters)
            {
                method.Hyperparameters.Fields[hyperparameter] = value;
            }

            (request.Open.Stream, request.Open.Method) = ("of-a-method", method);
        },
        code,
        reason,
        says);

    private static Frame Cut(SKEncodedImageFormat format)
    {
        var file = TestFrames.File(1, format, 64, 64);
        return TestFrames.Encoded(file[..(file.Length * 2 / 3)]);
    }

    // A sound header, checksum included, before the pixels of a small image.
    private static byte[] PngOf(int width, int height)
    {
        const int Header = 16;
        var file = TestFrames.File(1, SKEncodedImageFormat.Png);
        BinaryPrimitives.WriteInt32BigEndian(file.AsSpan(Header), width);
        BinaryPrimitives.WriteInt32BigEndian(file.AsSpan(Header + 4), height);
        var crc = uint.MaxValue;
        foreach (var value in file.AsSpan(Header - 4, 17))
        {
            crc ^= value;
            for (var bit = 0; bit < 8; bit++)
            {
                crc = (crc >> 1) ^ ((crc & 1) * 0xEDB88320u);
            }
        }

        BinaryPrimitives.WriteUInt32BigEndian(file.AsSpan(Header + 13), ~crc);
        return file;
    }

    private async Task<string> ImportRefusedAsync(string name, string model, byte[] snapshot) =>
        (await RpcAssert.RefusedAsync(StatusCode.InvalidArgument, "SNAPSHOT_REFUSED",
            async () => await server.Host.Streams.ImportStreamAsync(new ImportStreamRequest { Name = name, Model = model, Snapshot = ByteString.CopyFrom(snapshot) }))).Message;

    // A reason that ends in _ is how the reason begins.
    private sealed record BadInput(Action<InferRequest> Spoil, StatusCode Code, string Reason, string Says)
    {
        public void Check(StatusCode code, string? reason, string message)
        {
            Assert.Equal(Code, code);
            Assert.True(Reason.EndsWith('_') ? reason?.StartsWith(Reason, StringComparison.Ordinal) == true : reason == Reason, $"{Reason} expected, not {reason}: {message}");
            Assert.Contains(Says, message, StringComparison.Ordinal);
            Assert.NotEmpty(message);
        }
    }
}

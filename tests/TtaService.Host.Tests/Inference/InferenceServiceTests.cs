using System.Buffers.Binary;
using System.Runtime.InteropServices;
using System.Text;
using Google.Protobuf;
using Grpc.Core;
using Grpc.Net.Client;
using SkiaSharp;
using TtaService.Host.Tests.Infrastructure;
using TtaService.Inference;
using TtaService.V1;
using Tensor = TtaService.Inference.ModelInferRequest.Types.InferInputTensor;

namespace TtaService.Host.Tests.Inference;

/// <summary>The Open Inference Protocol over gRPC, on the tiny network.</summary>
public sealed class InferenceServiceTests : IAsyncLifetime
{
    private TestHost _host = null!;
    private GrpcChannel _channel = null!;
    private GRPCInferenceService.GRPCInferenceServiceClient _client = null!;

    public async ValueTask InitializeAsync()
    {
        _host = await TestHost.StartAsync();
        _channel = _host.Connect();
        _client = new GRPCInferenceService.GRPCInferenceServiceClient(_channel);
    }

    public async ValueTask DisposeAsync()
    {
        _channel.Dispose();
        await _host.DisposeAsync();
    }

    [Fact]
    public async Task Server_Asked_SaysWhatItIs()
    {
        Assert.True((await _client.ServerLiveAsync(new())).Live);
        Assert.True((await _client.ServerReadyAsync(new())).Ready);
        Assert.True((await _client.ModelReadyAsync(new() { Name = TestHost.Model })).Ready);
        Assert.False((await _client.ModelReadyAsync(new() { Name = "other" })).Ready);
        Assert.False((await _client.ModelReadyAsync(new() { Name = TestHost.Model, Version = "2" })).Ready);
        Assert.Equal("tta", (await _client.ServerMetadataAsync(new())).Name);
        var metadata = await _client.ModelMetadataAsync(new() { Name = TestHost.Model });
        Assert.Equal((TestHost.Model, "1", "FP32"), (metadata.Name, Assert.Single(metadata.Versions), Assert.Single(metadata.Inputs).Datatype));
        Assert.Equal(-1, metadata.Inputs[0].Shape[0]);
        var config = (await _client.ModelConfigAsync(new() { Name = TestHost.Model })).Config;
        Assert.Equal((metadata.Inputs[0].Name, DataType.TypeFp32), (config.Input[0].Name, config.Input[0].DataType));
        Assert.Equal(metadata.Inputs[0].Shape.Skip(1), config.Input[0].Dims);
        Assert.Equal(ModelConfig.SchedulingChoiceOneofCase.SequenceBatching, config.SchedulingChoiceCase);
        Assert.Equal((TestHost.Model, "READY"), Assert.Single((await _client.RepositoryIndexAsync(new())).Models) is var model ? (model.Name, model.State) : default);
    }

    [Fact]
    public async Task Infer_Sequence_IsTheStreamOfThatName()
    {
        var frame = TestFrames.Tensor(1);
        var expected = await _host.StepAsync("twin", frame);

        var first = await _client.ModelInferAsync(await RequestAsync(frame, ("sequence_id", Text("camera")), ("sequence_start", Flag(true))));
        var second = await _client.ModelInferAsync(await RequestAsync(TestFrames.Tensor(2), ("sequence_id", Text("camera"))));

        Assert.Equal(expected.Outputs[0].Data, first.RawOutputContents[0]);
        Assert.Equal(expected.Outputs[0].Shape.Select(extent => (long)extent), first.Outputs[0].Shape);
        Assert.Equal(("camera", 1L, "fresh", true), (first.Parameters["tta_stream"].StringParam, first.Parameters["tta_step"].Int64Param,
            first.Parameters["tta_state"].StringParam, first.Parameters["tta_learned"].BoolParam));
        Assert.Equal((await _host.StepAsync("twin", TestFrames.Tensor(2))).Outputs[0].Data, second.RawOutputContents[0]);
        Assert.Equal(2, (await _host.GetAsync("camera")).Age.Steps);
    }

    [Fact]
    public async Task Infer_WithoutSequence_IsAnsweredBySourceAndLearnedByNobody()
    {
        var frame = TestFrames.Tensor(1);
        var expected = await _host.StepAsync("source", frame, method: "source");

        var (first, second) = (await _client.ModelInferAsync(await RequestAsync(frame)), await _client.ModelInferAsync(await RequestAsync(frame, ("sequence_id", Number(0)))));

        Assert.Equal(expected.Outputs[0].Data, first.RawOutputContents[0]);
        Assert.Equal(expected.Outputs[0].Data, second.RawOutputContents[0]);
        Assert.Equal(("source", false), (first.Parameters["tta_method"].StringParam, first.Parameters["tta_learned"].BoolParam));
        Assert.Single((await _host.Streams.ListStreamsAsync(new())).Streams);
    }

    [Fact]
    public async Task Infer_StartAgain_BeginsAnewUnlessItResumes()
    {
        // A picture that comes again teaches nothing.
        var frame = 0;
        async Task<long> StepAsync(params (string, InferParameter)[] parameters) =>
            (await _client.ModelInferAsync(await RequestAsync(TestFrames.Tensor(++frame), [("sequence_id", Number(7)), .. parameters]))).Parameters["tta_step"].Int64Param;

        Assert.Equal(1, await StepAsync(("sequence_start", Flag(true))));
        Assert.Equal(2, await StepAsync());
        Assert.Equal(3, await StepAsync(("sequence_start", Flag(true)), ("tta_resume", Flag(true))));
        Assert.Equal(1, await StepAsync(("sequence_start", Flag(true))));
        Assert.Equal(1, await StepAsync(("tta_reset", Flag(true))));
        Assert.Equal($"{TestHost.Model}:7", Assert.Single((await _host.Streams.ListStreamsAsync(new())).Streams).Name);
        Assert.Equal(2, await StepAsync(("sequence_end", Flag(true)), ("tta_keep", Flag(true))));
        Assert.Equal(2, await StepAsync(("tta_freeze", Flag(true))));
        Assert.Equal(3, await StepAsync(("sequence_end", Flag(true))));
        Assert.Empty((await _host.Streams.ListStreamsAsync(new())).Streams);
    }

    [Fact]
    public async Task Infer_FrozenStep_SaysThatNothingWasLearned()
    {
        await _client.ModelInferAsync(await RequestAsync(TestFrames.Tensor(1), ("sequence_id", Text("camera")), ("sequence_start", Flag(true))));

        var frozen = await _client.ModelInferAsync(await RequestAsync(TestFrames.Tensor(2), ("sequence_id", Text("camera")), ("tta_freeze", Flag(true))));

        Assert.Equal((1L, false), (frozen.Parameters["tta_step"].Int64Param, frozen.Parameters["tta_learned"].BoolParam));
    }

    [Fact]
    public async Task Infer_Unfiltered_IsAnOutputOfItsOwn()
    {
        async Task<ModelInferResponse> StepAsync(string sequence, string method, int frame, params (string, InferParameter)[] parameters) =>
            await _client.ModelInferAsync(await RequestAsync(
                TestFrames.Tensor(frame),
                [("sequence_id", Text(sequence)), ("sequence_start", Flag(true)), ("tta_resume", Flag(true)), ("tta_method", Text(method)), .. parameters]));

        for (var frame = 1; frame < 4; frame++)
        {
            var bare = await StepAsync("bare", "ema", frame);
            var filtered = await StepAsync("filtered", "ema+lame{neighbors=2}", frame, ("tta_unfiltered", Flag(true)));

            Assert.Equal("ema+lame", filtered.Parameters["tta_method"].StringParam);
            Assert.Equal((true, false), (filtered.Parameters["tta_filtered"].BoolParam, bare.Parameters["tta_filtered"].BoolParam));
            Assert.Equal([bare.Outputs[0].Name, $"tta_unfiltered:{bare.Outputs[0].Name}"], filtered.Outputs.Select(output => output.Name));
            Assert.Equal(bare.RawOutputContents[0], filtered.RawOutputContents[1]);
        }
    }

    [Fact]
    public async Task Infer_Method_IsTheStreams()
    {
        var reply = await _client.ModelInferAsync(
            await RequestAsync(TestFrames.Tensor(1), ("sequence_id", Text("camera")), ("sequence_start", Flag(true)), ("tta_method", Text("ema{momentum=0.2}"))));

        Assert.Equal("ema", reply.Parameters["tta_method"].StringParam);
        Assert.Equal(0.2, (await _host.GetAsync("camera")).Method.Hyperparameters.Fields["momentum"].NumberValue, 6);
    }

    [Fact]
    public async Task Infer_TypedContents_AnswerAsRawOnes()
    {
        var request = await RequestAsync(TestFrames.Tensor(1));
        var raw = await _client.ModelInferAsync(request);
        request.Inputs[0].Contents = new InferTensorContents { Fp32Contents = { MemoryMarshal.Cast<byte, float>(request.RawInputContents[0].Span).ToArray() } };
        request.RawInputContents.Clear();

        Assert.Equal(raw.RawOutputContents[0], (await _client.ModelInferAsync(request)).RawOutputContents[0]);
    }

    [Fact]
    public async Task Infer_Classification_SaysTheClasses()
    {
        var request = await RequestAsync(TestFrames.Tensor(1));
        var output = (await _client.ModelMetadataAsync(new() { Name = TestHost.Model })).Outputs[0].Name;
        request.Outputs.Add(new ModelInferRequest.Types.InferRequestedOutputTensor { Name = output, Parameters = { ["classification"] = Number(2) } });
        var expected = (await _host.StepAsync("source", TestFrames.Tensor(1), method: "source")).Predictions[0].Top;

        var reply = await _client.ModelInferAsync(request);

        Assert.Equal(("BYTES", 1L, 2L), (reply.Outputs[0].Datatype, reply.Outputs[0].Shape[0], reply.Outputs[0].Shape[1]));
        var parts = Texts(reply.RawOutputContents[0].Span)[0].Split(':');
        Assert.Equal(expected[0].Index.ToString(System.Globalization.CultureInfo.InvariantCulture), parts[1]);
        Assert.Equal(expected[0].Probability, float.Parse(parts[0], System.Globalization.CultureInfo.InvariantCulture), 1e-5f);
    }

    [Fact]
    public async Task StreamInfer_ManySequences_EachInItsOrderAndErrorsInBand()
    {
        using var call = _client.ModelStreamInfer();
        for (var step = 1; step <= 5; step++)
        {
            foreach (var camera in new[] { "a", "b", "c" })
            {
                var request = await RequestAsync(TestFrames.Tensor(step), ("sequence_id", Text(camera)), ("sequence_start", Flag(step == 1)));
                request.Id = $"{camera}/{step}";
                await call.RequestStream.WriteAsync(request);
            }
        }

        await call.RequestStream.WriteAsync(new ModelInferRequest { ModelName = "other", Id = "wrong" });
        await call.RequestStream.CompleteAsync();
        var replies = await call.ResponseStream.ReadAllAsync().ToListAsync();

        Assert.Equal(16, replies.Count);
        foreach (var camera in new[] { "a", "b", "c" })
        {
            var own = replies.Where(reply => reply.InferResponse.Id.StartsWith(camera + "/", StringComparison.Ordinal)).Select(reply => reply.InferResponse).ToList();
            Assert.Equal(Enumerable.Range(1, 5).Select(step => $"{camera}/{step}"), own.Select(reply => reply.Id));
            Assert.Equal([1, 2, 3, 4, 5], own.Select(reply => reply.Parameters["tta_step"].Int64Param));
        }

        var error = Assert.Single(replies, reply => reply.ErrorMessage.Length > 0);
        Assert.Equal(("wrong", "Request for unknown model: 'other' is not found"), (error.InferResponse.Id, error.ErrorMessage));
    }

    [Fact]
    public async Task StreamInfer_ErrorsAsStatusAskedFor_EndsTheCall()
    {
        using var call = _client.ModelStreamInfer(new Metadata { { "triton_grpc_error", "true" } });
        await call.RequestStream.WriteAsync(new ModelInferRequest { ModelName = "other" });

        var ended = await Assert.ThrowsAsync<RpcException>(() => call.ResponseStream.MoveNext(CancellationToken.None));

        Assert.Equal(StatusCode.NotFound, ended.StatusCode);
    }

    public static TheoryData<string, StatusCode, string> Refused => new()
    {
        { "model", StatusCode.NotFound, "Request for unknown model: 'other' is not found" },
        { "version", StatusCode.NotFound, "Request for unknown model: 'tiny' version 2 is not found" },
        { "no version", StatusCode.InvalidArgument, "should be an integer > 0" },
        { "start", StatusCode.InvalidArgument, "must specify the START flag on the first request of the sequence" },
        { "input", StatusCode.InvalidArgument, "unexpected inference input 'other'" },
        { "inputs", StatusCode.InvalidArgument, "expected 1 inputs but got 0 inputs" },
        { "output", StatusCode.InvalidArgument, "unexpected inference output 'other'" },
        { "datatype", StatusCode.InvalidArgument, "datatype 'FP33'" },
        { "whole", StatusCode.InvalidArgument, "unexpected shape or data-type" },
        { "both", StatusCode.InvalidArgument, "contents field must not be specified when using raw_input_contents" },
        { "short", StatusCode.InvalidArgument, "bytes, but" },
        { "raws", StatusCode.InvalidArgument, "expected number of raw input contents" },
        { "negative", StatusCode.InvalidArgument, "which is none" },
        { "sequence", StatusCode.InvalidArgument, "'sequence_id' must be an integer or a string" },
        { "flag", StatusCode.InvalidArgument, "'sequence_start' must be a bool" },
        { "name", StatusCode.InvalidArgument, "a stream's name has" },
        { "knob", StatusCode.InvalidArgument, "'tta_frezze' does not exist" },
        { "method", StatusCode.InvalidArgument, "method 'best' does not exist" },
        { "picture", StatusCode.InvalidArgument, "neither" },
    };

    [Theory]
    [MemberData(nameof(Refused))]
    public async Task Infer_Wrong_SaysSo(string wrong, StatusCode status, string says)
    {
        var request = await RequestAsync(TestFrames.Tensor(1));
        var input = request.Inputs[0];
        void Set(string name, InferParameter value) => request.Parameters[name] = value;
        switch (wrong)
        {
            case "model": request.ModelName = "other"; break;
            case "version": request.ModelVersion = "2"; break;
            case "no version": request.ModelVersion = "new"; break;
            case "start": Set("sequence_id", Number(12)); break;
            case "input": input.Name = "other"; break;
            case "inputs": request.Inputs.Clear(); request.RawInputContents.Clear(); break;
            case "output": request.Outputs.Add(new ModelInferRequest.Types.InferRequestedOutputTensor { Name = "other" }); break;
            case "datatype": input.Datatype = "FP33"; break;
            case "whole": input.Datatype = "INT32"; break;
            case "both": input.Contents = new InferTensorContents(); break;
            case "short": request.RawInputContents[0] = ByteString.CopyFrom(1, 2, 3); break;
            case "raws": request.RawInputContents.Add(ByteString.Empty); break;
            case "negative": input.Shape[0] = -1; break;
            case "sequence": Set("sequence_id", Flag(true)); break;
            case "flag": Set("sequence_id", Text("a")); Set("sequence_start", Number(1)); break;
            case "name": Set("sequence_id", Text("no/name")); Set("sequence_start", Flag(true)); break;
            case "knob": Set("tta_frezze", Flag(true)); break;
            case "method": Set("tta_method", Text("best")); break;
            default:
                input.Datatype = "BYTES";
                input.Shape.Clear();
                input.Shape.Add(1);
                request.RawInputContents[0] = ByteString.CopyFrom([3, 0, 0, 0, 1, 2, 3]);
                says = "JPEG";
                break;
        }

        var refused = await Assert.ThrowsAsync<RpcException>(async () => await _client.ModelInferAsync(request));

        Assert.Equal(status, refused.StatusCode);
        Assert.Contains(says, refused.Status.Detail, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Infer_EncodedAndRawPictures_AnswerAsFramesDo()
    {
        var pixels = Enumerable.Range(0, 8 * 8 * 3).Select(i => (byte)(i * 5)).ToArray();
        var raw = TestFrames.Raw(8, 8, 24, RawImage.Types.Format.Rgb8, 0);
        raw.Raw.Data = ByteString.CopyFrom(pixels);
        var expected = (await _host.StepAsync("source", raw, method: "source")).Outputs[0].Data;
        var request = await RequestAsync(TestFrames.Tensor(1));
        request.Inputs[0].Datatype = "UINT8";
        request.Inputs[0].Shape.Clear();
        request.Inputs[0].Shape.AddRange([1, 8, 8, 3]);
        request.RawInputContents[0] = ByteString.CopyFrom(pixels);

        Assert.Equal(expected, (await _client.ModelInferAsync(request)).RawOutputContents[0]);

        var file = TestFrames.File(1, SKEncodedImageFormat.Png);
        expected = (await _host.StepAsync("source", TestFrames.Encoded(file), method: "source")).Outputs[0].Data;
        var length = new byte[4];
        BinaryPrimitives.WriteInt32LittleEndian(length, file.Length);
        request.Inputs[0].Datatype = "BYTES";
        request.Inputs[0].Shape.Clear();
        request.Inputs[0].Shape.Add(1);
        request.RawInputContents[0] = ByteString.CopyFrom([.. length, .. file]);

        Assert.Equal(expected, (await _client.ModelInferAsync(request)).RawOutputContents[0]);
    }

    private static InferParameter Text(string value) => new() { StringParam = value };

    private static InferParameter Number(long value) => new() { Int64Param = value };

    private static InferParameter Flag(bool value) => new() { BoolParam = value };

    private static List<string> Texts(ReadOnlySpan<byte> data)
    {
        var texts = new List<string>();
        while (data.Length > 0)
        {
            var length = BinaryPrimitives.ReadInt32LittleEndian(data);
            texts.Add(Encoding.UTF8.GetString(data.Slice(4, length)));
            data = data[(4 + length)..];
        }

        return texts;
    }

    private async Task<ModelInferRequest> RequestAsync(Frame frame, params (string Name, InferParameter Value)[] parameters)
    {
        var metadata = await _client.ModelMetadataAsync(new() { Name = TestHost.Model });
        var input = new Tensor { Name = metadata.Inputs[0].Name, Datatype = "FP32" };
        input.Shape.Add(1);
        input.Shape.AddRange(frame.Tensor.Shape.Select(extent => (long)extent));
        var request = new ModelInferRequest { ModelName = TestHost.Model, Inputs = { input }, RawInputContents = { frame.Tensor.Data } };
        foreach (var (name, value) in parameters)
        {
            request.Parameters[name] = value;
        }

        return request;
    }
}

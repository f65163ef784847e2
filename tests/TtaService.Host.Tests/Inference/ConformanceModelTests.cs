using System.Runtime.InteropServices;
using Google.Protobuf;
using Grpc.Core;
using TtaService.Host.Tests.Infrastructure;
using TtaService.Inference;
using Tensor = TtaService.Inference.ModelInferRequest.Types.InferInputTensor;

namespace TtaService.Host.Tests.Inference;

/// <summary>The models that the examples of the protocol's clients ask for.</summary>
public sealed class ConformanceModelTests
{
    [Fact]
    public async Task Models_NotAskedFor_AreNotThere()
    {
        await using var host = await TestHost.StartAsync();
        using var channel = host.Connect();

        Assert.False((await new GRPCInferenceService.GRPCInferenceServiceClient(channel).ModelReadyAsync(new() { Name = "simple" })).Ready);
    }

    [Fact]
    public async Task Models_AskedFor_AnswerAsTheExamplesExpect()
    {
        await using var host = await TestHost.StartAsync("--Inference:ConformanceModels=true");
        using var channel = host.Connect();
        var client = new GRPCInferenceService.GRPCInferenceServiceClient(channel);
        int[] numbers = [.. Enumerable.Range(0, 16)];
        int[] ones = [.. Enumerable.Repeat(1, 16)];

        Assert.Equal("triton", (await client.ServerMetadataAsync(new())).Name);
        var simple = await client.ModelInferAsync(Request("simple", [1, 16], ("INPUT0", numbers), ("INPUT1", ones)));
        Assert.Equal(numbers.Select(number => number + 1), Numbers(simple, 0));
        Assert.Equal(numbers.Select(number => number - 1), Numbers(simple, 1));

        var text = Request("simple_string", [1, 16]);
        foreach (var (name, values) in new[] { ("INPUT0", numbers), ("INPUT1", ones) })
        {
            text.Inputs.Add(new Tensor
            {
                Name = name,
                Datatype = "BYTES",
                Shape = { 1, 16 },
                Contents = new InferTensorContents { BytesContents = { values.Select(value => ByteString.CopyFromUtf8($"{value}")) } }
            });
        }

        Assert.Equal(16 * 4 + 16 + 7, (await client.ModelInferAsync(text)).RawOutputContents[0].Length);

        foreach (
            var (model, expected) in new[] { ("simple_sequence", new[] { 12, 7, 1 }), ("simple_dyna_sequence", [12, 7, 1001]), ("simple_string_dyna_sequence", [11, 18, 1019]) })
        {
            var answers = new List<int>();
            foreach (var (value, place) in new[] { 11, 7, 1 }.Select((value, place) => (value, place)))
            {
                var request = Request(model, [1, 1], ("INPUT", [value]));
                request.Parameters["sequence_id"] = new InferParameter { Int64Param = 1000 };
                request.Parameters["sequence_start"] = new InferParameter { BoolParam = place == 0 };
                request.Parameters["sequence_end"] = new InferParameter { BoolParam = place == 2 };
                answers.Add(Numbers(await client.ModelInferAsync(request), 0)[0]);
            }

            Assert.Equal(expected, answers);
        }
    }

    [Fact]
    public async Task RepeatModel_OneRequest_HasManyResponses()
    {
        await using var host = await TestHost.StartAsync("--Inference:ConformanceModels=true");
        using var channel = host.Connect();
        var client = new GRPCInferenceService.GRPCInferenceServiceClient(channel);
        var request = Request("repeat_int32", [3], ("IN", [5, 6, 7]));
        request.Inputs.Add(new Tensor { Name = "DELAY", Datatype = "UINT32", Shape = { 3 } });
        request.Inputs.Add(new Tensor { Name = "WAIT", Datatype = "UINT32", Shape = { 1 } });
        request.RawInputContents.Add([ByteString.CopyFrom(new byte[12]), ByteString.CopyFrom(new byte[4])]);
        request.Parameters["triton_enable_empty_final_response"] = new InferParameter { BoolParam = true };

        using var call = client.ModelStreamInfer();
        await call.RequestStream.WriteAsync(request);
        await call.RequestStream.CompleteAsync();
        var replies = await call.ResponseStream.ReadAllAsync().ToListAsync();

        Assert.Equal([5, 6, 7], replies.SkipLast(1).Select(reply => Numbers(reply.InferResponse, 0)[0]));
        Assert.True(replies[^1].InferResponse.Parameters["triton_final_response"].BoolParam);
        var unary = await Assert.ThrowsAsync<RpcException>(async () => await client.ModelInferAsync(request));
        Assert.Contains("decoupled", unary.Status.Detail, StringComparison.Ordinal);
    }

    private static ModelInferRequest Request(string model, long[] shape, params (string Name, int[] Values)[] inputs)
    {
        var request = new ModelInferRequest { ModelName = model };
        foreach (var (name, values) in inputs)
        {
            var input = new Tensor { Name = name, Datatype = "INT32" };
            input.Shape.AddRange(shape);
            request.Inputs.Add(input);
            request.RawInputContents.Add(ByteString.CopyFrom(MemoryMarshal.AsBytes(values.AsSpan())));
        }

        return request;
    }

    private static int[] Numbers(ModelInferResponse response, int output) => MemoryMarshal.Cast<byte, int>(response.RawOutputContents[output].Span).ToArray();
}

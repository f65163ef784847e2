using System.Text;
using Google.Protobuf.WellKnownTypes;
using Google.Rpc;
using Grpc.Core;
using TtaService.Host.Grpc;
using TtaService.Host.Tests.Infrastructure;
using TtaService.Serving.Streams;
using TtaService.V1;
using Method = TtaService.V1.Method;

namespace TtaService.Host.Tests.Functional;

/// <summary>What a refusal says, however much the client said.</summary>
public sealed class ErrorTextTests
{
    private const string Hostile = "\u001b[2J\r\n\0\u202e\u200b\ud800\u2028";

    [Theory]
    [InlineData("plain text, 100 %", "plain text, 100 %")]
    [InlineData("Straße 東京 😀", "Straße 東京 😀")]
    [InlineData("a\nb\tc\u001b[0m", "a\\u000ab\\u0009c\\u001b[0m")]
    [InlineData("\u202eabc", "\\u202eabc")]
    public void Text_OfAnError_IsAsItWasButForWhatActsOnItsReader(string text, string shown) => Assert.Equal(shown, ErrorText.Of(text));

    [Fact]
    public void Text_WithHalfAPair_ShowsThatSomethingIsMissing() => Assert.Equal("\ufffdx", ErrorText.Of("\ud800x"));

    [Theory]
    [InlineData("x")]
    [InlineData("ä")]
    [InlineData("😀")]
    [InlineData("\u001b")]
    public void Text_OfAnyLength_TakesAThousandBytesAtMost(string of)
    {
        for (var count = 900; count < 1100; count += 7)
        {
            var text = ErrorText.Of(string.Concat(Enumerable.Repeat(of, count)));

            Assert.InRange(Encoding.UTF8.GetByteCount(text), 900, ErrorText.MaxBytes);
        }

        Assert.InRange(Encoding.UTF8.GetByteCount(ErrorText.Of(string.Concat(Enumerable.Repeat(of, 1_000_000)))), 900, ErrorText.MaxBytes);
    }

    [Fact]
    public void EveryRoadOut_BoundsTheText()
    {
        var failure = new Failure(
            FailureKind.InvalidArgument, "REASON", Hostile + new string('x', 1 << 20))
        { Field = new string('f', 1 << 20), RetryAfter = TimeSpan.FromSeconds(1) };

        var (status, error) = (failure.ToRpcException(), failure.ToStepError(1));

        Assert.InRange(status.Status.Detail.Length + status.Trailers.Sum(trailer => trailer.IsBinary ? trailer.ValueBytes.Length : trailer.Value.Length), 1000, 4096);
        Assert.InRange(error.CalculateSize(), 1000, 1400);
        Assert.DoesNotContain(status.Status.Detail + error.Message, char.IsControl);
    }

    [Fact]
    public async Task UnknownHyperparameters_AreCountedNotListed()
    {
        await using var host = await TestHost.StartAsync();
        var request = Open("ema", Enumerable.Range(0, 100).Select(i => (Hostile.Replace("\ud800", "", StringComparison.Ordinal) + i, Value.ForNumber(1))));

        var status = await RpcAssert.RefusedAsync(StatusCode.InvalidArgument, "METHOD_INVALID", async () => await host.Adaptation.InferAsync(request));

        Assert.Contains("and 97 more are not a hyperparameter of ema", status.Message, StringComparison.Ordinal);
        Assert.InRange(Encoding.UTF8.GetByteCount(status.Message), 50, 1000);
        Assert.DoesNotContain(status.Message, char.IsControl);
    }

    [Fact]
    public async Task Hyperparameters_MoreThanAnyMethodHas_AreRefusedBeforeTheyAreRead()
    {
        await using var host = await TestHost.StartAsync();
        var request = Open("ema", Enumerable.Range(0, 100_000).Select(i => ($"{i}", Value.ForNumber(1))));

        var status = await RpcAssert.RefusedAsync(StatusCode.InvalidArgument, "TOO_MANY_ENTRIES", async () => await host.Adaptation.InferAsync(request));

        Assert.Equal("open.method.hyperparameters.fields", status.GetDetail<BadRequest>()!.FieldViolations[0].Field);
        Assert.Contains("128", status.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task InBandError_QuotesShortly()
    {
        await using var host = await TestHost.StartAsync();
        using var call = await DuplexClient.OpenAsync(host, "camera");

        var error = (await call.StepAsync(1, TestFrames.Tensor([.. Enumerable.Repeat(int.MaxValue, 16)], []))).Error;

        Assert.Equal("TENSOR_SIZE_WRONG", error.Reason);
        Assert.InRange(error.CalculateSize(), 1, 1024);
    }

    private static InferRequest Open(string method, IEnumerable<(string Name, Value Value)> hyperparameters)
    {
        var request = new InferRequest
        {
            Open = new OpenStream { Stream = "camera", Method = new Method { Name = method, Hyperparameters = new Struct() } },
            Step = new StepRequest { Frames = { TestFrames.Tensor(1) } }
        };
        foreach (var (name, value) in hyperparameters)
        {
            request.Open.Method.Hyperparameters.Fields[name] = value;
        }

        return request;
    }
}

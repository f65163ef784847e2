using System.IO.Compression;
using Google.Protobuf;
using Grpc.Core;
using Grpc.Reflection.V1Alpha;
using Microsoft.Extensions.DependencyInjection;
using TtaService.Host.Grpc;
using TtaService.Host.Hosting;
using TtaService.Host.Tests.Infrastructure;
using TtaService.Serving.Frames;
using TtaService.V1;

namespace TtaService.Host.Tests.Functional;

/// <summary>What a client may make the server hold before a message is whole, and how long.</summary>
public sealed class UnfinishedMessageTests
{
    private const string Unary = "tta.v1.AdaptationService/Infer";
    private const string Duplex = "tta.v1.AdaptationService/StreamInfer";
    private const string Reflection = "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo";
    private const string Soon = "--Server:MessageTimeout=00:00:00.3";

    [Theory]
    [InlineData(Unary, 0)]
    [InlineData(Unary, 3)]
    [InlineData(Unary, 1000)]
    [InlineData("tta.v1.DriftService/WatchDrift", 0)]
    [InlineData("grpc.health.v1.Health/Check", 1000)]
    [InlineData(Duplex, 3)]
    [InlineData(Duplex, 1000)]
    [InlineData(Reflection, 1000)]
    public async Task Message_DoesNotComeToItsEnd_EndsTheCall(string method, int bytes)
    {
        await using var host = await TestHost.StartAsync(Soon);
        using var call = new RawCall(host.Grpc, method).Write([.. new byte[] { 0, 0, 1, 0, 0 }.Concat(new byte[1000]).Take(bytes)]);

        Assert.Contains("Server:MessageTimeout", (await call.RefusedAsync(StatusCode.DeadlineExceeded, "MESSAGE_TIMEOUT")).Status.Detail, StringComparison.Ordinal);
        await UntilNothingIsHeldAsync(host);
    }

    [Fact]
    public async Task Message_WholeButTheCallNotClosed_EndsAUnaryCall()
    {
        await using var host = await TestHost.StartAsync(Soon);
        using var call = new RawCall(host.Grpc, "tta.v1.StreamsService/GetStream").Write(new GetStreamRequest { Name = "camera" });

        await call.RefusedAsync(StatusCode.DeadlineExceeded, "MESSAGE_TIMEOUT");
    }

    [Fact]
    public async Task Message_BeginsAfterTheOpening_EndsTheCallAndLeavesTheStream()
    {
        await using var host = await TestHost.StartAsync(Soon);
        using var call = new RawCall(host.Grpc, Duplex).Write(new StreamInferRequest { Open = new OpenStream { Stream = "camera", Model = TestHost.Model } });
        await call.AnsweredAsync();
        // Silence between two messages is something else.
        await Task.Delay(TimeSpan.FromSeconds(0.6));
        call.Write([.. RawCall.Header(100_000), 1, 2, 3]);

        await call.RefusedAsync(StatusCode.DeadlineExceeded, "MESSAGE_TIMEOUT");
        Assert.Equal(1, (await host.StepAsync("camera", TestFrames.Tensor(1))).Step);
    }

    [Fact]
    public async Task ManyUnfinishedMessages_OnOneConnection_HoldNoMoreThanItMay()
    {
        const int Limit = 1_000_000;
        await using var host = await TestHost.StartAsync("--Server:MaxMessageBytes=200000", $"--Server:MaxConnectionMessageBytes={Limit}", "--Server:MessageTimeout=00:00:05");
        var budget = host.Host.Services.GetRequiredService<MessageBudget>();
        using var one = new HttpClient();
        await new RawCall(host.Grpc, Unary, one).Write(RawCall.Framed([])).Complete().EndAsync();
        var calls = Enumerable.Range(0, 40).Select(i => new RawCall(host.Grpc, i % 2 == 0 ? Unary : Duplex, one).Write([.. RawCall.Header(199_000), .. new byte[10_000]])).ToList();

        var ended = calls.ConvertAll(call => call.EndAsync());
        while (ended.Exists(call => !call.IsCompleted))
        {
            Assert.InRange(budget.Bytes, 0, Limit);
            await Task.WhenAny(Task.WhenAll(ended), Task.Delay(20));
        }

        var reasons = (await Task.WhenAll(ended)).Select(end => RawCall.ReasonOf(end.Status)).ToLookup(reason => reason);
        // As many as fit wait for their deadline, the others are refused at once.
        Assert.Equal((5, 35), (reasons["MESSAGE_TIMEOUT"].Count(), reasons["CONNECTION_BUSY"].Count()));
        await UntilNothingIsHeldAsync(host);
        calls.ForEach(call => call.Dispose());
    }

    [Fact]
    public async Task SmallMessage_WhereLargeOnesWait_TakesTheRoomOfOne()
    {
        await using var host = await TestHost.StartAsync("--Server:MaxMessageBytes=200000", "--Server:MaxConnectionMessageBytes=200000", "--Server:MessageTimeout=00:01:00");
        var budget = host.Host.Services.GetRequiredService<MessageBudget>();
        using var one = new HttpClient();
        using var large = new RawCall(host.Grpc, Unary, one).Write([.. RawCall.Header(199_000), 1]);
        await UntilAsync(() => budget.Bytes > 199_000);
        using var small = new RawCall(host.Grpc, Unary, one)
            .Write(new InferRequest { Open = new OpenStream { Stream = "camera" }, Step = new StepRequest { Frames = { TestFrames.Tensor(1) } } }).Complete();

        Assert.Equal(StatusCode.OK, (await small.EndAsync()).Status.StatusCode);
        await large.RefusedAsync(StatusCode.ResourceExhausted, "MESSAGES_BUSY");
    }

    [Fact]
    public async Task ManyConnections_HoldNoMoreThanTheServerMay_AndTheBusiestMakesRoom()
    {
        await using var host = await TestHost.StartAsync("--Server:MaxMessageBytes=200000", "--Server:MaxTotalMessageBytes=450000", "--Server:MessageTimeout=00:01:00");
        var budget = host.Host.Services.GetRequiredService<MessageBudget>();
        using var busy = new HttpClient();
        using var first = new RawCall(host.Grpc, Unary, busy).Write([.. RawCall.Header(199_000), 1]);
        await UntilAsync(() => budget.Bytes > 199_000);
        using var second = new RawCall(host.Grpc, Unary, busy).Write([.. RawCall.Header(198_000), 1]);
        await UntilAsync(() => budget.Bytes > 397_000);
        using var other = new RawCall(host.Grpc, Unary).Write([.. RawCall.Header(100_000), 1]);

        await first.RefusedAsync(StatusCode.ResourceExhausted, "MESSAGES_BUSY");
        await UntilAsync(() => budget.Bytes is > 298_000 and < 300_000);
        // Who has more than the others is refused.
        using var third = new RawCall(host.Grpc, Unary, busy).Write([.. RawCall.Header(199_000), 1]);
        await third.RefusedAsync(StatusCode.ResourceExhausted, "SERVER_BUSY");
    }

    [Theory]
    [InlineData("tta.v1.AdaptationService/Infer", false)]
    [InlineData("tta.v1.AdaptationService/Infer", true)]
    [InlineData("tta.v1.StreamsService/ImportStream", false)]
    [InlineData("tta.v1.StreamsService/ImportStream", true)]
    [InlineData("tta.v1.AdaptationService/StreamInfer", true)]
    [InlineData("grpc.health.v1.Health/Check", false)]
    [InlineData("grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", true)]
    public async Task Message_LargerThanTheLimit_SaysLimitAndSetting(string method, bool packed)
    {
        await using var host = await TestHost.StartAsync("--Server:MaxMessageBytes=100000");
        using var call = new RawCall(host.Grpc, method, encoding: packed ? "gzip" : null)
            .Write(RawCall.Framed(packed ? Pack(new byte[50_000_000]) : new byte[100_001], packed)).Complete();

        Assert.Contains(
            "100000 bytes (Server:MaxMessageBytes)", (await call.RefusedAsync(StatusCode.ResourceExhausted, "MESSAGE_TOO_LARGE")).Status.Detail, StringComparison.Ordinal);
    }

    [Fact]
    public async Task PackedMessages_AreReadAndHeldToTheSameLimits()
    {
        await using var host = await TestHost.StartAsync();
        var step = new InferRequest { Open = new OpenStream { Stream = "camera" }, Step = new StepRequest { Frames = { TestFrames.Tensor(1) } } };
        using var sound = new RawCall(host.Grpc, Unary, encoding: "gzip").Write(RawCall.Framed(Pack(step.ToByteArray()), packed: true)).Complete();
        Assert.Equal("", (await sound.EndAsync()).Status.Status.Detail);

        var many = new UpdateStreamRequest { Stream = new V1.Stream { Name = "camera" }, UpdateMask = new() { Paths = { Enumerable.Repeat("frozen", 200_000) } } };
        using var chained = new RawCall(host.Grpc, "tta.v1.StreamsService/UpdateStream", encoding: "gzip").Write(RawCall.Framed(Pack(many.ToByteArray()), packed: true)).Complete();
        await chained.RefusedAsync(StatusCode.InvalidArgument, "TOO_MANY_ENTRIES");

        using var torn = new RawCall(host.Grpc, Unary, encoding: "gzip").Write(RawCall.Framed([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12], packed: true)).Complete();
        await torn.RefusedAsync(StatusCode.InvalidArgument, "MESSAGE_UNREADABLE");

        using var neither = new RawCall(host.Grpc, Unary).Write([7, 0, 0, 0, 0]).Complete();
        await neither.RefusedAsync(StatusCode.InvalidArgument, "MESSAGE_UNREADABLE");
    }

    [Fact]
    public async Task Encoding_ThatTheServerDoesNotKnow_IsNotQuotedAtLength()
    {
        await using var host = await TestHost.StartAsync();
        using var call = new RawCall(host.Grpc, Unary, encoding: new string('x', 20_000)).Write(RawCall.Framed([1], packed: true)).Complete();

        var (status, bytes) = await call.EndAsync();

        Assert.Equal(StatusCode.Unimplemented, status.StatusCode);
        // The headers that name what it knows included.
        Assert.InRange(bytes, 10, 1200);
    }

    [Theory]
    [InlineData(Unary)]
    [InlineData(Reflection)]
    [InlineData(Duplex)]
    [InlineData("tta.v1.DriftService/WatchDrift")]
    [InlineData("grpc.health.v1.Health/Check")]
    public async Task Stop_CallWhoseMessageNeverComes_EndsItAtOnce(string method)
    {
        await using var host = await TestHost.StartAsync("--Server:ShutdownTimeout=00:30:00", "--Server:MessageTimeout=00:30:00", "--Streams:FirstMessageTimeout=00:30:00");
        using var one = new HttpClient();
        using var silent = new RawCall(host.Grpc, method, one).Write([]);
        using var begun = new RawCall(host.Grpc, method, one).Write([.. RawCall.Header(1000), 1, 2]);
        await UntilAsync(() => host.Host.Services.GetRequiredService<MessageBudget>().Bytes > 0);
        // Behind both on their connection.
        await new RawCall(host.Grpc, "grpc.health.v1.Health/Check", one).Write(RawCall.Framed([])).Complete().EndAsync();
        var ends = (silent.RefusedAsync(StatusCode.Unavailable, "SERVER_STOPPING"), begun.RefusedAsync(StatusCode.Unavailable, "SERVER_STOPPING"));

        await host.Host.StopAsync().WaitAsync(TimeSpan.FromSeconds(60));

        await Task.WhenAll(ends.Item1, ends.Item2);
    }

    [Fact]
    public async Task Stop_ReflectionCallBetweenTwoQuestions_EndsItAtOnce()
    {
        await using var host = await TestHost.StartAsync("--Server:ShutdownTimeout=00:30:00");
        using var call = new RawCall(host.Grpc, Reflection).Write(new ServerReflectionRequest { ListServices = "" });
        await call.AnsweredAsync();
        var end = call.RefusedAsync(StatusCode.Unavailable, "SERVER_STOPPING");

        await host.Host.StopAsync().WaitAsync(TimeSpan.FromSeconds(60));

        await end;
    }

    [Fact]
    public void Defaults_LetTheLargestFramesThrough()
    {
        var (server, frames) = (new ServerOptions(), new FrameOptions());
        var raw = new StreamInferRequest
        {
            Step = new StepRequest
            {
                Sequence = ulong.MaxValue,
                Frames = { TestFrames.Raw(3840, 2160, 3 * 3840, RawImage.Types.Format.Rgb8, 3 * frames.MaxPixels) }
            }
        };

        Assert.True(raw.CalculateSize() <= server.MaxMessageBytes, $"{raw.CalculateSize()} bytes");
        Assert.True(frames.MaxBytes < server.MaxMessageBytes);
        Assert.True(server.MaxMessageBytes <= server.MaxConnectionMessageBytes && server.MaxConnectionMessageBytes <= server.MaxTotalMessageBytes);
    }

    private static byte[] Pack(byte[] message)
    {
        using var packed = new MemoryStream();
        using (var gzip = new GZipStream(packed, CompressionLevel.Optimal))
        {
            gzip.Write(message);
        }

        return packed.ToArray();
    }

    private static Task UntilNothingIsHeldAsync(TestHost host) => UntilAsync(() => host.Host.Services.GetRequiredService<MessageBudget>().Bytes == 0);

    private static async Task UntilAsync(Func<bool> wanted)
    {
        using var giveUp = new CancellationTokenSource(TimeSpan.FromSeconds(60));
        while (!wanted())
        {
            await Task.Delay(5, giveUp.Token);
        }
    }
}

using Google.Protobuf;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Diagnostics.Metrics.Testing;
using TtaService.Evaluation;
using TtaService.Host.Tests.Infrastructure;
using TtaService.Serving.Telemetry;
using TtaService.V1;
using FramesNotLearned = TtaService.V1.FramesNotLearned;

namespace TtaService.Host.Tests.Frames;

/// <summary>Frames without a picture and damaged ones are answered by the real server, say so, and leave the stream as it was.</summary>
public sealed class UnlearnedFrameTests
{
    private const int Size = 28;
    private const int FramesAStep = 16;
    private const int Many = 400;

    private static readonly LabelledImages Fashion = LabelledImages.Open(Path.Combine(FashionCamera.Models, "fashion-mnist", "sample"), _ => throw new InvalidOperationException());

    [Theory]
    [InlineData("white", "blank", 0)]
    [InlineData("black", "blank", 0)]
    [InlineData("grey", "blank", 0)]
    [InlineData("bars", "test_pattern", 0)]
    [InlineData("saturated", "saturated", 0)]
    [InlineData("frozen", "frozen", 1)]
    [InlineData("slate", "frozen", 1)]
    public async Task Frames_WithoutAPicture_LeaveStateAndAccuracyAsTheyWere(string kind, string reason, int learned)
    {
        await using var host = await TestHost.StartAsync($"--Models:Path={FashionCamera.Models}", "--Drift:ShadowShare=0");
        var meters = host.Host.Services.GetRequiredService<System.Diagnostics.Metrics.IMeterFactory>();
        using var counted = new MetricCollector<long>(meters, TtaMetrics.MeterName, "tta.frame.not_learned");
        await ScoreAsync(host, "camera", 5000, 240);
        await ScoreAsync(host, "twin", 5000, 240);
        var frame = Pictureless(kind);
        var before = TestFrames.State(await host.ExportAsync("camera"));
        var steps = (await host.GetAsync("camera")).Age.Steps;

        var reasons = new List<string>();
        for (var sent = 0; sent < Many; sent += FramesAStep)
        {
            var reply = await StepAsync(host, "camera", [.. Enumerable.Repeat(frame, FramesAStep)]);
            Assert.Equal(FramesAStep, reply.Predictions.Count);
            reasons.AddRange(reply.NotLearned.Select(entry => entry.Reason));
        }

        Assert.Equal(Many - learned, reasons.Count);
        Assert.All(reasons, actual => Assert.Equal(reason, actual));
        Assert.Equal(Many - learned, counted.GetMeasurementSnapshot().Sum(measurement => measurement.Value));
        Assert.All(counted.GetMeasurementSnapshot(), measurement => Assert.Equal(reason, measurement.Tags["tta.not_learned.reason"]));
        if (learned == 0)
        {
            Assert.Equal(before, TestFrames.State(await host.ExportAsync("camera")));
            Assert.Equal(steps, (await host.GetAsync("camera")).Age.Steps);
        }

        var (after, undisturbed) = (await ScoreAsync(host, "camera", 6000, 240), await ScoreAsync(host, "twin", 6000, 240));
        TestContext.Current.TestOutputHelper?.WriteLine($"{kind}: {after:0.000} after, {undisturbed:0.000} of a stream that saw none");
        Assert.InRange(after, undisturbed - 0.02, 1);
    }

    [Theory]
    [InlineData("", "out_of_range")]
    [InlineData("--Learning:Range=100000", null)]
    public async Task Frame_ThatWasNotNormalized_IsLearnedOnlyWhereTheRangeIsWide(string setting, string? reason)
    {
        await using var host = await TestHost.StartAsync([.. new[] { setting }.Where(text => text.Length > 0)]);
        var meters = host.Host.Services.GetRequiredService<System.Diagnostics.Metrics.IMeterFactory>();
        using var counted = new MetricCollector<long>(meters, TtaMetrics.MeterName, "tta.frame.not_learned");
        await host.StepAsync("camera", TestFrames.Tensor(1), method: "ema");
        var before = TestFrames.State(await host.ExportAsync("camera"));

        var reply = await host.StepAsync("camera", TestFrames.Tensor([3, 16, 16], [.. TestFrames.Values(2).Select(value => 255 * value)]));

        Assert.Single(reply.Predictions);
        Assert.Equal(reason, reply.NotLearned.SingleOrDefault()?.Reason);
        Assert.Equal(reason is null ? 0 : 1, counted.GetMeasurementSnapshot().Sum(measurement => measurement.Value));
        var after = TestFrames.State(await host.ExportAsync("camera"));
        Assert.Equal(reason is not null, before.AsSpan().SequenceEqual(after));
    }

    /// <summary>A state that answers whatever it sees with one class is left within 100 frames, and the metric says so; the range is set so wide that it can be ruined at
    /// all.</summary>
    [Theory]
    [InlineData("adaptive")]
    [InlineData("tbr")]
    public async Task Stream_ThatHasCollapsed_GoesBackToTheSourceAndSaysSo(string method)
    {
        await using var host = await TestHost.StartAsync(
            $"--Models:Path={FashionCamera.Models}", "--Drift:ShadowShare=0", "--Learning:Range=1000000", "--Drift:Interval=01:00:00");
        var publisher = host.Host.Services.GetServices<Microsoft.Extensions.Hosting.IHostedService>().OfType<DriftPublisher>().Single();
        using var watched = new DriftService.DriftServiceClient(host.Connect()).WatchDrift(new WatchDriftRequest(), cancellationToken: TestContext.Current.CancellationToken);
        await publisher.SweepAsync();
        Assert.True(await watched.ResponseStream.MoveNext(TestContext.Current.CancellationToken));
        using var counted = new MetricCollector<long>(host.Host.Services.GetRequiredService<System.Diagnostics.Metrics.IMeterFactory>(), TtaMetrics.MeterName, "tta.stream.reset");
        for (var i = 0; i < 3; i++)
        {
            var random = new Random(i);
            await StepAsync(host, "camera", [TestFrames.Tensor([1, Size, Size], [.. Enumerable.Range(0, Size * Size).Select(_ => 2e5f * (random.NextSingle() - 0.5f))])], method);
        }

        var (frames, rolledBack) = (new List<long>(), new List<bool>());
        for (var index = 5000; index < 5128; index += FramesAStep)
        {
            var reply = await StepAsync(host, "camera", [.. Enumerable.Range(index, FramesAStep).Select(Picture)], method);
            frames.Add(reply.Age.Frames);
            rolledBack.Add(reply.RolledBack);
        }

        var reset = Assert.Single(counted.GetMeasurementSnapshot());
        Assert.Equal("guard", reset.Tags["tta.reset.reason"]);
        Assert.Equal("camera", reset.Tags["tta.stream.id"]);
        Assert.InRange(frames.IndexOf(0), 0, (100 / FramesAStep) + 1);
        Assert.Equal(frames.IndexOf(0), rolledBack.IndexOf(true));
        Assert.Single(rolledBack, true);
        await publisher.SweepAsync();
        do
        {
            Assert.True(await watched.ResponseStream.MoveNext(TestContext.Current.CancellationToken));
        }
        while (watched.ResponseStream.Current.RolledBack is null);

        var told = watched.ResponseStream.Current.RolledBack;
        Assert.Equal(("camera", method, 3 + frames.IndexOf(0) + 1), (told.Stream, told.Method, told.Step));
        using var page = System.Text.Json.JsonDocument.Parse(
            await new HttpClient().GetStringAsync(new Uri(host.Http, "api/v1/streams/camera"), TestContext.Current.CancellationToken));
        Assert.Contains(page.RootElement.GetProperty("events").EnumerateArray(), item => item.GetProperty("rolledBack").GetBoolean());
        Assert.InRange(await ScoreAsync(host, "camera", 6000, 240, method), 0.85, 1);
    }

    [Fact]
    public async Task Step_OfPicturesAndWhiteFrames_LearnsThePicturesOnly()
    {
        await using var host = await TestHost.StartAsync($"--Models:Path={FashionCamera.Models}");
        Frame[] pictures = [Picture(1), Picture(2), Picture(3)];

        var mixed = await StepAsync(host, "mixed", [pictures[0], Pictureless("white"), pictures[1], pictures[1], pictures[2]]);
        await StepAsync(host, "plain", pictures);

        Assert.Equal([(1, "blank"), (3, "frozen")], mixed.NotLearned.Select(entry => (entry.Frame, entry.Reason)));
        Assert.Equal(3, mixed.Age.Frames);
        TestFrames.AssertClose(TestFrames.State(await host.ExportAsync("plain")), TestFrames.State(await host.ExportAsync("mixed")));
    }

    [Fact]
    public async Task Frame_AfterAReset_IsLearnedThoughItRepeatsTheOneBefore()
    {
        await using var host = await TestHost.StartAsync();
        Assert.Empty((await host.StepAsync("camera", TestFrames.Tensor(1))).NotLearned);
        Assert.Equal("frozen", Assert.Single((await host.StepAsync("camera", TestFrames.Tensor(1))).NotLearned).Reason);

        await host.Streams.ResetStreamAsync(new ResetStreamRequest { Name = "camera" });

        Assert.Empty((await host.StepAsync("camera", TestFrames.Tensor(1))).NotLearned);
    }

    [Fact]
    public async Task Frame_NotLearned_SaysSoAgainWhenItsStepIsReplayed()
    {
        await using var host = await TestHost.StartAsync();
        await host.StepAsync("camera", TestFrames.Tensor(1), sequence: 1);
        await host.StepAsync("camera", TestFrames.Tensor(1), sequence: 2);

        var replayed = await host.StepAsync("camera", TestFrames.Tensor(1), sequence: 2);

        Assert.True(replayed.Replayed);
        Assert.Equal("frozen", Assert.Single(replayed.NotLearned).Reason);
    }

    [Fact]
    public async Task DamagedJpeg_UnderAnswer_IsAnsweredAndNotLearned()
    {
        await using var host = await TestHost.StartAsync("--Frames:Damaged=answer");
        await host.StepAsync("camera", TestFrames.Tensor(1));
        var before = TestFrames.State(await host.ExportAsync("camera"));
        var jpeg = TestFrames.File(4, SkiaSharp.SKEncodedImageFormat.Jpeg, 64, 64);

        var reply = await host.StepAsync("camera", TestFrames.Encoded([.. jpeg[..(jpeg.Length * 2 / 3)], 0xFF, 0xD9]));

        Assert.Equal("damaged", Assert.Single(reply.NotLearned).Reason);
        Assert.Equal(before, TestFrames.State(await host.ExportAsync("camera")));
    }

    [Fact]
    public async Task Sweep_AfterFramesThatWereNotLearned_TellsWatchersOnce()
    {
        await using var host = await TestHost.StartAsync("--Drift:Interval=01:00:00");
        var publisher = host.Host.Services.GetServices<Microsoft.Extensions.Hosting.IHostedService>().OfType<DriftPublisher>().Single();
        using var call = new DriftService.DriftServiceClient(host.Connect()).WatchDrift(new WatchDriftRequest(), cancellationToken: TestContext.Current.CancellationToken);
        var updates = call.ResponseStream;
        await host.StepAsync("camera", TestFrames.Tensor(1));
        await publisher.SweepAsync();
        // The summary: the call is watching.
        Assert.True(await updates.MoveNext(TestContext.Current.CancellationToken));
        for (var sweep = 0; sweep < 3; sweep++)
        {
            await host.StepAsync("camera", TestFrames.Tensor(1));
            await host.StepAsync("camera", TestFrames.Tensor(1));
            await publisher.SweepAsync();
        }

        var told = new List<FramesNotLearned>();
        for (var summaries = 0; summaries < 3;)
        {
            Assert.True(await updates.MoveNext(TestContext.Current.CancellationToken));
            summaries += updates.Current.Summary is null ? 0 : 1;
            told.AddRange(updates.Current.NotLearned is { } began ? [began] : []);
        }

        Assert.Equal(("camera", "tiny", "frozen", 2), (Assert.Single(told).Stream, told[0].Model, told[0].Reason, told[0].Frames));
        using var page = System.Text.Json.JsonDocument.Parse(
            await new HttpClient().GetStringAsync(new Uri(host.Http, "api/v1/streams/camera"), TestContext.Current.CancellationToken));
        Assert.Equal(["frozen"], page.RootElement.GetProperty("events").EnumerateArray().Select(item => item.GetProperty("notLearned").GetString()).OfType<string>());
    }

    private static async Task<double> ScoreAsync(TestHost host, string stream, int first, int count, string method = "adaptive")
    {
        var right = 0;
        for (var index = first; index < first + count; index += FramesAStep)
        {
            var reply = await StepAsync(host, stream, [.. Enumerable.Range(index, FramesAStep).Select(Picture)], method);
            right += reply.Predictions.Select((prediction, i) => prediction.Top[0].Index == Fashion.Labels[index + i] ? 1 : 0).Sum();
        }

        return (double)right / count;
    }

    private static async Task<StepReply> StepAsync(TestHost host, string stream, Frame[] frames, string method = "adaptive")
    {
        var request = new InferRequest { Open = new OpenStream { Stream = stream, Method = new Method { Name = method } }, Step = new StepRequest() };
        request.Step.Frames.AddRange(frames);
        return (await host.Adaptation.InferAsync(request)).Step;
    }

    private static Frame Picture(int index) => Raw(Fashion.Read(index).Pixels);

    private static Frame Pictureless(string kind) => Raw([.. Enumerable.Range(0, Size * Size).Select(at => (byte)(kind switch
    {
        "white" => 255,
        "black" => 0,
        "grey" => 128,
        "bars" => at % Size / 4 * 40,
        "saturated" => at < 12 ? 100 : 255,
        "slate" => at / Size is > 10 and < 18 && at % 3 == 0 && at % Size is > 4 and < 24 ? 230 : 30,
        _ => Fashion.Read(7).Pixels[at],
    }))]);

    private static Frame Raw(byte[] pixels) =>
        new() { Raw = new RawImage { Width = Size, Height = Size, Format = RawImage.Types.Format.Gray8, Data = ByteString.CopyFrom(pixels) } };
}

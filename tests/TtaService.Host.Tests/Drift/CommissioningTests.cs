using Grpc.Core;
using TtaService.Engine.Calibration;
using TtaService.Host.Commands;
using TtaService.Host.Tests.Commands;
using TtaService.Host.Tests.Infrastructure;
using TtaService.V1;

namespace TtaService.Host.Tests.Drift;

/// <summary>A calibration from the frames of a stream that is served, for the model whose BatchNormalization was folded away.</summary>
public sealed class CommissioningTests : IDisposable
{
    private const string Camera = "camera-1";

    private readonly string _models = Directory.CreateTempSubdirectory("tta-commissioning-").FullName;
    private readonly string _calibration;

    public CommissioningTests()
    {
        var folder = Directory.CreateDirectory(Path.Combine(_models, "plain")).FullName;
        File.Copy(Path.Combine(AppContext.BaseDirectory, "Data", "two-models", "plain", "model.onnx"), Path.Combine(folder, "model.onnx"));
        // No default method: that of a calibrated model is auto.
        File.WriteAllText(Path.Combine(folder, "model.json"), """{ "labels": ["ant", "bee", "cat", "dog", "eel"] }""");
        _calibration = Path.Combine(folder, ModelCalibration.FileName);
    }

    [Fact]
    public async Task Calibrate_StreamOfAFoldedModel_MakesItAdaptWhenItIsLoadedNext()
    {
        await using (var host = await StartAsync())
        {
            var opened = await StepAsync(host, 0, new Method { Name = "source" });
            Assert.Contains(opened.Opened.Warnings, warning => warning.Contains("places where BatchNorm was folded can adapt: run `tta calibrate", StringComparison.Ordinal));
            using var stop = new CancellationTokenSource();
            var camera = FeedAsync(host, stop.Token);

            var run = await TtaRun.Of("calibrate", "--address", host.Grpc.AbsoluteUri, "--stream", Camera, "--frames", "80", "--every", "2");

            await stop.CancelAsync();
            await camera;
            Assert.Equal((0, string.Empty), (run.ExitCode, run.Error));
            Assert.Contains(run.Lines, line => line.StartsWith("80 frames of 'camera-1', 3 sites", StringComparison.Ordinal));
            Assert.Contains(run.Lines, line => line.Contains("takes effect when the model is loaded next", StringComparison.Ordinal));
        }

        var read = ModelCalibration.Read(_calibration);
        Assert.Equal((80, 5, 3), (read.Frames, read.Classes, read.Sites.Count));
        Assert.Equal([ModelCalibration.FileName, "model.json", "model.onnx"],
            Directory.GetFiles(Path.GetDirectoryName(_calibration)!).Select(Path.GetFileName).Order(StringComparer.Ordinal));
        await using var next = await StartAsync();
        var model = await next.Models.GetModelAsync(new GetModelRequest { Name = "plain" });
        Assert.Equal(["virtual", "virtual", "virtual"], model.Sites.Select(site => site.Kind));
        Assert.Equal("auto", model.DefaultMethod.Name);
        Assert.All(model.Methods, method => Assert.True(method.Available, method.UnavailableReason));
        Assert.Empty((await StepAsync(next, 1, new Method { Name = "ema" })).Opened.Warnings);
    }

    [Fact]
    public async Task Commission_CancelledOrRefused_LeavesTheOldFile()
    {
        byte[] old = [1, 2, 3];
        await using var host = await StartAsync();
        await File.WriteAllBytesAsync(_calibration, old, TestContext.Current.CancellationToken);
        await StepAsync(host, 0, new Method { Name = "source" });
        using var channel = host.Connect();
        var client = new CalibrationService.CalibrationServiceClient(channel);
        using (var call = client.CommissionStream(new CommissionStreamRequest { Stream = Camera }, cancellationToken: TestContext.Current.CancellationToken))
        {
            Assert.True(await call.ResponseStream.MoveNext(TestContext.Current.CancellationToken));
            Assert.Equal((0, 512), (call.ResponseStream.Current.Frames, call.ResponseStream.Current.Wanted));
            var second = await Assert.ThrowsAsync<RpcException>(() => LastAsync(client, new CommissionStreamRequest { Stream = Camera }));
            Assert.Equal(StatusCode.FailedPrecondition, second.StatusCode);
            Assert.Contains("is being commissioned on stream 'camera-1'", second.Status.Detail, StringComparison.Ordinal);
        }

        // The place is free again once the server has seen the end of the call.
        for (var tries = 0; ; tries++)
        {
            using var call = client.CommissionStream(new CommissionStreamRequest { Stream = Camera, Frames = 64 }, cancellationToken: TestContext.Current.CancellationToken);
            try
            {
                Assert.True(await call.ResponseStream.MoveNext(TestContext.Current.CancellationToken));
                break;
            }
            catch (RpcException busy) when (busy.StatusCode == StatusCode.FailedPrecondition && tries < 600)
            {
                await Task.Delay(100, TestContext.Current.CancellationToken);
            }
        }

        Assert.Equal(old, await File.ReadAllBytesAsync(_calibration, TestContext.Current.CancellationToken));
    }

    [Theory]
    [InlineData("nobody", 64, 1, StatusCode.NotFound, "stream 'nobody' does not exist")]
    [InlineData(Camera, 63, 1, StatusCode.InvalidArgument, "frames is 64 to")]
    [InlineData(Camera, 64, -1, StatusCode.InvalidArgument, "every is 1 to")]
    [InlineData("a b", 64, 1, StatusCode.InvalidArgument, "a stream's name has")]
    public async Task Commission_WrongRequest_SaysWhatThereIs(string stream, int frames, int every, StatusCode status, string said)
    {
        await using var host = await StartAsync();
        await StepAsync(host, 0, new Method { Name = "source" });
        using var channel = host.Connect();

        var refused = await Assert.ThrowsAsync<RpcException>(
            () => LastAsync(new CalibrationService.CalibrationServiceClient(channel), new CommissionStreamRequest { Stream = stream, Frames = frames, Every = every }));

        Assert.Equal(status, refused.StatusCode);
        Assert.Contains(said, refused.Status.Detail, StringComparison.Ordinal);
        Assert.False(File.Exists(_calibration));
    }

    [Fact]
    public async Task Calibrate_NeitherModelNorStreamOrBoth_SaysWhatToName()
    {
        (await TtaRun.Of("calibrate")).AssertRefused(CommandException.Usage, "--model", "--stream");
        (await TtaRun.Of("calibrate", "--model", "plain", "--stream", Camera)).AssertRefused(CommandException.Usage, "exclude each other");
    }

    public void Dispose() => Directory.Delete(_models, recursive: true);

    private Task<TestHost> StartAsync() => TestHost.StartAsync($"--Models:Path={_models}");

    private static async Task<InferReply> StepAsync(TestHost host, int number, Method? method = null) => await host.Adaptation.InferAsync(new InferRequest
    {
        Open = new OpenStream { Stream = Camera, Model = "plain", Method = method },
        Step = new StepRequest { Frames = { TestFrames.Tensor(number) } },
    });

    private static async Task FeedAsync(TestHost host, CancellationToken stop)
    {
        for (var number = 1; !stop.IsCancellationRequested; number++)
        {
            await StepAsync(host, number);
        }
    }

    private static async Task<CommissionStreamUpdate> LastAsync(CalibrationService.CalibrationServiceClient client, CommissionStreamRequest request)
    {
        using var call = client.CommissionStream(request, cancellationToken: TestContext.Current.CancellationToken);
        var last = new CommissionStreamUpdate();
        await foreach (var update in call.ResponseStream.ReadAllAsync(TestContext.Current.CancellationToken))
        {
            last = update;
        }

        return last;
    }
}

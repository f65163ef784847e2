using Microsoft.Extensions.DependencyInjection;
using TorchSharp;
using TtaService.Host.Tests.Commands;
using TtaService.Host.Tests.Infrastructure;
using TtaService.Serving.Streams;
using TtaService.Serving.Telemetry;

namespace TtaService.Host.Tests.Deployment;

public sealed class DeviceTests
{
    [Fact]
    public async Task Cuda_WithoutIt_EndsTheStartWithWhatToDo()
    {
        Assert.SkipWhen(torch.cuda.is_available(), "this machine and this libtorch have CUDA");

        var run = await TtaRun.Of("serve", "--grpc-port", "0", "--http-port", "0", "--set", "Models:Device=cuda:0", "--set", "Store:Kind=memory");

        run.AssertRefused(1, "cuda:0", "-p:Torch=cuda", "device cpu");
    }

    [Fact]
    public async Task Cuda_DeviceThatIsNotThere_IsRefused()
    {
        var run = await TtaRun.Of("serve", "--grpc-port", "0", "--http-port", "0", "--set", "Models:Device=cuda:99", "--set", "Store:Kind=memory");

        run.AssertRefused(1, "cuda:99");
    }

    // Two engines on the processor are to a stream what two GPUs are.
    [Fact]
    public async Task Devices_Several_ShareTheStreamsAndCountAsOneModel()
    {
        const int Streams = 8;
        await using var two = await TestHost.StartAsync("--Models:Device=cpu, cpu", "--Drift:Interval=01:00:00");
        await using var one = await TestHost.StartAsync();
        for (var step = 0; step < 3; step++)
        {
            await Task.WhenAll(Enumerable.Range(0, Streams).Select(async i =>
            {
                var frame = TestFrames.Tensor((10 * i) + step);
                TestFrames.AssertClose(TestFrames.Scores(await one.StepAsync($"camera-{i}", frame)), TestFrames.Scores(await two.StepAsync($"camera-{i}", frame)));
            }));
        }

        var engines = two.Host.Services.GetRequiredService<ModelCatalog>().Engines;
        Assert.Equal(2, engines.Count);
        Assert.All(engines, engine => Assert.InRange(engine.Engine.Model.ResidentStreams, 2, Streams - 2));
        Assert.Single((await two.Models.ListModelsAsync(new V1.ListModelsRequest())).Models);
        await two.Host.Services.GetRequiredService<DriftPublisher>().SweepAsync();
        Assert.Equal(Streams, two.Host.Services.GetRequiredService<DriftBoard>().Latest[TestHost.Model].Streams.Count);
        Assert.Equal(Streams, (await Scrape.OfAsync(two.Http)).Sum("tta_stream_resident"));

        foreach (var name in Enumerable.Range(0, Streams).Select(i => $"camera-{i}"))
        {
            await two.Streams.DeleteStreamAsync(new V1.DeleteStreamRequest { Name = name });
        }

        Assert.All(engines, engine => Assert.Equal(0, engine.Engine.Model.ResidentStreams));
    }

    [Fact]
    public async Task Device_Unknown_IsRefusedByItsKey()
    {
        var run = await TtaRun.Of("serve", "--set", "Models:Device=tpu");

        run.AssertRefused(2, "Models:Device is 'tpu'");
    }
}

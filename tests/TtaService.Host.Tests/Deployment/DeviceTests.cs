using TorchSharp;
using TtaService.Host.Tests.Commands;

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

    [Fact]
    public async Task Device_Unknown_IsRefusedByItsKey()
    {
        var run = await TtaRun.Of("serve", "--set", "Models:Device=tpu");

        run.AssertRefused(2, "Models:Device is 'tpu'");
    }
}

using TorchSharp;
using TtaService.Engine.Normalization;
using static TorchSharp.torch;

namespace TtaService.Engine.Execution;

/// <summary>A site's parameters on a device, [C] each, float32.</summary>
internal sealed class SiteParameters(NormalizationSite site, Device device) : IDisposable
{
    public Tensor Weight { get; } = Place(site.Weight, device);

    public Tensor Bias { get; } = Place(site.Bias, device);

    public Tensor Mean { get; } = Place(site.Mean, device);

    public Tensor Variance { get; } = Place(site.Variance, device);

    public void Dispose()
    {
        Weight.Dispose();
        Bias.Dispose();
        Mean.Dispose();
        Variance.Dispose();
    }

    private static Tensor Place(float[] values, Device device) => tensor(values, device: device).DetachFromDisposeScope();
}

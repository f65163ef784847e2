using TorchSharp;
using TtaService.Engine.Tensors;
using static TorchSharp.torch;

namespace TtaService.Engine.Normalization;

/// <summary>A <see cref="SiteRange"/> on a device, in torch operators.</summary>
internal sealed class SiteRangeTensors(SiteRange range, Device device) : IDisposable
{
    private readonly Tensor _center = Place(range.Site.Mean, device);
    private readonly Tensor _inverse = Place(range.Inverse, device);
    private readonly Tensor _low = Place(range.Low, device);
    private readonly Tensor _high = Place(range.High, device);
    private readonly Tensor _most = Place(range.Most, device);

    /// <summary>The range.</summary>
    public SiteRange Range => range;

    /// <summary><see cref="SiteRange.Energy"/> of each frame, [S,n], of statistics [S,n,C].</summary>
    public Tensor Energy(Tensor mean, Tensor variance) => (variance.Plus((mean - _center).Squared()) * _inverse).mean([2L]);

    /// <summary><see cref="SiteRange.Clip"/> of statistics [S,n,C].</summary>
    public (Tensor Mean, Tensor Variance) Clip(Tensor mean, Tensor variance) =>
        (where(mean.isnan(), _center, mean.maximum(_low).minimum(_high)), where(variance.le(_most), variance, _most));

    /// <summary><see cref="SiteRange.Misfit"/> of each step, summed over its frames, [S]; the statistics broadcast to [S,n,C].</summary>
    public Tensor Misfit(Tensor instanceMean, Tensor instanceVariance, Tensor mean, Tensor variance)
    {
        var (own, used) = (instanceVariance.Plus(range.LeastVariance), variance.Plus(range.LeastVariance));
        return (own.Plus((instanceMean - mean).Squared()) / used).Minus(1).Plus((used / own).log()).mean([2L]).sum([1L]);
    }

    public void Dispose()
    {
        _center.Dispose();
        _inverse.Dispose();
        _low.Dispose();
        _high.Dispose();
        _most.Dispose();
    }

    private static Tensor Place(float[] values, Device device) => tensor(values, device: device).DetachFromDisposeScope();
}

using TorchSharp;
using TtaService.Engine.Normalization;
using TtaService.Engine.Tensors;
using static TorchSharp.torch;
using Tensor = TorchSharp.torch.Tensor;

namespace TtaService.Engine.Drift;

/// <summary>The moving average of <see cref="ObservedStatistics"/> in torch operators, for S steps of n frames at once.</summary>
/// <remarks>The weights of a step's frames follow from its frame count alone, so that the recursion over frames is a product with a triangular matrix:
/// row t of it, [n+1], weighs the old average and the first t frames. Sums of squares are taken around the old mean (the first frame's, where there is none), so that
/// they do not cancel.</remarks>
internal sealed class GroupObservation
{
    private readonly ObservedStatistics _observed;
    private readonly int _frames;
    private readonly Tensor _state;
    private readonly Tensor _next;
    private readonly Tensor _weights;
    private readonly Tensor _spread;
    private readonly Tensor _fresh;
    private readonly Tensor _hasPast;

    /// <param name="observed">The layout and the window.</param>
    /// <param name="framesBefore">Frames observed before each step.</param>
    /// <param name="frames">Frames n of each step.</param>
    /// <param name="state">The steps' rows, [S,floats].</param>
    /// <param name="next">The proposed rows, [S,floats], copies of those.</param>
    public GroupObservation(ObservedStatistics observed, IReadOnlyList<long> framesBefore, int frames, Tensor state, Tensor next)
    {
        (_observed, _frames, _state, _next) = (observed, frames, state, next);
        var steps = framesBefore.Count;
        var weights = new float[steps, frames + 1, frames + 1];
        var spread = new float[steps, 1, frames];
        var fresh = new float[steps, 1, 1];
        var hasPast = new float[steps, frames];
        for (var s = 0; s < steps; s++)
        {
            weights[s, 0, 0] = 1;
            fresh[s, 0, 0] = framesBefore[s] == 0 ? 1 : 0;
            for (var t = 1; t <= frames; t++)
            {
                var weight = 1f / Math.Min(framesBefore[s] + t, observed.Options.Tau);
                for (var i = 0; i < t; i++)
                {
                    weights[s, t, i] = (1 - weight) * weights[s, t - 1, i];
                    spread[s, 0, i] *= i < t - 1 ? 1 - weight : 0;
                }

                weights[s, t, t] = weight;
                spread[s, 0, t - 1] = weight * (1 - weight);
                hasPast[s, t - 1] = framesBefore[s] + t > 1 ? 1 : 0;
            }
        }

        _weights = tensor(weights, device: state.device);
        _spread = tensor(spread, device: state.device);
        _fresh = tensor(fresh, device: state.device);
        _hasPast = tensor(hasPast, device: state.device);
        Novelty = zeros_like(_hasPast);
    }

    /// <summary>How far each frame is from what was observed before it, [S,n]; see <see cref="ObservedStatistics.Observe"/>.</summary>
    public Tensor Novelty { get; }

    /// <summary>Folds the steps' frames in at a site; m and v are [S,n,C].</summary>
    public void At(NormalizationSite site, Tensor m, Tensor v)
    {
        var channels = site.Channels;
        var (offset, _) = _observed.Layout.At(site);
        var (oldMean, oldVariance) = (View(_state, offset, channels), View(_state, offset + channels, channels));
        var origin = oldMean.Plus(_fresh * (m.narrow(1, 0, 1) - oldMean));
        var distances = cat([oldMean, m], 1) - origin;
        var means = _weights.bmm(distances);
        var variances = (_weights.bmm(cat([oldVariance, v], 1).Plus(distances.Squared())) - means.Squared()).AtLeastInPlace(0);
        View(_next, offset, channels).copy_(origin.Plus(means.narrow(1, _frames, 1)));
        View(_next, offset + channels, channels).copy_(variances.narrow(1, _frames, 1));
        if (!_observed.ShowsNovelty(site) && !_observed.ShowsSpread(site))
        {
            return;
        }

        var steps = (distances.narrow(1, 1, _frames) - means.narrow(1, 0, _frames)).Squared();
        if (_observed.ShowsNovelty(site))
        {
            Novelty.AddProductInPlace((steps / variances.narrow(1, 0, _frames).Plus(site.Epsilon)).mean([2L]), _hasPast, _observed.NoveltyShare);
        }

        if (_observed.ShowsSpread(site))
        {
            var kept = _weights.narrow(1, _frames, 1).narrow(2, 0, 1);
            View(_next, offset + (2 * channels), channels).copy_((kept * View(_state, offset + (2 * channels), channels)).Plus(_spread.bmm(steps)));
        }
    }

    private static Tensor View(Tensor rows, int offset, int channels) => rows.narrow(1, offset, channels).unsqueeze(1);
}

using TorchSharp;
using TtaService.Engine.Drift;
using TtaService.Engine.Normalization;
using TtaService.Engine.Normalization.Affine;
using TtaService.Engine.Streams;
using TtaService.Engine.Tensors;
using static TorchSharp.torch;
using Tensor = TorchSharp.torch.Tensor;

namespace TtaService.Engine.Execution;

/// <summary>Neighbouring steps of a batch with one method and as many frames each, which a site therefore handles together.</summary>
internal sealed class StepGroup
{
    private bool _isJudged;

    public required MethodRuntime Runtime { get; init; }

    public required int FirstFrame { get; init; }

    /// <summary>Steps S.</summary>
    public required int Steps { get; init; }

    /// <summary>Frames n of each step.</summary>
    public required int Frames { get; init; }

    /// <summary>The steps' rows, [S,floats].</summary>
    public required Tensor State { get; init; }

    /// <summary>The proposed rows, [S,floats].</summary>
    public required Tensor Next { get; init; }

    /// <summary>[S,figures].</summary>
    public required Tensor Figures { get; init; }

    /// <summary>What an <see cref="IPassMethod"/> wrote before the pass, [S,floats]; null for other methods.</summary>
    public Tensor? Begun { get; init; }

    /// <summary>What an <see cref="IPassMethod"/> keeps during the pass, [S,floats]; null for other methods.</summary>
    public Tensor? Kept { get; init; }

    /// <summary>The streams' own scales and biases; null for a method that has none.</summary>
    public AffineRows? Affine { get; init; }

    /// <summary>One a step: why its method failed; null while it did not. Of the engine's own methods nothing is told.</summary>
    public string?[] Faults => field ??= new string?[Steps];

    /// <summary>Null when the steps are not observed.</summary>
    public required GroupObservation? Observation { get; init; }

    /// <summary>Of the steps' frames, [S,n], 1 for those that lie outside (<see cref="FrameVerdicts"/>); null when nobody asks.</summary>
    public Tensor? Outside { get; init; }

    /// <summary>How badly what normalized the steps describes them, [S]; null when nobody asks.</summary>
    public Tensor? Misfit { get; init; }

    /// <summary>Whether the steps' instance statistics are read at a site.</summary>
    public bool NeedsStatistics(NormalizationSite site) => Observation is not null || Runtime.Adapts(site);

    /// <summary>Whether torch's batch normalization over each step is all that its frames are given at a site, and gradients of it are wanted.</summary>
    public bool TrainsOnItsSteps(NormalizationSite site, int pixels) =>
        Affine is { Trains: true } && Affine.At(site) is not null && ((IAffineMethod)Runtime.Method).UsesStepStatistics && (long)Frames * pixels > 1;

    /// <summary>Normalizes the group's frames with the statistics of each step and its stream's scale and bias, [S] tensors of x's other extents.</summary>
    public IEnumerable<Tensor> NormalizeWithSteps(NormalizationSite site, Tensor x)
    {
        var (scale, bias) = Affine!.At(site)!.Value;
        for (var i = 0; i < Steps; i++)
        {
            var own = x.narrow(0, FirstFrame + ((long)i * Frames), Frames);
            yield return nn.functional.batch_norm(own, null!, null!, scale[i, 0], bias[i, 0], training: true, eps: site.Epsilon);
        }
    }

    /// <summary>Judges and observes the group's frames at a site, without gradients; what is kept of them is within the range.</summary>
    /// <param name="site">The site.</param>
    /// <param name="mean">Instance means of the group's frames, [S,n,C].</param>
    /// <param name="variance">Their variances.</param>
    /// <param name="range">What may be learned at the site; null when everything may.</param>
    /// <returns>The statistics as they may be kept.</returns>
    public (Tensor Mean, Tensor Variance) Watch(NormalizationSite site, Tensor mean, Tensor variance, SiteRangeTensors? range)
    {
        if (range is not null && Outside is not null && !_isJudged)
        {
            _isJudged = true;
            Outside.AddInPlace(range.Energy(mean, variance).IsAtMost(range.Range.EnergyLimit).logical_not().to_type(ScalarType.Float32));
        }

        var kept = range is null ? (mean, variance) : range.Clip(mean, variance);
        Observation?.At(site, kept.Item1, kept.Item2);
        return kept;
    }

    /// <summary>The group's part of statistics of the whole batch, [B,C]: [S,n,C].</summary>
    public Tensor Own(Tensor whole) => whole.narrow(0, FirstFrame, (long)Steps * Frames).view(Steps, Frames, whole.shape[1]);

    /// <summary>What normalizes the group's frames at a site.</summary>
    /// <param name="site">The site.</param>
    /// <param name="parameters">Its parameters on the device.</param>
    /// <param name="statistics">Instance means and variances of the whole batch, [B,C]; null when no step of it reads them.</param>
    /// <param name="pixels">Values per channel and frame.</param>
    /// <param name="spatial">False for a site over [B,C].</param>
    /// <param name="range">What may be learned at the site; null when everything may.</param>
    public GroupNormalizer Normalize(
        NormalizationSite site, SiteParameters parameters, (Tensor Mean, Tensor Variance)? statistics, int pixels, bool spatial, SiteRangeTensors? range = null)
    {
        var (mean, variance) = (parameters.Mean, parameters.Variance);
        if (statistics is { } batch && NeedsStatistics(site))
        {
            var (m, v) = (Own(batch.Mean), Own(batch.Variance));
            // Gradients go through what normalizes, not through what is watched.
            var (seenMean, seenVariance) = Affine is null ? (m, v) : (m.detach(), v.detach());
            var adapts = Runtime.Adapts(site);
            var (offset, floats) = Runtime.Layout.At(site);
            // As on the host: a method without state may use a frame as it is. So may one whose state is none of the frames' statistics.
            var kept = Watch(site, seenMean, seenVariance, range);
            if (adapts && floats > 0 && Affine is null)
            {
                (m, v) = kept;
            }

            if (adapts)
            {
                var shown = new SiteTensors
                {
                    Site = site,
                    SourceMean = parameters.Mean,
                    Origin = parameters.Origin,
                    SourceVariance = parameters.Variance,
                    Frames = Frames,
                    Pixels = pixels,
                    Spatial = spatial,
                    InstanceMean = m,
                    InstanceVariance = v,
                    State = State.narrow(1, offset, floats),
                    NextState = Next.narrow(1, offset, floats),
                    Figures = Figures,
                    Begun = Begun,
                    Kept = Kept,
                };
                (mean, variance) = TorchForm.Forward(Runtime, shown, Faults);
            }

            if (range is not null && adapts && Misfit is { } misfit)
            {
                misfit.AddInPlace(range.Misfit(m, v, mean, variance).detach());
            }
        }

        var affine = Affine?.At(site);
        return new GroupNormalizer(PerFrame(mean), PerFrame(variance), affine is null ? null : PerFrame(affine.Value.Scale), affine is null ? null : PerFrame(affine.Value.Bias));

        Tensor PerFrame(Tensor statistic) => statistic.expand(Steps, Frames, site.Channels).reshape((long)Steps * Frames, site.Channels);
    }
}

/// <summary>What normalizes the frames of a group at a site, [S*n,C] each.</summary>
/// <param name="Mean">Taken off.</param>
/// <param name="Variance">Divided by the root of, with the site's epsilon.</param>
/// <param name="Scale">Multiplied by; null for the site's own.</param>
/// <param name="Bias">Added; null for the site's own.</param>
internal readonly record struct GroupNormalizer(Tensor Mean, Tensor Variance, Tensor? Scale, Tensor? Bias);

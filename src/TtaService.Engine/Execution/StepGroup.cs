using TorchSharp;
using TtaService.Engine.Drift;
using TtaService.Engine.Normalization;
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

    /// <summary>What normalizes the group's frames at a site, [S*n,C] each.</summary>
    /// <param name="site">The site.</param>
    /// <param name="parameters">Its parameters on the device.</param>
    /// <param name="statistics">Instance means and variances of the whole batch, [B,C]; null when no step of it reads them.</param>
    /// <param name="pixels">Values per channel and frame.</param>
    /// <param name="spatial">False for a site over [B,C].</param>
    /// <param name="range">What may be learned at the site; null when everything may.</param>
    public (Tensor Mean, Tensor Variance) Normalize(NormalizationSite site, SiteParameters parameters, (Tensor Mean, Tensor Variance)? statistics, int pixels, bool spatial, SiteRangeTensors? range = null)
    {
        var (mean, variance) = (parameters.Mean, parameters.Variance);
        if (statistics is { } batch && NeedsStatistics(site))
        {
            var (m, v) = (Own(batch.Mean), Own(batch.Variance));
            var adapts = Runtime.Adapts(site);
            var (offset, floats) = Runtime.Layout.At(site);
            if (range is not null && Outside is not null && !_isJudged)
            {
                _isJudged = true;
                Outside.AddInPlace(range.Energy(m, v).IsAtMost(range.Range.EnergyLimit).logical_not().to_type(ScalarType.Float32));
            }

            // As on the host: a method without state may use a frame as it is.
            var clipped = range is null ? (m, v) : range.Clip(m, v);
            if (adapts && floats > 0)
            {
                (m, v) = clipped;
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
                misfit.AddInPlace(range.Misfit(m, v, mean, variance));
            }

            Observation?.At(site, clipped.Item1, clipped.Item2);
        }

        return (PerFrame(mean), PerFrame(variance));

        Tensor Own(Tensor whole) => whole.narrow(0, FirstFrame, (long)Steps * Frames).view(Steps, Frames, site.Channels);

        Tensor PerFrame(Tensor statistic) => statistic.expand(Steps, Frames, site.Channels).reshape((long)Steps * Frames, site.Channels);
    }
}

using TorchSharp;
using TtaService.Engine.Normalization;
using TtaService.Engine.Streams;
using static TorchSharp.torch;

namespace TtaService.Engine.Execution;

/// <summary>Like steps on the host whose method has no form over spans: its torch form decides for all of them at once, and its answer is brought to where
/// the kernels read it.</summary>
internal sealed class TensorSteps
{
    private readonly MethodRuntime _runtime;
    private readonly StepInPass[] _steps;
    private readonly float[] _figures;

    private TensorSteps(MethodRuntime runtime, StepInPass[] steps)
    {
        (_runtime, _steps) = (runtime, steps);
        var faults = new string?[steps.Length];
        _figures = StepFigures.Of(runtime, steps[0].FrameCount, Array.ConvertAll(steps, step => step.FramesBefore), faults);
        TakeFaults(faults);
    }

    /// <summary>Those of the steps whose method has its torch form alone, by method and frames; null for none.</summary>
    public static TensorSteps[]? Of(IReadOnlyList<StepInPass> steps)
    {
        var any = false;
        for (var i = 0; i < steps.Count && !any; i++)
        {
            any = HasTorchFormAlone(steps[i]);
        }

        return !any ? null : [.. steps.Where(HasTorchFormAlone)
            .GroupBy(step => (step.Runtime, step.FrameCount))
            .Select(group => new TensorSteps(group.Key.Runtime, [.. group]))];
    }

    /// <summary>Whether a step's method decides at a site, and has its torch form alone.</summary>
    public static bool Takes(StepInPass step, NormalizationSite site) => HasTorchFormAlone(step) && step.Runtime.Adapts(site);

    /// <summary>Whether the steps' method decides at a site.</summary>
    public bool Takes(NormalizationSite site) => _runtime.Adapts(site);

    /// <summary>Decides at a site.</summary>
    /// <param name="site">The site.</param>
    /// <param name="pixels">Values per channel and frame.</param>
    /// <param name="spatial">False for a site over [B,C].</param>
    /// <param name="work">Where the steps see the site, and what they decide goes.</param>
    public void Run(NormalizationSite site, int pixels, bool spatial, ForwardPass.SiteWork work)
    {
        var (count, frames, channels) = (_steps.Length, _steps[0].FrameCount, site.Channels);
        var (_, floats) = _runtime.Layout.At(site);
        using var scope = NewDisposeScope();
        using var mode = inference_mode();
        var (means, variances, states) = (new float[count * frames * channels], new float[count * frames * channels], new float[count * floats]);
        for (var i = 0; i < count; i++)
        {
            var view = work.ViewOf(_steps[i]);
            work.Prepare(_steps[i], view);
            view.InstanceMean.CopyTo(means.AsSpan(i * frames * channels));
            view.InstanceVariance.CopyTo(variances.AsSpan(i * frames * channels));
            view.State.CopyTo(states.AsSpan(i * floats));
        }

        var state = tensor(states, [count, floats]);
        var shown = new SiteTensors
        {
            Site = site,
            SourceMean = tensor(site.Mean),
            SourceVariance = tensor(site.Variance),
            Origin = site.Origin.Length == 0 ? null : tensor(site.Origin),
            Frames = frames,
            Pixels = pixels,
            Spatial = spatial,
            InstanceMean = tensor(means, [count, frames, channels]),
            InstanceVariance = tensor(variances, [count, frames, channels]),
            State = state,
            NextState = state.clone(),
            Figures = tensor(_figures, [count, _figures.Length / count]),
            Begun = _steps[0].Memory is null ? null : OfPass(memory => memory.Begun.ToArray()),
            Kept = _steps[0].Memory is null ? null : OfPass(memory => memory.Kept.ToArray()),
        };
        var faults = Array.ConvertAll(_steps, step => step.Fault);
        var (mean, variance) = TorchForm.Forward(_runtime, shown, faults);
        TakeFaults(faults);
        Read(mean.expand(count, frames, channels), means);
        Read(variance.expand(count, frames, channels), variances);
        Read(shown.NextState, states);
        var kept = shown.Kept is { } all ? new float[all.numel()] : [];
        if (shown.Kept is not null)
        {
            Read(shown.Kept, kept);
        }

        for (var i = 0; i < count; i++)
        {
            var view = work.ViewOf(_steps[i]);
            means.AsSpan(i * frames * channels, frames * channels).CopyTo(view.Mean);
            variances.AsSpan(i * frames * channels, frames * channels).CopyTo(view.Variance);
            states.AsSpan(i * floats, floats).CopyTo(view.NextState);
            kept.AsSpan(i * (kept.Length / count), view.Kept.Length).CopyTo(view.Kept);
            work.Finish(_steps[i], view);
        }
    }

    private static bool HasTorchFormAlone(StepInPass step) => step.Runtime is { Spans: null, ReadsFrames: true };

    private void TakeFaults(string?[] faults)
    {
        for (var i = 0; i < faults.Length; i++)
        {
            _steps[i].Fault ??= faults[i];
        }
    }

    // What steps carry through the pass, [S,floats].
    private Tensor OfPass(Func<PassMemory, float[]> content)
    {
        var joined = PassMemory.Joined(Array.ConvertAll(_steps, step => content(step.Memory!)));
        return tensor(joined, [_steps.Length, joined.Length / _steps.Length]);
    }

    private static void Read(Tensor values, float[] into)
    {
        // Torch has no memory for nothing.
        if (into.Length > 0)
        {
            values.contiguous().data<float>().CopyTo(into);
        }
    }
}

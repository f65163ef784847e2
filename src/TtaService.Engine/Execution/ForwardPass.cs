using System.Buffers;
using System.Numerics.Tensors;
using TorchSharp;
using TtaService.Engine.Drift;
using TtaService.Engine.Normalization;
using TtaService.Engine.Onnx;
using TtaService.Engine.Streams;
using static TorchSharp.torch;
using Tensor = TorchSharp.torch.Tensor;

namespace TtaService.Engine.Execution;

/// <summary>One forward pass of a batch on the CPU in float32: at every site each frame is normalized with the statistics of its own stream, and each stream's next state
/// is proposed.</summary>
/// <remarks>Frames lie in the order of their steps. Nothing is committed here: proposals go to rows of their own.</remarks>
internal sealed unsafe class ForwardPass : ISiteNormalizer
{
    // Below this many values a second thread costs more than it gives.
    private const int ParallelThreshold = 1 << 15;

    private readonly IReadOnlyList<StepInPass> _steps;
    private readonly int _threads;
    private readonly int _frames;
    private readonly bool[]? _atSource;
    private readonly SiteRange[]? _ranges;

    // Steps whose method has no form over spans, like ones together; null for none.
    private readonly TensorSteps[]? _tensorSteps;

    /// <param name="steps">They cover the frames of the pass, in order.</param>
    /// <param name="threads">Threads that share a site's work.</param>
    /// <param name="atSource">By site: whether it stays at its source statistics, because its rows are not the frames of the pass; null when none does.</param>
    /// <param name="ranges">What may be learned at each site; null when everything may.</param>
    public ForwardPass(IReadOnlyList<StepInPass> steps, int threads, bool[]? atSource = null, SiteRange[]? ranges = null)
    {
        _steps = steps;
        _threads = threads;
        _frames = steps[^1].FirstFrame + steps[^1].FrameCount;
        _atSource = atSource;
        _ranges = ranges;
        _tensorSteps = TensorSteps.Of(steps);
    }

    public Tensor Normalize(NormalizationSite site, Tensor x, bool mayOverwrite, Tensor? residual, Epilogue epilogue)
    {
        SiteActivations.Check(site, x);
        if (_atSource?[site.Index] == true || x.shape[0] % _frames != 0 || x.numel() == 0)
        {
            return AtSource(site, x, residual, epilogue);
        }

        using var activations = new SiteActivations(site, x, residual, _frames, mayOverwrite);
        var rented = ArrayPool<float>.Shared.Rent(checked(4 * _frames * site.Channels));
        try
        {
            fixed (float* statistics = rented, bias = site.Bias)
            {
                new SiteWork(this, site, activations, statistics, bias, epilogue).Run(_threads);
                return activations.Output;
            }
        }
        finally
        {
            ArrayPool<float>.Shared.Return(rented);
        }
    }

    // The rows of this site are not frames of single streams: nothing adapts here, and what is observed is the source.
    private Tensor AtSource(NormalizationSite site, Tensor x, Tensor? residual, Epilogue epilogue)
    {
        foreach (var step in _steps)
        {
            var (offset, floats) = step.Runtime.Layout.At(site);
            new ReadOnlySpan<float>(step.Row + offset, floats).CopyTo(new Span<float>(step.NextRow + offset, floats));
            if (step.Observation.Observes)
            {
                float[] mean = [.. Enumerable.Repeat(site.Mean, step.FrameCount).SelectMany(values => values)];
                float[] variance = [.. Enumerable.Repeat(site.Variance, step.FrameCount).SelectMany(values => values)];
                step.Observation.At(site, mean, variance, step.FrameCount);
            }
        }

        using var parameters = new SiteParameters(site, x.device);
        return parameters.Normalize(x, site.Epsilon, residual, epilogue);
    }

    /// <summary>The passes over one site's activations, shared by the threads that work on it.</summary>
    internal sealed class SiteWork(ForwardPass pass, NormalizationSite site, SiteActivations activations, float* memory, float* bias, Epilogue epilogue)
    {
        private readonly int _channels = site.Channels;
        private readonly int _frames = activations.Frames;
        private readonly int _pixels = activations.Pixels;

        private float* InstanceMean => memory;

        private float* InstanceVariance => memory + ((long)_frames * _channels);

        private float* Mean => memory + (2L * _frames * _channels);

        // The methods' variance becomes the scale in place.
        private float* Scale => memory + (3L * _frames * _channels);

        public void Run(int threads)
        {
            var steps = pass._steps.Count;
            var size = (long)_frames * _pixels * _channels;
            if (pass._tensorSteps is not null)
            {
                RunPhases(size < ParallelThreshold ? 1 : threads);
            }
            else if (threads == 1 || size < ParallelThreshold)
            {
                for (var i = 0; i < steps; i++)
                {
                    RunStep(pass._steps[i]);
                }
            }
            else if (steps >= threads)
            {
                Parallel.For(0, threads, t =>
                {
                    for (var i = t * steps / threads; i < (t + 1) * steps / threads; i++)
                    {
                        RunStep(pass._steps[i]);
                    }
                });
            }
            else
            {
                RunPhases(threads);
            }
        }

        private void RunMethods()
        {
            foreach (var step in pass._steps)
            {
                if (!TensorSteps.Takes(step, site))
                {
                    RunMethod(step);
                }
            }

            foreach (var steps in pass._tensorSteps ?? [])
            {
                if (steps.Takes(site))
                {
                    steps.Run(site, _pixels, activations.Spatial, this);
                }
            }
        }

        private void RunStep(StepInPass step)
        {
            if (step.NeedsStatistics(site))
            {
                for (var frame = step.FirstFrame; frame < step.FirstFrame + step.FrameCount; frame++)
                {
                    Statistics(frame);
                }
            }

            RunMethod(step);
            for (var frame = step.FirstFrame; frame < step.FirstFrame + step.FrameCount; frame++)
            {
                Apply(frame, 0, _pixels);
            }
        }

        // All statistics, all methods, all frames, for few steps, or where like steps meet their method together: threads share frames, or the rows of a single frame.
        private void RunPhases(int threads)
        {
            Parallel.For(0, threads, t =>
            {
                for (var frame = t * _frames / threads; frame < (t + 1) * _frames / threads; frame++)
                {
                    if (pass.StepOf(frame).NeedsStatistics(site))
                    {
                        Statistics(frame);
                    }
                }
            });
            RunMethods();
            Parallel.For(0, threads, t =>
            {
                if (_frames >= threads || !activations.ChannelsLast)
                {
                    for (var frame = t * _frames / threads; frame < (t + 1) * _frames / threads; frame++)
                    {
                        Apply(frame, 0, _pixels);
                    }

                    return;
                }

                for (var frame = 0; frame < _frames; frame++)
                {
                    Apply(frame, (int)((long)t * _pixels / threads), (int)((t + 1L) * _pixels / threads));
                }
            });
        }

        private void Statistics(int frame) =>
            activations.Statistics(frame, InstanceMean + ((long)frame * _channels), InstanceVariance + ((long)frame * _channels));

        private void RunMethod(StepInPass step)
        {
            var view = ViewOf(step);
            Prepare(step, view);
            if (step.Runtime.Adapts(site) && step.Fault is null)
            {
                try
                {
                    step.Runtime.Spans!.Forward(view);
                }
                catch (Exception fault) when (MethodFault.IsOwn(fault))
                {
                    step.Fault = MethodFault.Message(step.Runtime.Settings.Name, $"at site '{site.Name}'", fault);
                    view.UseSource();
                }
            }
            else
            {
                view.UseSource();
            }

            Finish(step, view);
        }

        /// <summary>What a step sees of the site.</summary>
        public SiteStep ViewOf(StepInPass step)
        {
            var at = (long)step.FirstFrame * _channels;
            var length = step.FrameCount * _channels;
            var (offset, floats) = step.Runtime.Layout.At(site);
            return new SiteStep
            {
                Site = site,
                Frames = step.FrameCount,
                Pixels = _pixels,
                Spatial = activations.Spatial,
                FramesBefore = step.FramesBefore,
                InstanceMean = new ReadOnlySpan<float>(InstanceMean + at, length),
                InstanceVariance = new ReadOnlySpan<float>(InstanceVariance + at, length),
                State = new ReadOnlySpan<float>(step.Row + offset, floats),
                NextState = new Span<float>(step.NextRow + offset, floats),
                Mean = new Span<float>(Mean + at, length),
                Variance = new Span<float>(Scale + at, length),
                Begun = step.Memory is null ? [] : step.Memory.Begun,
                Kept = step.Memory is null ? [] : step.Memory.Kept,
            };
        }

        private SiteRange? RangeOf(StepInPass step) => step.NeedsStatistics(site) && step.Verdicts is not null ? pass._ranges?[site.Index] : null;

        /// <summary>Judges a step's frames, and brings them into what may be learned.</summary>
        public void Prepare(StepInPass step, in SiteStep view)
        {
            if (RangeOf(step) is not { } range)
            {
                return;
            }

            if (step.Verdicts!.Judges())
            {
                Judge(step.Verdicts, range, view);
            }

            if (step.Runtime.Adapts(site) && view.State.Length > 0)
            {
                Clip(step, range);
            }
        }

        /// <summary>Takes what a step's method decided.</summary>
        public void Finish(StepInPass step, in SiteStep view)
        {
            var (range, adapts) = (RangeOf(step), step.Runtime.Adapts(site));
            if (range is not null && adapts && step.Verdicts!.ComparesFit)
            {
                Compare(step.Verdicts, range, view);
            }

            if (step.Observation.Observes)
            {
                if (range is not null && !(adapts && view.State.Length > 0))
                {
                    // A method without state may use a frame as it is; what is kept of it is bounded.
                    Clip(step, range);
                }

                step.Observation.At(site, view.InstanceMean, view.InstanceVariance, step.FrameCount);
            }

            // scale = weight / sqrt(variance + eps)
            var variance = view.Variance;
            TensorPrimitives.Add(variance, site.Epsilon, variance);
            TensorPrimitives.Sqrt(variance, variance);
            for (var frame = 0; frame < step.FrameCount; frame++)
            {
                var scale = variance.Slice(frame * _channels, _channels);
                TensorPrimitives.Divide(site.Weight, scale, scale);
            }
        }

        private void Judge(FrameVerdicts verdicts, SiteRange range, in SiteStep view)
        {
            for (var frame = 0; frame < view.Frames; frame++)
            {
                verdicts.Judge(range, range.Energy(view.InstanceMean.Slice(frame * _channels, _channels), view.InstanceVariance.Slice(frame * _channels, _channels)));
            }
        }

        private void Clip(StepInPass step, SiteRange range)
        {
            var at = (long)step.FirstFrame * _channels;
            for (var frame = 0; frame < step.FrameCount; frame++)
            {
                var first = at + ((long)frame * _channels);
                range.Clip(new Span<float>(InstanceMean + first, _channels), new Span<float>(InstanceVariance + first, _channels));
            }
        }

        private void Compare(FrameVerdicts verdicts, SiteRange range, in SiteStep view)
        {
            for (var frame = 0; frame < view.Frames; frame++)
            {
                var mean = view.InstanceMean.Slice(frame * _channels, _channels);
                var variance = view.InstanceVariance.Slice(frame * _channels, _channels);
                verdicts.Misfit += range.Misfit(mean, variance, view.Mean.Slice(frame * _channels, _channels), view.Variance.Slice(frame * _channels, _channels));
            }
        }

        private void Apply(int frame, int firstPixel, int lastPixel)
        {
            var at = activations.ChannelsLast ? (long)firstPixel * _channels : 0;
            var x = activations.Input(frame) + at;
            var y = activations.Result(frame) + at;
            var residual = activations.Residual(frame) is var own && own is null ? null : own + at;
            var scale = Scale + ((long)frame * _channels);
            var mean = Mean + ((long)frame * _channels);
            if (activations.ChannelsLast)
            {
                SiteKernels.ApplyChannelsLast(x, y, residual, lastPixel - firstPixel, _channels, mean, scale, bias, epilogue);
            }
            else
            {
                SiteKernels.ApplyChannelsFirst(x, y, residual, _pixels, _channels, mean, scale, bias, epilogue);
            }
        }
    }

    private StepInPass StepOf(int frame)
    {
        foreach (var step in _steps)
        {
            if (frame < step.FirstFrame + step.FrameCount)
            {
                return step;
            }
        }

        throw new ArgumentOutOfRangeException(nameof(frame));
    }
}

/// <summary>A step's place in a batch: its frames, and the rows it reads and proposes.</summary>
internal sealed unsafe class StepInPass(MethodRuntime runtime, int firstFrame, int frameCount, long framesBefore, float* row, float* nextRow)
{
    public MethodRuntime Runtime => runtime;

    public int FirstFrame => firstFrame;

    public int FrameCount => frameCount;

    public long FramesBefore => framesBefore;

    public float* Row => row;

    public float* NextRow => nextRow;

    /// <summary>Where the step is observed for drift; observes nothing by default.</summary>
    public StepObservation Observation { get; init; }

    /// <summary>What an <see cref="IPassMethod"/> carries through the pass; null for other methods.</summary>
    public PassMemory? Memory { get; init; }

    /// <summary>Why its method failed in this pass; null while it did not. The rest of the pass runs with the source statistics then.</summary>
    public string? Fault { get; set; }

    /// <summary>Where the sites say what they found of the step's frames; null when nobody asks.</summary>
    public FrameVerdicts? Verdicts { get; init; }

    /// <summary>Whether the step's instance statistics are read at a site.</summary>
    public bool NeedsStatistics(NormalizationSite site) => Observation.Observes || runtime.Adapts(site);
}

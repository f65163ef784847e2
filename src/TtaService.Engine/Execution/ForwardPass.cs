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

/// <summary>One forward pass of a batch on the CPU in float32: at every site each frame is normalized with the statistics of its own stream, and each stream's next state is proposed.</summary>
/// <remarks>Frames lie in the order of their steps. Nothing is committed here: proposals go to rows of their own.</remarks>
internal sealed unsafe class ForwardPass : ISiteNormalizer
{
    // Below this many values a second thread costs more than it gives.
    private const int ParallelThreshold = 1 << 15;

    private readonly IReadOnlyList<StepInPass> _steps;
    private readonly int _threads;

    private readonly SiteRange[]? _ranges;

    /// <param name="steps">The steps, in the order of their frames.</param>
    /// <param name="threads">Most threads of a site.</param>
    /// <param name="ranges">What may be learned at each site; null when everything may.</param>
    public ForwardPass(IReadOnlyList<StepInPass> steps, int threads, SiteRange[]? ranges = null)
    {
        _steps = steps;
        _threads = threads;
        _ranges = ranges;
    }

    public Tensor Normalize(NormalizationSite site, Tensor x, bool mayOverwrite, Tensor? residual, Epilogue epilogue)
    {
        var shape = x.shape;
        var frames = checked((int)shape[0]);
        var channels = site.Channels;
        var pixels = 1;
        for (var i = 2; i < shape.Length; i++)
        {
            pixels = checked(pixels * (int)shape[i]);
        }

        var rented = ArrayPool<float>.Shared.Rent(4 * frames * channels);
        try
        {
            fixed (float* statistics = rented, bias = site.Bias)
            {
                var work = new SiteWork(this, site, shape.Length > 2, frames, pixels, statistics, bias);
                return Normalize(work, x, mayOverwrite, residual, epilogue);
            }
        }
        finally
        {
            ArrayPool<float>.Shared.Return(rented);
        }
    }

    private Tensor Normalize(SiteWork work, Tensor x, bool mayOverwrite, Tensor? residual, Epilogue epilogue)
    {
        var channelsLast = IsChannelsLast(x);
        var input = channelsLast || x.is_contiguous() ? x : x.contiguous();
        var aligned = residual is null ? null : SameLayout(residual, channelsLast);
        var output = mayOverwrite ? input : empty_like(input);
        work.Input = Pointer(input);
        work.Output = Pointer(output);
        work.Residual = aligned is null ? null : Pointer(aligned);
        work.ChannelsLast = channelsLast;
        work.Epilogue = epilogue;
        work.Run(_threads);
        if (aligned is not null && !ReferenceEquals(aligned, residual))
        {
            aligned.Dispose();
        }

        if (!ReferenceEquals(input, x) && !ReferenceEquals(input, output))
        {
            input.Dispose();
        }

        return output;
    }

    private static bool IsChannelsLast(Tensor x)
    {
        var shape = x.shape;
        var strides = x.stride();
        if (shape.Length != 4 || strides[1] != 1)
        {
            return shape.Length == 2 && x.is_contiguous();
        }

        return strides[3] == shape[1] && strides[2] == shape[1] * shape[3] && strides[0] == shape[1] * shape[2] * shape[3];
    }

    private static Tensor SameLayout(Tensor tensor, bool channelsLast)
    {
        if (channelsLast ? IsChannelsLast(tensor) : tensor.is_contiguous())
        {
            return tensor;
        }

        return channelsLast && tensor.dim() == 4 ? tensor.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2) : tensor.contiguous();
    }

    private static float* Pointer(Tensor tensor)
    {
        // The storage pointer ignores the offset of a view.
        using var storage = tensor.storage<float>();
        return (float*)storage.data_ptr() + tensor.storage_offset();
    }

    /// <summary>The passes over one site's activations, shared by the threads that work on it.</summary>
    private sealed class SiteWork(ForwardPass pass, NormalizationSite site, bool spatial, int frames, int pixels, float* memory, float* bias)
    {
        private readonly int _channels = site.Channels;

        public float* Input { get; set; }

        public float* Output { get; set; }

        public float* Residual { get; set; }

        public bool ChannelsLast { get; set; }

        public Epilogue Epilogue { get; set; }

        public float* InstanceMean => memory;

        public float* InstanceVariance => memory + ((long)frames * _channels);

        public float* Mean => memory + (2L * frames * _channels);

        // The methods' variance becomes the scale in place.
        public float* Scale => memory + (3L * frames * _channels);

        public void Run(int threads)
        {
            var steps = pass._steps.Count;
            var size = (long)frames * pixels * _channels;
            if (threads == 1 || size < ParallelThreshold)
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
                RunFewSteps(threads);
            }
        }

        public void RunMethods()
        {
            foreach (var step in pass._steps)
            {
                RunMethod(step);
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
                Apply(frame, 0, pixels);
            }
        }

        // Few steps: threads share their frames, or the rows of a single frame.
        private void RunFewSteps(int threads)
        {
            Parallel.For(0, threads, t =>
            {
                for (var frame = t * frames / threads; frame < (t + 1) * frames / threads; frame++)
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
                if (frames >= threads || !ChannelsLast)
                {
                    for (var frame = t * frames / threads; frame < (t + 1) * frames / threads; frame++)
                    {
                        Apply(frame, 0, pixels);
                    }

                    return;
                }

                for (var frame = 0; frame < frames; frame++)
                {
                    Apply(frame, (int)((long)t * pixels / threads), (int)((t + 1L) * pixels / threads));
                }
            });
        }

        private void Statistics(int frame)
        {
            var x = Input + ((long)frame * pixels * _channels);
            var mean = InstanceMean + ((long)frame * _channels);
            var variance = InstanceVariance + ((long)frame * _channels);
            if (ChannelsLast)
            {
                SiteKernels.StatisticsChannelsLast(x, pixels, _channels, mean, variance);
            }
            else
            {
                SiteKernels.StatisticsChannelsFirst(x, pixels, _channels, mean, variance);
            }
        }

        private void RunMethod(StepInPass step)
        {
            var at = (long)step.FirstFrame * _channels;
            var length = step.FrameCount * _channels;
            var mean = new Span<float>(Mean + at, length);
            var variance = new Span<float>(Scale + at, length);
            var (offset, floats) = step.Runtime.Layout.At(site);
            var view = new SiteStep
            {
                Site = site,
                Frames = step.FrameCount,
                Pixels = pixels,
                Spatial = spatial,
                FramesBefore = step.FramesBefore,
                InstanceMean = new ReadOnlySpan<float>(InstanceMean + at, length),
                InstanceVariance = new ReadOnlySpan<float>(InstanceVariance + at, length),
                State = new ReadOnlySpan<float>(step.Row + offset, floats),
                NextState = new Span<float>(step.NextRow + offset, floats),
                Mean = mean,
                Variance = variance,
            };
            var range = step.NeedsStatistics(site) && step.Verdicts is not null ? pass._ranges?[site.Index] : null;
            var adapts = step.Runtime.Adapts(site);
            if (range is not null)
            {
                Judge(step, range, at, clips: adapts && floats > 0);
            }

            if (adapts)
            {
                step.Runtime.Method.Forward(view);
            }
            else
            {
                view.UseSource();
            }

            if (range is not null && step.Verdicts!.ComparesFit && adapts)
            {
                Compare(step.Verdicts, range, view);
            }

            if (step.Observation.Observes)
            {
                if (range is not null && !(adapts && floats > 0))
                {
                    // A method without state may use a frame as it is; what is kept of it is bounded.
                    Clip(step, range, at);
                }

                step.Observation.At(site, view.InstanceMean, view.InstanceVariance, step.FrameCount);
            }

            // scale = weight / sqrt(variance + eps)
            TensorPrimitives.Add(variance, site.Epsilon, variance);
            TensorPrimitives.Sqrt(variance, variance);
            for (var frame = 0; frame < step.FrameCount; frame++)
            {
                var scale = variance.Slice(frame * _channels, _channels);
                TensorPrimitives.Divide(site.Weight, scale, scale);
            }
        }

        private void Judge(StepInPass step, SiteRange range, long at, bool clips)
        {
            Span<float> energies = step.FrameCount <= 256 ? stackalloc float[256] : new float[step.FrameCount];
            for (var frame = 0; frame < step.FrameCount; frame++)
            {
                energies[frame] = range.Energy(
                    new ReadOnlySpan<float>(InstanceMean + at + ((long)frame * _channels), _channels), new ReadOnlySpan<float>(InstanceVariance + at + ((long)frame * _channels), _channels));
            }

            step.Verdicts!.Judge(range, energies[..step.FrameCount]);
            if (clips)
            {
                Clip(step, range, at);
            }
        }

        private void Clip(StepInPass step, SiteRange range, long at)
        {
            for (var frame = 0; frame < step.FrameCount; frame++)
            {
                range.Clip(new Span<float>(InstanceMean + at + ((long)frame * _channels), _channels), new Span<float>(InstanceVariance + at + ((long)frame * _channels), _channels));
            }
        }

        private void Compare(FrameVerdicts verdicts, SiteRange range, in SiteStep view)
        {
            var (own, source) = (0.0, 0.0);
            for (var frame = 0; frame < view.Frames; frame++)
            {
                var mean = view.InstanceMean.Slice(frame * _channels, _channels);
                var variance = view.InstanceVariance.Slice(frame * _channels, _channels);
                own += range.Misfit(mean, variance, view.Mean.Slice(frame * _channels, _channels), view.Variance.Slice(frame * _channels, _channels));
                source += range.Misfit(mean, variance, site.Mean, site.Variance);
            }

            verdicts.Compare(own / view.Frames, source / view.Frames);
        }

        private void Apply(int frame, int firstPixel, int lastPixel)
        {
            var at = (long)frame * pixels * _channels;
            var scale = Scale + ((long)frame * _channels);
            var mean = Mean + ((long)frame * _channels);
            if (!ChannelsLast)
            {
                SiteKernels.ApplyChannelsFirst(Input + at, Output + at, Residual is null ? null : Residual + at, pixels, _channels, mean, scale, bias, Epilogue);
                return;
            }

            at += (long)firstPixel * _channels;
            SiteKernels.ApplyChannelsLast(Input + at, Output + at, Residual is null ? null : Residual + at, lastPixel - firstPixel, _channels, mean, scale, bias, Epilogue);
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

    /// <summary>Where the sites say what they found of the step's frames; null when nobody asks.</summary>
    public FrameVerdicts? Verdicts { get; init; }

    /// <summary>Whether the step's instance statistics are read at a site.</summary>
    public bool NeedsStatistics(NormalizationSite site) => Observation.Observes || runtime.Adapts(site);
}

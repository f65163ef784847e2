using System.Diagnostics;
using TorchSharp;
using TtaService.Engine.Drift;
using TtaService.Engine.Normalization;
using TtaService.Engine.Onnx;
using TtaService.Engine.Tensors;
using static TorchSharp.torch;
using Tensor = TorchSharp.torch.Tensor;

namespace TtaService.Engine.Execution;

/// <summary>A pass of frames through a model, and what holds for every pass: how frames lie in it, what is observed at its sites, what may be learned there.</summary>
/// <remarks>The runners are handed it; it knows no streams.</remarks>
/// <param name="graph">What runs.</param>
/// <param name="inputs">What the graph takes beside them.</param>
/// <param name="upload">Brings frames to the device.</param>
/// <param name="threads">How many a pass gets.</param>
/// <param name="givesWay">Whether others may run between the operators of a pass.</param>
internal sealed class ModelPass(ModelGraph graph, ModelInputs inputs, FrameUpload upload, PassThreads threads, bool givesWay) : IDisposable
{
    // A site's input and its output, as much again for the operators between the sites, and room for the gradients on their way.
    private const int FloatsKeptOfAnActivation = 5;

    // No output of a graph: a name there is not empty.
    private const string FeaturesName = "";

    private ((int Height, int Width) Size, long Bytes) _measured;

    /// <summary>The normalization sites, in execution order.</summary>
    public IReadOnlyList<NormalizationSite> Sites => graph.Sites;

    /// <summary>What is seen of the sites' inputs; null when nothing is.</summary>
    public required ObservedStatistics? Observed { get; init; }

    /// <summary>What may be learned at each site; null when everything may.</summary>
    public required SiteRange[]? Ranges { get; init; }

    /// <summary>What fills a pass of a fixed batch up.</summary>
    public required FillerSteps Filler { get; init; }

    /// <summary>Most bytes of activations that a pass keeps for its way back.</summary>
    public required long GradientBytes { get; init; }

    /// <summary>How many threads a pass forward and back gets, which is longer than one forward.</summary>
    public required PassThreads TrainingThreads { get; init; }

    /// <summary>How frames lie in the graph.</summary>
    public PassPlan Plan { get; set; } = PassPlan.AsDeclared(graph);

    /// <summary>The output that predictions are read from; null for none.</summary>
    public ModelOutput? Scores { get; set; }

    /// <summary>While set, outputs are followed by the features that the class scores are computed from, [N,D].</summary>
    public bool ShowsFeatures { get; set; }

    /// <summary>How long the vector of a frame is that the class scores are computed from; 0 where the graph does not show it.</summary>
    public int Features => Scores is { Index: var scores } ? graph.Outputs[scores].Features : 0;

    /// <summary>Where the time of the passes since it was set went.</summary>
    public PassTimes Times { get; set; }

    /// <summary>Runs between the operators of a pass; null for nothing.</summary>
    public Action? Between { get; set; }

    /// <summary>One pass of a batch that lies in the order of its blocks; the outputs are read, which waits for the device.</summary>
    /// <param name="blocks">Frames of one C, H, W.</param>
    /// <param name="frames">How many they are.</param>
    /// <param name="pass">What normalizes at the sites, given the threads; null from it for the folded graph.</param>
    public OutputTensor[] Forward(FrameBlock[] blocks, int frames, Func<int, ISiteNormalizer?> pass) =>
        threads.Run((long)frames * blocks[0].Height * blocks[0].Width, threads => Forward(blocks, frames, pass(threads)));

    // Internal for the benchmarks, which run the same graph with other normalizers.
    public OutputTensor[] Forward(FrameBlock[] blocks, int frames, ISiteNormalizer? pass)
    {
        using var scope = NewDisposeScope();
        using var mode = inference_mode();
        var began = Stopwatch.GetTimestamp();
        var given = Inputs(blocks, frames);
        var uploaded = Stopwatch.GetTimestamp();
        var read = Read(graph.Run(given, pass, Between is null || !givesWay ? null : GiveWay, FeaturesOf), frames);
        Times += new PassTimes(Stopwatch.GetElapsedTime(began, uploaded), Stopwatch.GetElapsedTime(uploaded), TimeSpan.Zero);
        return read;
    }

    /// <summary>One pass of a batch through the program that can be differentiated, and back: the gradients of the weighted sum of the predictions' entropies are with the
    /// tensors that ask for them.</summary>
    /// <param name="blocks">Frames of one C, H, W.</param>
    /// <param name="frames">How many they are.</param>
    /// <param name="sites">What normalizes at the sites.</param>
    /// <param name="weigh">Given the outputs, the weight of each frame; where all are 0 there is no way back.</param>
    public OutputTensor[] Train(FrameBlock[] blocks, int frames, ISiteNormalizer sites, Func<OutputTensor[], float[]> weigh) =>
        TrainingThreads.Run((long)frames * blocks[0].Height * blocks[0].Width, _ =>
        {
            using var scope = NewDisposeScope();
            using var mode = enable_grad();
            var began = Stopwatch.GetTimestamp();
            var given = Inputs(blocks, frames);
            var uploaded = Stopwatch.GetTimestamp();
            var outputs = graph.RunDifferentiable(given, sites, Between is null || !givesWay ? null : GiveWay, FeaturesOf);
            var read = Read(outputs, frames);
            var weights = weigh(read);
            if (weights.AsSpan().ContainsAnyExcept(0))
            {
                var scores = Scores!.Index;
                var entropies = Entropies(Plan.Outputs[scores].FramesFirst(graph.Outputs[scores].Name, outputs[scores], frames), Scores.Kind);
                (entropies * tensor(weights, device: entropies.device)).sum().backward();
            }

            Times += new PassTimes(Stopwatch.GetElapsedTime(began, uploaded), Stopwatch.GetElapsedTime(uploaded), TimeSpan.Zero);
            return read;
        });

    /// <summary>About how many bytes of a frame's activations a pass keeps for its way back.</summary>
    /// <param name="frame">A frame of the size that is asked for.</param>
    /// <param name="sites">What normalizes the frames of a pass of one, filled up.</param>
    public long GradientBytesOf(FrameBlock frame, ISiteNormalizer sites)
    {
        if (_measured.Size != (frame.Height, frame.Width))
        {
            var frames = Plan.Computed(1);
            var counter = new ActivationCounter(sites);
            Forward([.. Enumerable.Repeat(frame, frames)], frames, counter);
            _measured = ((frame.Height, frame.Width), Math.Max(1, counter.Elements * FloatsKeptOfAnActivation * sizeof(float) / frames));
        }

        return _measured.Bytes;
    }

    /// <summary>Null when a method can be trained on the model's predictions at the chosen sites, else why not.</summary>
    public string? WhyUntrainable(Func<NormalizationSite, bool> chosen) =>
        ClassScores.Count(Scores) == 0 ? "the model answers no scores of classes that exclude each other" : graph.WhyNotDifferentiable(graph.Outputs[Scores!.Index].Name, chosen);

    /// <summary>Runs frames through the model as it was trained, beside any stream. Blocks share C, H, W.</summary>
    /// <returns>The model's outputs for all frames, in the order given.</returns>
    /// <exception cref="InvalidOperationException">The graph can't run frames of this size; the message says why.</exception>
    public IReadOnlyList<OutputTensor> RunSource(IReadOnlyList<FrameBlock> blocks)
    {
        var answers = new StepOutputs();
        try
        {
            if (Plan.FramesPerPass == PassPlan.Unlimited)
            {
                answers.Take(Forward([.. blocks], blocks.Sum(block => block.Count), _ => null), 0, blocks.Sum(block => block.Count));
                return answers.Joined()!;
            }

            foreach (var (block, part) in blocks.SelectMany(block => PassSchedule.Of([block.Count], Plan.FramesPerPass).Select(parts => (block, parts[0]))))
            {
                var frames = block.Slice(part.First, part.Count);
                var filling = Enumerable.Repeat(frames.Slice(part.Count - 1, 1), Filled(part.Count));
                answers.Take(Forward([frames, .. filling], Plan.Computed(part.Count), _ => null), 0, part.Count);
            }
        }
        catch (PassException impossible)
        {
            answers.Failure = impossible.Message;
        }

        return answers.Joined() ?? throw new InvalidOperationException(answers.Failure);
    }

    /// <summary>Frames that fill a pass of so many up.</summary>
    public int Filled(int frames) => Plan.Computed(frames) - frames;

    /// <summary>Runs frames through the graph as it is, for <see cref="PassProbe"/>, on one thread or all.</summary>
    public Tensor[] Trial(FrameBlock[] blocks, ISiteNormalizer? sites, bool alone)
    {
        using var used = threads.ForTrial(alone);
        return graph.Run(Inputs(blocks, blocks.Sum(block => block.Count)), sites);
    }

    /// <summary>Counts the time until it is disposed as that of committing.</summary>
    public CommitTimer TimeCommit() => new(this);

    public void Dispose()
    {
        Filler.Dispose();
        upload.Dispose();
        graph.Dispose();
    }

    private int? FeaturesOf => ShowsFeatures && Features > 0 ? Scores!.Index : null;

    private Tensor[] Inputs(FrameBlock[] blocks, int frames) => inputs.With(upload.Upload(blocks, frames), frames, blocks[0].Height, blocks[0].Width);

    private OutputTensor[] Read(Tensor[] outputs, int frames)
    {
        var read = new OutputTensor[outputs.Length];
        for (var i = 0; i < read.Length; i++)
        {
            var (name, output) = i < graph.Outputs.Count
                ? (graph.Outputs[i].Name, Plan.Outputs[i].FramesFirst(graph.Outputs[i].Name, outputs[i], frames))
                : (FeaturesName, FeaturesFirst(outputs[i], frames));
            var shape = output.shape;
            var values = output.detach().to_type(ScalarType.Float32).cpu().contiguous();
            int[] extents = Array.ConvertAll(shape, extent => checked((int)extent));
            read[i] = new OutputTensor(name, extents, values.data<float>().ToArray());
        }

        return read;
    }

    private Tensor FeaturesFirst(Tensor features, int frames) => features.numel() == (long)frames * Features && features.shape[0] == frames
        ? features.flatten(1)
        : throw new PassException($"the classifier reads [{string.Join(',', features.shape)}] of {frames} frame(s), expected {Features} numbers of each; "
            + "use a method without lame");

    // Of each frame's prediction, [B], in nats.
    private static Tensor Entropies(Tensor scores, OutputKind kind)
    {
        var flat = scores.to_type(ScalarType.Float32).flatten(1);
        var logs = kind switch
        {
            OutputKind.Logits => flat.log_softmax(1),
            OutputKind.Probabilities => flat.AtLeast(1e-12).log(),
            _ => flat,
        };
        return (logs.exp() * logs).sum([1L]).neg();
    }

    // Others run in here: what is the running pass's own is put back behind them.
    private void GiveWay()
    {
        var (between, times) = (Between!, Times);
        Between = null;
        threads.Aside(between);
        (Between, Times) = (between, times);
    }

    /// <summary>Counts the values that come to the sites.</summary>
    private sealed class ActivationCounter(ISiteNormalizer sites) : ISiteNormalizer
    {
        public long Elements { get; private set; }

        public Tensor Normalize(NormalizationSite site, Tensor x, bool mayOverwrite, Tensor? residual, Epilogue epilogue)
        {
            Elements += x.numel();
            return sites.Normalize(site, x, mayOverwrite, residual, epilogue);
        }
    }

    /// <summary>Adds its life to the commit time of the run.</summary>
    public readonly ref struct CommitTimer(ModelPass pass)
    {
        private readonly long _began = Stopwatch.GetTimestamp();

        public void Dispose() => pass.Times += new PassTimes(TimeSpan.Zero, TimeSpan.Zero, Stopwatch.GetElapsedTime(_began));
    }
}

using System.Diagnostics;
using TorchSharp;
using TtaService.Engine.Drift;
using TtaService.Engine.Normalization;
using TtaService.Engine.Onnx;
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
    /// <summary>The normalization sites, in execution order.</summary>
    public IReadOnlyList<NormalizationSite> Sites => graph.Sites;

    /// <summary>What is seen of the sites' inputs; null when nothing is.</summary>
    public required ObservedStatistics? Observed { get; init; }

    /// <summary>What may be learned at each site; null when everything may.</summary>
    public required SiteRange[]? Ranges { get; init; }

    /// <summary>What fills a pass of a fixed batch up.</summary>
    public required FillerSteps Filler { get; init; }

    /// <summary>How frames lie in the graph.</summary>
    public PassPlan Plan { get; set; } = PassPlan.AsDeclared(graph);

    /// <summary>The output that predictions are read from; null for none.</summary>
    public ModelOutput? Scores { get; set; }

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
        var outputs = graph.Run(given, pass, Between is null || !givesWay ? null : GiveWay);
        var read = new OutputTensor[outputs.Length];
        for (var i = 0; i < read.Length; i++)
        {
            var output = Plan.Outputs[i].FramesFirst(graph.Outputs[i].Name, outputs[i], frames);
            var shape = output.shape;
            var values = output.to_type(ScalarType.Float32).cpu().contiguous();
            int[] extents = Array.ConvertAll(shape, extent => checked((int)extent));
            read[i] = new OutputTensor(graph.Outputs[i].Name, extents, values.data<float>().ToArray());
        }

        Times += new PassTimes(Stopwatch.GetElapsedTime(began, uploaded), Stopwatch.GetElapsedTime(uploaded), TimeSpan.Zero);
        return read;
    }

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

    /// <summary>Runs frames through the graph as it is, for <see cref="PassProbe"/>.</summary>
    public Tensor[] Trial(FrameBlock[] blocks, ISiteNormalizer? sites)
    {
        using var alone = threads.Alone();
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

    private Tensor[] Inputs(FrameBlock[] blocks, int frames) => inputs.With(upload.Upload(blocks, frames), frames, blocks[0].Height, blocks[0].Width);

    // Others run in here: what is the running pass's own is put back behind them.
    private void GiveWay()
    {
        var (between, times) = (Between!, Times);
        Between = null;
        threads.Aside(between);
        (Between, Times) = (between, times);
    }

    /// <summary>Adds its life to the commit time of the run.</summary>
    public readonly ref struct CommitTimer(ModelPass pass)
    {
        private readonly long _began = Stopwatch.GetTimestamp();

        public void Dispose() => pass.Times += new PassTimes(TimeSpan.Zero, TimeSpan.Zero, Stopwatch.GetElapsedTime(_began));
    }
}

using System.Globalization;
using TorchSharp;
using TtaService.Engine.Answers;
using TtaService.Engine.Calibration;
using TtaService.Engine.Drift;
using TtaService.Engine.Normalization;
using TtaService.Engine.Normalization.Affine;
using TtaService.Engine.Normalization.Filters;
using TtaService.Engine.Onnx;
using TtaService.Engine.Streams;
using static TorchSharp.torch;

namespace TtaService.Engine.Execution;

/// <summary>A loaded model with per-stream adaptation. Not thread-safe: one thread owns it (see <see cref="InferenceEngine"/>).</summary>
public sealed class AdaptiveModel : IDisposable
{
    private const string Reexport = "export again with torch.onnx.export(model.eval(), ..., training=torch.onnx.TrainingMode.PRESERVE) (add dynamo=False from PyTorch 2.9 on)";

    private readonly ModelGraph _graph;
    private readonly ModelInputs _inputs;
    private readonly InputEncoding _encoding;
    private readonly string _path;
    private readonly AnswerHints _hints;
    private readonly bool _isForCalibration;
    private readonly StreamStates _states;
    private readonly IBatchRunner _runner;
    private readonly Lazy<IBatchRunner> _torch;
    private readonly StepRuns _runs;
    private bool _isDisposed;

    private AdaptiveModel(
        string path,
        ModelGraph graph,
        ModelInputs inputs,
        InputEncoding encoding,
        AnswerHints hints,
        ModelAnswer answer,
        torch.Device device,
        AdaptiveModelOptions options,
        ModelCalibration? calibration)
    {
        _path = path;
        _graph = graph;
        _inputs = inputs;
        _encoding = encoding;
        _hints = hints;
        _isForCalibration = options.ForCalibration;
        Methods = options.Methods;
        var placed = graph.Sites.Where(site => site.Kind == SiteKind.Virtual).Select(site => site.Name).ToHashSet(StringComparer.Ordinal);
        IdleSites = [.. graph.VirtualSites.Where(site => !placed.Contains(site.Name))];
        Answer = answer;
        // The SIMD kernels are for float32 on the CPU; all else goes by torch operators.
        var onHost = device.type == DeviceType.CPU && options.Precision == Precision.Fp32 && !options.UsesTorchOperators;
        var upload = new FrameUpload(encoding, device, ModelLoading.ElementType(options.Precision), staged: !onHost);
        var quarter = DeviceMemory.FreeBytes(device) is { } free ? free / 4 : AdaptiveModelOptions.DefaultArenaBytes;
        ArenaBytes = options.ArenaBytes ?? quarter;
        var arenas = new ArenaPool(onHost ? null : device, ArenaBytes);
        var observed = options.Observation is { } observation && graph.Sites.Count > 0 ? new ObservedStatistics(graph.Sites, observation, arenas) : null;
        Pass = new ModelPass(graph, inputs, upload, new PassThreads(options.Threads, options.OwnsProcess), givesWay: onHost)
        {
            Observed = observed,
            Ranges = options.Learning is { } learning ? [.. graph.Sites.Select(site => new SiteRange(site, learning.Range))] : null,
            Filler = new FillerSteps(graph.Sites, onHost ? null : device),
            Scores = ModelOutputs.Scores(answer.Outputs, hints.Labels),
            GradientBytes = options.GradientBytes ?? quarter,
            TrainingThreads = new PassThreads(options.Threads, options.OwnsProcess),
        };
        var collapseFrames = options.Learning?.CollapseFrames ?? 0;
        var modelKey = ulong.Parse((options.DrawsAs ?? graph.Digest).AsSpan(0, 16), NumberStyles.HexNumber, CultureInfo.InvariantCulture);
        _states = new StreamStates(arenas, ArenaBytes, observed, modelKey, collapseFrames)
        {
            Target = new MethodTarget(graph.Sites, calibration?.Classes ?? ClassScores.Count(Scores), calibration, Scores) { Features = Pass.Features },
        };
        _runner = onHost ? new HostRunner(Pass) : new DeviceRunner(Pass, device);
        // On the host, too, gradients go through torch operators.
        _torch = new Lazy<IBatchRunner>(() => onHost ? DeviceRunner.ForTraining(Pass, device) : _runner);
        _runs = new StepRuns(Pass, _states, _runner, _torch, collapseFrames);
    }

    /// <summary>The methods that its streams can have.</summary>
    public MethodRegistry Methods { get; }

    /// <summary>SHA-256 of the ONNX file, lower-case hex.</summary>
    public string Digest => _graph.Digest;

    /// <summary>The normalization sites, in execution order.</summary>
    public IReadOnlyList<NormalizationSite> Sites => _graph.Sites;

    /// <summary>Convolutions and sums whose outputs a virtual site can normalize, in execution order; those of them that a calibration measured are among
    /// <see cref="Sites"/>, with its statistics.</summary>
    public IReadOnlyList<NormalizationSite> VirtualSites => _graph.VirtualSites;

    /// <summary>Of the virtual sites those that no calibration measured yet: they stay as they are.</summary>
    public IReadOnlyList<NormalizationSite> IdleSites { get; }

    /// <summary>What to do so that <see cref="IdleSites"/> adapt, too, in a sentence; null when there are none.</summary>
    public string? Advice => IdleSites.Count == 0 || _isForCalibration ? null
        : $"{IdleSites.Count} places {(IsWithoutBatchNorm ? "without BatchNorm" : "where BatchNorm was folded")}"
            + $"{(Sites.Count > 0 ? $" (beside {Sites.Count} sites that adapt)" : string.Empty)} can adapt: "
            + $"run `tta calibrate --model MODEL --data FOLDER`{(Calibration is null ? string.Empty : " again")} ({Calibrator.MinFrames} unlabelled frames or more)";

    /// <summary>Shape of the model's image input: [N,C,H,W] whatever its layout is, -1 for a dynamic axis.</summary>
    public IReadOnlyList<long> InputShape => _hints.InputShape;

    /// <summary>How the input's axes lie in the graph.</summary>
    public InputLayout InputLayout => _encoding.Layout;

    /// <summary>Frames T that the model takes and answers together, as a clip; 1 for a model of images. Steps hold whole clips, one behind another, and each frame is answered
    /// with its clip's answer. Inside, a clip is what a frame is to other models: statistics, counters of the state and calibrations are of clips.</summary>
    public int ClipFrames => _encoding.ClipFrames;

    /// <summary>The image input's name in the graph.</summary>
    public string InputName => _inputs.Image.Name;

    /// <summary>The input's element type by its name in ONNX: FLOAT, UINT8, ….</summary>
    public string InputType => _inputs.Image.ElementType;

    /// <summary>How pixels become the input's values.</summary>
    public InputNormalization InputNormalization => _encoding.Normalization;

    /// <summary>How many convolutions the graph has; far more of them than sites means that BatchNormalization was folded away.</summary>
    public int Convolutions => _graph.Convolutions;

    /// <summary>What the exporter wrote into the file beside the graph (metadata_props).</summary>
    public IReadOnlyDictionary<string, string> Metadata => _graph.Metadata;

    /// <summary>The outputs and what they are, as the graph tells until <see cref="Settle"/>, then as a pass has shown.</summary>
    public IReadOnlyList<ModelOutput> Outputs => Answer.Outputs;

    /// <summary>What the model answers and from which outputs, as the graph tells until <see cref="Settle"/>, then as a pass has shown.</summary>
    public ModelAnswer Answer { get; private set; }

    /// <summary>The output that predictions are read from; null for a model without class scores.</summary>
    public ModelOutput? Scores => Pass.Scores;

    /// <summary>Names of the model's outputs.</summary>
    public IReadOnlyList<string> OutputNames => [.. _graph.Outputs.Select(output => output.Name)];

    /// <summary>Most bytes of memory that are held for states, free rows included.</summary>
    public long ArenaBytes { get; }

    /// <summary>Bytes of state that resident streams take now.</summary>
    public long ResidentBytes => _states.ResidentBytes;

    /// <summary>Bytes of memory held for states: those of resident streams and rows that are free, for the next pass or, on a device, in the
    /// arena's tensor. Between passes it is <see cref="ArenaBytes"/> at most.</summary>
    public long HeldBytes => _states.HeldBytes;

    /// <summary>Streams whose state is resident.</summary>
    public int ResidentStreams => _states.Resident.Count;

    /// <summary>The resident streams, to be read on the model's thread.</summary>
    public IReadOnlyCollection<StreamState> Resident => _states.Resident;

    /// <summary>How the sites' inputs are observed; null when they are not.</summary>
    public ObservationOptions? Observation => Pass.Observed?.Options;

    /// <summary>What is normal for the model; null for an uncalibrated one, where <c>auto</c> runs its conservative form.</summary>
    public ModelCalibration? Calibration => _states.Target.Calibration;

    /// <summary>Most frames that one pass of the graph takes; null for any number. Longer steps run in parts of that many frames,
    /// one after another, each adapting as a step of its own would; state and counters move once, behind the last.</summary>
    public int? FramesPerPass => Pass.Plan.FramesPerPass == PassPlan.Unlimited ? null : Pass.Plan.FramesPerPass;

    /// <summary>What of the model is served otherwise than one would expect, in sentences: frames per pass, sites that never adapt, outputs whose axes move.</summary>
    public IReadOnlyList<string> Notices { get; private set; } = [];

    /// <summary>What the runners, a calibration and the benchmarks run frames through.</summary>
    internal ModelPass Pass { get; }

    /// <summary>Where the time of the last <see cref="Run"/> went.</summary>
    internal PassTimes RunTimes => Pass.Times;

    /// <summary>Loads a model.</summary>
    /// <exception cref="ModelLoadException">The file, or its calibration, can't be used; the message lists why.</exception>
    public static AdaptiveModel Load(string onnxPath, AdaptiveModelOptions? options = null)
    {
        options ??= new AdaptiveModelOptions();
        if (options.OwnsProcess)
        {
            NativeHeap.KeepFreedMemory();
        }

        var device = ModelLoading.ParseDevice(options.Device);
        var calibration = ModelLoading.ReadCalibration(options);
        var graph = ModelGraph.Load(onnxPath, device, ModelLoading.ElementType(options.Precision), place => options.ForCalibration ? place : calibration?.Place(place));
        AdaptiveModel model;
        try
        {
            var inputs = ModelInputs.Of(onnxPath, graph.Inputs, options.SideInputs);
            var metadata = new ExporterMetadata(graph.Metadata);
            var encoding = InputEncoding.For(onnxPath, inputs.Image, options.InputNormalization, options.Layout, metadata.Normalization);
            var hints = new AnswerHints(graph.Outputs, metadata, options.Labels, encoding.ImageShape(inputs.Image.Shape), options.Detection);
            var answer = ModelOutputs.FromGraph(onnxPath, options.OutputKinds, hints);
            model = new AdaptiveModel(onnxPath, graph, inputs, encoding, hints, answer, device, options, ModelLoading.RequireFit(calibration, graph, answer.Outputs, options));
        }
        catch (CalibrationException unfit)
        {
            graph.Dispose();
            throw new ModelLoadException(unfit.Message, unfit);
        }
        catch (ModelLoadException)
        {
            graph.Dispose();
            throw;
        }

        try
        {
            (model.Pass.Plan, model.Notices) = new PassProbe(model, graph, options).Find();
            model.Notices = [.. model._inputs.Notices, .. model.ClipNotice(), .. model.Notices, .. model.Advice is { } advice ? [advice] : Array.Empty<string>()];
            return model;
        }
        catch (PassProbe.UnusableException unusable)
        {
            model.Dispose();
            throw new ModelLoadException($"{onnxPath}: {unusable.Message}", unusable);
        }
        catch
        {
            model.Dispose();
            throw;
        }
    }

    private string[] ClipNotice() => ClipFrames == 1 ? []
        : [$"the model takes clips of {ClipFrames} frames: a step holds whole clips, one behind another, and each frame is answered with its clip's answer"];

    /// <summary>Runs frames one by one through the model as it was trained and holds what was decided about the outputs against what comes out.</summary>
    /// <param name="frames">Of the size that the model will be sent, not all alike.</param>
    /// <exception cref="ModelLoadException">Declared probabilities are none, or no output has as many classes as there are labels.</exception>
    public void Settle(FrameBlock frames)
    {
        var hints = _hints with { InputShape = [InputShape[0], frames.Channels, frames.Height, frames.Width] };
        var clips = frames.AsClips(ClipFrames);
        Answer = ModelOutputs.Settle(_path, Outputs, [.. Enumerable.Range(0, clips.Count).Select(clip => Pass.RunSource([clips.CopyFrame(clip)]))], hints);
        Pass.Scores = ModelOutputs.Scores(Outputs, hints.Labels);
        var classes = ClassScores.Count(Scores);
        if (Calibration is { } calibration && calibration.Classes != classes)
        {
            throw new ModelLoadException($"{_path}: {ModelLoading.OtherClasses(calibration, classes)}");
        }

        _states.Target = _states.Target with { Classes = classes, Scores = Scores, Features = Pass.Features };
    }

    /// <summary>Whether a site never adapts, because its rows are not the frames of a pass, one after another; <see cref="Notices"/> says so, too.</summary>
    public bool StaysAtSource(NormalizationSite site) => Pass.Plan.AtSource[site.Index];

    // It normalizes otherwise, and was trained so.
    private bool IsWithoutBatchNorm => VirtualSites.Any(site => site.IsFeature);

    /// <summary>Null when the method can run on this model, else why not and what to do (a model whose BatchNormalization was folded away).</summary>
    public string? WhyUnavailable(MethodSettings method)
    {
        try
        {
            if (!ReferenceEquals(Methods.Find(method.Name), method.Definition))
            {
                return $"the model was loaded without this method {method.Name}; load it with AdaptiveModelOptions.Methods that hold it, "
                    + "and make the settings by the same registry";
            }

            if (method.Filter is { } predictions && WhyUnfiltered(predictions) is { } unfiltered)
            {
                return unfiltered;
            }

            if (!MethodRuntime.ReadsFramesOf(method, Unbound(method)))
            {
                return null;
            }
        }
        catch (MethodSettingsException fault)
        {
            return fault.Message;
        }

        if (_isForCalibration)
        {
            return $"the model is loaded to be calibrated and knows no source statistics for {method.Name} yet; load it with its calibration";
        }

        if (Sites.Count == 0)
        {
            return Advice is { } advice
                ? $"the model has no BatchNormalization nodes{(IsWithoutBatchNorm ? string.Empty : " (exporters fold them into the convolutions)")}, and it is not calibrated, "
                    + $"so {method.Name} knows no source statistics. {advice}. Or {(IsWithoutBatchNorm ? string.Empty : $"{Reexport}, or ")}use method source"
                : $"the model has no BatchNormalization nodes, and no convolution or residual block whose output could be normalized instead, "
                    + $"so there is nothing for {method.Name} to adapt. If its exporter folded BatchNormalization away, {Reexport}, or use method source";
        }

        var filter = new SiteFilter(method);
        if (!Sites.Any(filter.Selects))
        {
            return $"sites_first and sites_pattern select none of the model's {Sites.Count} sites (the first is {Sites[0].Name})";
        }

        return Unbound(method) is IAffineMethod && Pass.WhyUntrainable(filter.Selects) is { } untrainable
            ? $"{method.Name} needs gradients from the class scores to its sites, and {untrainable}; use tbn, tbr or another method without gradients"
            : null;
    }

    /// <summary>Null, or what a user of the method should know on this model and what to do about it: that it is uncalibrated.</summary>
    public string? Caution(MethodSettings method) => Calibration is null && WhyUnavailable(method) is null && Unbound(method) is IPassMethod
        ? $"uncalibrated: {method.Name} assumes what is normal for the model and adapts only as far as predictions become surer; "
            + $"measure it with tta calibrate --model … --data FRAMES"
        : null;

    /// <summary>Bytes of state that a stream of this method keeps, its observed statistics included.</summary>
    /// <exception cref="MethodSettingsException">The method can't be made on this model.</exception>
    public long StateBytes(MethodSettings method) =>
        _states.ObservedBytes + MethodRuntime.FilterBytesOf(method, _states.Target)
            + sizeof(float) * (long)MethodRuntime.LayoutOf(method, MethodRuntime.Bind(method, _states.Target), Sites).RowFloats;

    /// <summary>A fresh stream state.</summary>
    /// <exception cref="MethodSettingsException">The method can't run on this model (see <see cref="WhyUnavailable"/>).</exception>
    /// <exception cref="ArenaFullException">No room for another resident stream; evict one.</exception>
    public StreamState CreateState(MethodSettings method, ulong seed = 0)
    {
        if (WhyUnavailable(method) is { } reason)
        {
            throw new MethodSettingsException(reason);
        }

        return _states.Create(method, seed);
    }

    /// <summary>Back to the initial state of the same seed.</summary>
    public void Reset(StreamState state)
    {
        _states.RequireLive(state);
        state.Steps = 0;
        state.Frames = 0;
        _states.Initialize(state);
    }

    /// <summary>Gives the state's memory back. Idempotent.</summary>
    public void Release(StreamState state) => _states.Release(state);

    /// <summary>Takes a stream out of memory: the snapshot holds its state until <see cref="Restore"/>.</summary>
    public byte[] Evict(StreamState state, DateTimeOffset now)
    {
        var snapshot = Export(state, now);
        _states.Release(state);
        return snapshot;
    }

    /// <summary>Brings an evicted stream back. A resident one stays as it is.</summary>
    /// <exception cref="SnapshotException">The snapshot is not this stream's; the stream stays evicted.</exception>
    /// <exception cref="ArenaFullException">No room for another resident stream; evict one.</exception>
    public void Restore(StreamState state, ReadOnlySpan<byte> snapshot)
    {
        if (state.IsResident)
        {
            return;
        }

        var content = StreamSnapshot.Check(snapshot, Digest, Methods);
        if (!content.Method.Equals(state.Method))
        {
            throw new SnapshotException($"the snapshot is of method {content.Method}, the stream's is {state.Method}");
        }

        _states.Fill(state, content, snapshot);
    }

    /// <summary>The state as safetensors (tta.stream.v1).</summary>
    public byte[] Export(StreamState state, DateTimeOffset created)
    {
        _states.RequireLive(state);
        return StreamSnapshot.Write(state, Pass.Observed, Digest, created);
    }

    /// <summary>The method of a snapshot of this model.</summary>
    /// <exception cref="SnapshotException">Not usable here; the message says why.</exception>
    public MethodSettings MethodOf(ReadOnlySpan<byte> snapshot) => StreamSnapshot.Check(snapshot, Digest, Methods).Method;

    /// <summary>A state from a snapshot.</summary>
    /// <exception cref="SnapshotException">Not usable here; the message says why.</exception>
    /// <exception cref="ArenaFullException">No room for another resident stream; evict one.</exception>
    public StreamState Import(ReadOnlySpan<byte> snapshot)
    {
        var content = StreamSnapshot.Check(snapshot, Digest, Methods);
        if (WhyUnavailable(content.Method) is { } reason)
        {
            throw new SnapshotException(reason);
        }

        return _states.Import(content, snapshot);
    }

    /// <summary>Runs steps of different streams in one forward pass, and one more when a step mixes frames that teach with frames
    /// that do not. Frames must share C, H, W. A step's state is committed only when the whole pass and its own statistics are finite.</summary>
    /// <param name="steps">At most one step of a stream.</param>
    /// <param name="between">Called on the CPU between the operators of a pass, so that a long one need not keep short ones waiting:
    /// may run steps of other streams that are resident, and must not throw. Null for nothing.</param>
    /// <returns>A result a step, in the order given.</returns>
    public IReadOnlyList<StepResult> Run(IReadOnlyList<StreamStep> steps, Action? between = null)
    {
        Check(steps);
        Pass.Times = default;
        Pass.Between = between;
        try
        {
            return ClipFrames == 1 ? _runs.Run(steps) : ClipSteps.FramesOf(_runs.Run([.. steps.Select(step => ClipSteps.Of(step, ClipFrames))]), ClipFrames);
        }
        finally
        {
            Pass.Between = null;
        }
    }

    /// <summary>Runs frames through the model as it was trained, beside any stream. Blocks share C, H, W.</summary>
    /// <returns>The model's outputs for all frames, in the order given.</returns>
    /// <exception cref="InvalidOperationException">The graph can't run frames of this size; the message says why.</exception>
    public IReadOnlyList<OutputTensor> RunSource(IReadOnlyList<FrameBlock> blocks) =>
        ClipFrames == 1 ? Pass.RunSource(blocks)
            : [.. Pass.RunSource([.. blocks.Select(block => block.AsClips(ClipFrames))]).Select(output => output.ForFrames(ClipFrames))];

    /// <summary>Gives the model's memory back. Idempotent.</summary>
    public void Dispose()
    {
        if (_isDisposed)
        {
            return;
        }

        _isDisposed = true;
        _states.Dispose();
        (_runner as IDisposable)?.Dispose();
        if (_torch.IsValueCreated && _torch.Value != _runner)
        {
            (_torch.Value as IDisposable)?.Dispose();
        }

        Pass.Dispose();
    }

    /// <summary>Runs steps with a plan that is being tried, in states of their own that are released behind the call.</summary>
    internal StepResult[] Trial(PassPlan plan, MethodSettings method, FrameBlock[] frames)
    {
        Pass.Plan = plan;
        return _states.Try(method, frames.Length, states =>
        {
            var steps = new StreamStep[frames.Length];
            for (var i = 0; i < steps.Length; i++)
            {
                steps[i] = new StreamStep(states[i], frames[i]);
            }

            var results = new StepResult[steps.Length];
            using var proposed = _runner.Run(steps, [.. Enumerable.Range(0, steps.Length)], results, PassForm.Adaptive);
            return results;
        });
    }

    private void Check(IReadOnlyList<StreamStep> steps)
    {
        ArgumentOutOfRangeException.ThrowIfZero(steps.Count);
        var first = steps[0].Frames;
        var seen = new HashSet<StreamState>(ReferenceEqualityComparer.Instance);
        foreach (var step in steps)
        {
            _states.RequireLive(step.State);
            var frames = step.Frames;
            if (!seen.Add(step.State))
            {
                throw new ArgumentException("a batch holds at most one step of a stream", nameof(steps));
            }

            if ((frames.Channels, frames.Height, frames.Width) != (first.Channels, first.Height, first.Width))
            {
                throw new ArgumentException("the frames of a batch share channels, height and width", nameof(steps));
            }

            if (WhyUnfit(frames) is { } reason)
            {
                throw new ArgumentException(reason, nameof(steps));
            }
        }
    }

    /// <summary>Null when frames of this shape fit the model's input, else what is expected.</summary>
    public string? WhyUnfit(FrameBlock frames)
    {
        var shape = InputShape;
        var fits = Fits(shape[1], frames.Channels) && Fits(shape[2], frames.Height) && Fits(shape[3], frames.Width)
            && (frames.Pixels.IsEmpty || frames.Channels == _encoding.Normalization.Mean.Length);
        if (fits && frames.Count % ClipFrames != 0)
        {
            return $"the model answers clips of {ClipFrames} frames, there are {frames.Count}; send whole clips, {ClipFrames} frames or a multiple in a step";
        }

        return fits
            ? null
            : $"frames are {frames.Channels}x{frames.Height}x{frames.Width} (channels x height x width), the model takes {Extent(shape[1])}x{Extent(shape[2])}x{Extent(shape[3])}";

        static bool Fits(long expected, int actual) => expected < 0 || expected == actual;

        static string Extent(long extent) => extent < 0 ? "any" : extent.ToString(CultureInfo.InvariantCulture);
    }

    private string? WhyUnfiltered(FilterDefinition filter) => ClassScores.Count(Scores) == 0
        ? $"{filter.Name} filters scores of classes that exclude each other, and the model answers none; use a method without a prediction filter"
        : filter.ReadsFeatures && Pass.Features == 0
            ? $"{filter.Name} reads the features that one layer computes the class scores from, and the graph of output '{Scores!.Name}' ends otherwise; "
                + "use temporal, or no prediction filter"
            : null;

    // For what is the same on any model, without what a method prepares for this one.
    private static INormalizationMethod Unbound(MethodSettings method) => method.Definition.Make(method, new MethodTarget([]));
}

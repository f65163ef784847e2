using System.Buffers;
using System.Diagnostics;
using System.Globalization;
using System.Numerics.Tensors;
using TorchSharp;
using TtaService.Engine.Answers;
using TtaService.Engine.Calibration;
using TtaService.Engine.Drift;
using TtaService.Engine.Normalization;
using TtaService.Engine.Onnx;
using TtaService.Engine.Streams;
using static TorchSharp.torch;
using Tensor = TorchSharp.torch.Tensor;

namespace TtaService.Engine.Execution;

/// <summary>A loaded model with per-stream adaptation. Not thread-safe: one thread owns it (see <see cref="InferenceEngine"/>).</summary>
public sealed class AdaptiveModel : IDisposable
{
    private const string Reexport = "export again with torch.onnx.export(model.eval(), ..., training=torch.onnx.TrainingMode.PRESERVE) (add dynamo=False from PyTorch 2.9 on)";

    private readonly ModelGraph _graph;
    private readonly torch.Device _device;
    private readonly InputEncoding _encoding;
    private readonly string _path;
    private readonly int? _labels;
    private readonly DetectionSettings _detection;
    private readonly FrameUpload _upload;
    private readonly IBatchRunner _runner;

    private readonly ArenaPool _arenas;
    private readonly Dictionary<MethodSettings, MethodRuntime> _runtimes = [];
    private readonly ulong _modelKey;
    private readonly bool _isForCalibration;
    private readonly PassThreads _threads;
    private readonly int _collapseFrames;
    private readonly HashSet<StreamState> _resident = new(ReferenceEqualityComparer.Instance);
    private MethodTarget _target;
    private Action? _between;
    private bool _isDisposed;

    private AdaptiveModel(string path, ModelGraph graph, InputEncoding encoding, ModelAnswer answer, torch.Device device, AdaptiveModelOptions options, ModelCalibration? calibration)
    {
        _isForCalibration = options.ForCalibration;
        var placed = graph.Sites.Where(site => site.Kind == SiteKind.Virtual).Select(site => site.Name).ToHashSet(StringComparer.Ordinal);
        IdleSites = [.. graph.VirtualSites.Where(site => !placed.Contains(site.Name))];
        _path = path;
        _graph = graph;
        _device = device;
        _encoding = encoding;
        _labels = options.Labels;
        _detection = options.Detection;
        (Answer, Scores) = (answer, ModelOutputs.Scores(answer.Outputs, _labels));
        _target = new MethodTarget(graph.Sites, calibration?.Classes ?? ClassScores.Count(Scores), calibration, Scores);
        InputShape = encoding.ImageShape(graph.Inputs[0].Shape);
        // The SIMD kernels are for float32 on the CPU; all else goes by torch operators.
        var onHost = device.type == DeviceType.CPU && options.Precision == Precision.Fp32 && !options.UsesTorchOperators;
        _upload = new FrameUpload(encoding, device, ElementType(options.Precision), staged: !onHost);
        _threads = new PassThreads(options.Threads, options.OwnsProcess);
        ArenaBytes = options.ArenaBytes ?? (DeviceMemory.FreeBytes(device) is { } free ? free / 4 : AdaptiveModelOptions.DefaultArenaBytes);
        _arenas = new ArenaPool(onHost ? null : device, ArenaBytes);
        Observed = options.Observation is { } observation && graph.Sites.Count > 0 ? new ObservedStatistics(graph.Sites, observation, _arenas) : null;
        Ranges = options.Learning is { } learning ? [.. graph.Sites.Select(site => new SiteRange(site, learning.Range))] : null;
        _collapseFrames = options.Learning?.CollapseFrames ?? 0;
        _runner = onHost ? new HostRunner(this) : new DeviceRunner(this, device);
        Filler = new FillerSteps(graph.Sites, onHost ? null : device);
        Plan = PassPlan.AsDeclared(graph);
        _modelKey = ulong.Parse((options.DrawsAs ?? graph.Digest).AsSpan(0, 16), NumberStyles.HexNumber, CultureInfo.InvariantCulture);
    }

    /// <summary>SHA-256 of the ONNX file, lower-case hex.</summary>
    public string Digest => _graph.Digest;

    /// <summary>The normalization sites, in execution order.</summary>
    public IReadOnlyList<NormalizationSite> Sites => _graph.Sites;

    /// <summary>Convolutions whose outputs a virtual site can normalize, in execution order; those of them that a calibration measured are among <see cref="Sites"/>, with its statistics.</summary>
    public IReadOnlyList<NormalizationSite> VirtualSites => _graph.VirtualSites;

    /// <summary>Of the virtual sites those that no calibration measured yet: they stay as they are.</summary>
    public IReadOnlyList<NormalizationSite> IdleSites { get; }

    /// <summary>What to do so that <see cref="IdleSites"/> adapt, too, in a sentence; null when there are none.</summary>
    public string? Advice => IdleSites.Count == 0 || _isForCalibration ? null
        : $"{IdleSites.Count} places where BatchNorm was folded{(Sites.Count > 0 ? $" (beside {Sites.Count} sites that adapt)" : string.Empty)} can adapt: "
            + $"run `tta calibrate --model MODEL --data FOLDER`{(Calibration is null ? string.Empty : " again")} ({Calibrator.MinFrames} unlabelled frames or more)";

    /// <summary>Shape of the model's image input: [N,C,H,W] whatever its layout is, -1 for a dynamic axis.</summary>
    public IReadOnlyList<long> InputShape { get; }

    /// <summary>How the input's axes lie in the graph.</summary>
    public InputLayout InputLayout => _encoding.Layout;

    /// <summary>The image input's name in the graph.</summary>
    public string InputName => _graph.Inputs[0].Name;

    /// <summary>The input's element type by its name in ONNX: FLOAT, UINT8, ….</summary>
    public string InputType => _graph.Inputs[0].ElementType;

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
    public ModelOutput? Scores { get; private set; }

    /// <summary>Names of the model's outputs.</summary>
    public IReadOnlyList<string> OutputNames => [.. _graph.Outputs.Select(output => output.Name)];

    /// <summary>Most bytes of memory that are held for states, free rows included.</summary>
    public long ArenaBytes { get; }

    /// <summary>Bytes of state that resident streams take now.</summary>
    public long ResidentBytes { get; private set; }

    /// <summary>Bytes of memory held for states: those of resident streams and rows that are free, for the next pass or, on a device, in the arena's tensor. Between passes it is <see cref="ArenaBytes"/> at most.</summary>
    public long HeldBytes => _arenas.Bytes;

    /// <summary>Streams whose state is resident.</summary>
    public int ResidentStreams => _resident.Count;

    /// <summary>The resident streams, to be read on the model's thread.</summary>
    public IReadOnlyCollection<StreamState> Resident => _resident;

    /// <summary>How the sites' inputs are observed; null when they are not.</summary>
    public ObservationOptions? Observation => Observed?.Options;

    /// <summary>What is normal for the model; null for an uncalibrated one, where <c>auto</c> runs its conservative form.</summary>
    public ModelCalibration? Calibration => _target.Calibration;

    /// <summary>Most frames that one pass of the graph takes; null for any number. Longer steps run in parts of that many frames, one after another, each adapting as a step of its own would; state and counters move once, behind the last.</summary>
    public int? FramesPerPass => Plan.FramesPerPass == PassPlan.Unlimited ? null : Plan.FramesPerPass;

    /// <summary>What of the model is served otherwise than one would expect, in sentences: frames per pass, sites that never adapt, outputs whose axes move.</summary>
    public IReadOnlyList<string> Notices { get; private set; } = [];

    internal ObservedStatistics? Observed { get; }

    /// <summary>How frames lie in the graph.</summary>
    internal PassPlan Plan { get; private set; }

    internal FillerSteps Filler { get; }

    /// <summary>What may be learned at each site; null when everything may.</summary>
    internal SiteRange[]? Ranges { get; }

    /// <summary>Where the time of the last <see cref="Run"/> went.</summary>
    public PassTimes RunTimes { get; private set; }

    /// <summary>Loads a model.</summary>
    /// <exception cref="ModelLoadException">The file, or its calibration, can't be used; the message lists why.</exception>
    public static AdaptiveModel Load(string onnxPath, AdaptiveModelOptions? options = null)
    {
        options ??= new AdaptiveModelOptions();
        if (options.OwnsProcess)
        {
            NativeHeap.KeepFreedMemory();
        }

        var device = ParseDevice(options.Device);
        var calibration = ReadCalibration(options);
        var graph = ModelGraph.Load(onnxPath, device, ElementType(options.Precision), place => options.ForCalibration ? place : calibration?.Place(place));
        if (graph.Inputs.Count != 1 || graph.Inputs[0].Shape.Count != 4)
        {
            var inputs = string.Join(", ", graph.Inputs.Select(input => $"{input.Name} [{string.Join(',', input.Shape)}]"));
            graph.Dispose();
            throw new ModelLoadException($"{onnxPath}: a vision model has one input [N,C,H,W]; this one has {inputs}");
        }

        AdaptiveModel model;
        try
        {
            var metadata = new ExporterMetadata(graph.Metadata);
            var encoding = InputEncoding.For(onnxPath, graph.Inputs[0], options.InputNormalization, options.Layout, metadata.Normalization);
            var hints = new AnswerHints(graph.Outputs, metadata, options.Labels, encoding.ImageShape(graph.Inputs[0].Shape), options.Detection);
            var answer = ModelOutputs.FromGraph(onnxPath, options.OutputKinds, hints);
            model = new AdaptiveModel(onnxPath, graph, encoding, answer, device, options, RequireFit(calibration, graph, answer.Outputs, options));
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
            var probe = new PassProbe(model, graph, options);
            (model.Plan, model.Notices) = probe.Find();
            model.Notices = model.Advice is { } advice ? [.. model.Notices, advice] : model.Notices;
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

    /// <summary>Runs frames one by one through the model as it was trained and holds what was decided about the outputs against what comes out.</summary>
    /// <param name="frames">Of the size that the model will be sent, not all alike.</param>
    /// <exception cref="ModelLoadException">Declared probabilities are none, or no output has as many classes as there are labels.</exception>
    public void Settle(FrameBlock frames)
    {
        var hints = new AnswerHints(_graph.Outputs, new ExporterMetadata(Metadata), _labels, [InputShape[0], frames.Channels, frames.Height, frames.Width], _detection);
        Answer = ModelOutputs.Settle(_path, Outputs, [.. Enumerable.Range(0, frames.Count).Select(frame => RunSource([frames.CopyFrame(frame)]))], hints);
        Scores = ModelOutputs.Scores(Outputs, _labels);
        var classes = ClassScores.Count(Scores);
        if (Calibration is { } calibration && calibration.Classes != classes)
        {
            throw new ModelLoadException($"{_path}: {OtherClasses(calibration, classes)}");
        }

        _target = _target with { Classes = classes, Scores = Scores };
    }

    /// <summary>Whether a site never adapts, because its rows are not the frames of a pass, one after another; <see cref="Notices"/> says so, too.</summary>
    public bool StaysAtSource(NormalizationSite site) => Plan.AtSource[site.Index];

    /// <summary>Null when the method can run on this model, else why not and what to do (a model whose BatchNormalization was folded away).</summary>
    public string? WhyUnavailable(MethodSettings method)
    {
        if (!Unbound(method).ReadsFrames)
        {
            return null;
        }

        if (_isForCalibration)
        {
            return $"the model is loaded to be calibrated and knows no source statistics for {method.Name} yet; load it with its calibration";
        }

        if (Sites.Count == 0)
        {
            return Advice is { } advice
                ? $"the model has no BatchNormalization nodes (exporters fold them into the convolutions), and it is not calibrated, so {method.Name} knows no source statistics. {advice}. Or {Reexport}, or use method source"
                : $"the model has no BatchNormalization nodes and no convolution whose output could be normalized instead, so there is nothing for {method.Name} to adapt. If its exporter folded BatchNormalization away, {Reexport}, or use method source";
        }

        var filter = new SiteFilter(method);
        return Sites.Any(filter.Selects)
            ? null
            : $"sites_first and sites_pattern select none of the model's {Sites.Count} sites (the first is {Sites[0].Name})";
    }

    /// <summary>Null, or what a user of the method should know on this model and what to do about it: that it is uncalibrated.</summary>
    public string? Caution(MethodSettings method) => Calibration is null && WhyUnavailable(method) is null && Unbound(method) is IPassMethod
        ? $"uncalibrated: {method.Name} assumes what is normal for the model and adapts only as far as predictions become surer; measure it with tta calibrate --model … --data FRAMES"
        : null;

    /// <summary>Bytes of state that a stream of this method keeps, its observed statistics included.</summary>
    public long StateBytes(MethodSettings method) =>
        ObservedBytes + sizeof(float) * (long)new StateLayout(Sites, MethodRuntime.Bind(method, _target), new SiteFilter(method)).RowFloats;

    /// <summary>A fresh stream state.</summary>
    /// <exception cref="MethodSettingsException">The method can't run on this model (see <see cref="WhyUnavailable"/>).</exception>
    /// <exception cref="ArenaFullException">No room for another resident stream; evict one.</exception>
    public StreamState CreateState(MethodSettings method, ulong seed = 0)
    {
        if (WhyUnavailable(method) is { } reason)
        {
            throw new MethodSettingsException(reason);
        }

        var state = new StreamState(method, seed, _collapseFrames);
        Admit(state);
        Initialize(state);
        return state;
    }

    /// <summary>Back to the initial state of the same seed.</summary>
    public void Reset(StreamState state)
    {
        RequireLive(state);
        state.Steps = 0;
        state.Frames = 0;
        Initialize(state);
    }

    /// <summary>Gives the state's memory back. Idempotent.</summary>
    public void Release(StreamState state)
    {
        if (state.Runtime is not { } runtime)
        {
            return;
        }

        runtime.Arena.Return(state.Row);
        runtime.Streams--;
        (state.Runtime, state.Row) = (null, -1);
        if (Observed is not null)
        {
            Observed.Arena.Return(state.ObservedRow);
            state.ObservedRow = -1;
        }

        _resident.Remove(state);
        ResidentBytes -= runtime.RowBytes + ObservedBytes;
        if (runtime.Streams == 0)
        {
            // Settings come from clients: what nobody uses any more must not stay.
            _runtimes.Remove(runtime.Settings);
            runtime.Dispose();
        }

        Compact(runtime.Arena);
        Compact(Observed?.Arena);
    }

    // Gives memory on a device back once most of its rows are free.
    private void Compact(StateArena? arena)
    {
        // An arena without rows in use is gone, but for that of the observations.
        if (arena is not DeviceArena { IsSparse: true } sparse || (sparse.Leased == 0 && sparse != Observed?.Arena))
        {
            return;
        }

        Tighten(sparse);
    }

    private void Tighten(DeviceArena arena)
    {
        // An arena may hold rows of both kinds.
        StreamState[] states = [.. _resident.Where(state => state.Runtime!.Arena == arena)];
        StreamState[] observed = Observed?.Arena == arena ? [.. _resident] : [];
        arena.Compact([.. states.Select(state => state.Row), .. observed.Select(state => state.ObservedRow)]);
        var place = 0;
        Array.ForEach(states, state => state.Row = place++);
        Array.ForEach(observed, state => state.ObservedRow = place++);
    }

    /// <summary>Takes a stream out of memory: the snapshot holds its state until <see cref="Restore"/>.</summary>
    public byte[] Evict(StreamState state, DateTimeOffset now)
    {
        var snapshot = Export(state, now);
        Release(state);
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

        var content = StreamSnapshot.Check(snapshot, Digest);
        if (!content.Method.Equals(state.Method))
        {
            throw new SnapshotException($"the snapshot is of method {content.Method}, the stream's is {state.Method}");
        }

        Fill(state, content, snapshot);
    }

    /// <summary>The state as safetensors (tta.stream.v1).</summary>
    public byte[] Export(StreamState state, DateTimeOffset created)
    {
        RequireLive(state);
        return StreamSnapshot.Write(state, Observed, Digest, created);
    }

    /// <summary>The method of a snapshot of this model.</summary>
    /// <exception cref="SnapshotException">Not usable here; the message says why.</exception>
    public MethodSettings MethodOf(ReadOnlySpan<byte> snapshot) => StreamSnapshot.Check(snapshot, Digest).Method;

    /// <summary>A state from a snapshot.</summary>
    /// <exception cref="SnapshotException">Not usable here; the message says why.</exception>
    /// <exception cref="ArenaFullException">No room for another resident stream; evict one.</exception>
    public StreamState Import(ReadOnlySpan<byte> snapshot)
    {
        var content = StreamSnapshot.Check(snapshot, Digest);
        if (WhyUnavailable(content.Method) is { } reason)
        {
            throw new SnapshotException(reason);
        }

        var state = new StreamState(content.Method, content.Seed, _collapseFrames);
        Fill(state, content, snapshot);
        return state;
    }

    /// <summary>Runs steps of different streams in one forward pass, and one more when a step mixes frames that teach with frames that do not. Frames must share C, H, W. A step's state is committed only when the whole pass and its own statistics are finite.</summary>
    /// <param name="steps">At most one step of a stream.</param>
    /// <param name="between">Called on the CPU between the operators of a pass, so that a long one need not keep short ones waiting: may run steps of other streams that are resident, and must not throw. Null for nothing.</param>
    /// <returns>A result a step, in the order given.</returns>
    public IReadOnlyList<StepResult> Run(IReadOnlyList<StreamStep> steps, Action? between = null)
    {
        Check(steps);
        RunTimes = default;
        _between = between;
        try
        {
            return RunSteps(steps);
        }
        finally
        {
            _between = null;
        }
    }

    private StepResult[] RunSteps(IReadOnlyList<StreamStep> steps)
    {
        var results = new StepResult[steps.Count];
        var marked = new MarkedSteps(steps);
        for (var i = 0; i < steps.Count; i++)
        {
            var frames = steps[i].Frames.Count;
            var together = PassSchedule.SmallestPart(frames, Plan.FramesPerPass);
            if (steps[i].State.Runtime!.Method.Refuses(together) is { } reason)
            {
                var parts = together == frames ? reason : $"the model takes {Plan.FramesPerPass} frame(s) a pass ({Plan.Reason}), so that of {frames} frames only {together} are normalized together: {reason}";
                results[i] = StepAnswers.Unchanged(steps[i].State, StepStatus.Refused, parts);
            }
        }

        // Frames that teach nothing go first: a step of which one part can't be answered must not have changed anything.
        RunParts(marked.Aside, results, observes: false);
        var aside = marked.Put(results);
        RunParts(marked.Taught, results, observes: true);
        marked.Join(results, aside);
        CheckForCollapse(steps, results);
        return results;
    }

    // The steps that are not null and have no result yet.
    private void RunParts(IReadOnlyList<StreamStep?> steps, StepResult?[] results, bool observes)
    {
        var plain = new List<int>();
        var adapted = new List<int>();
        for (var i = 0; i < steps.Count; i++)
        {
            if (steps[i] is { } step && results[i] is null)
            {
                // Without a site to adapt or to observe the folded graph answers, which is faster.
                (step.State.Runtime!.Method.ReadsFrames || (observes && step.Teaches && IsObservedNow(step.State)) ? adapted : plain).Add(i);
            }
        }

        // Nothing is committed before all steps have run: a call that throws has changed nothing.
        using var plainSteps = plain.Count > 0 ? _runner.Run(steps!, plain, results!, adapts: false) : null;
        using var adaptedSteps = adapted.Count > 0 ? _runner.Run(steps!, adapted, results!, adapts: true) : null;
        using var commit = TimeCommit();
        adaptedSteps?.Commit();
        // These have no states that could fail to move.
        plainSteps?.Commit();
        if (observes)
        {
            CountUnobserved(steps!, plain, adapted, results!);
        }
    }

    // A stream that has answered one class for long is compared with the source model now and then, and goes back to it when its own state is what makes it blind.
    private void CheckForCollapse(IReadOnlyList<StreamStep> steps, StepResult[] results)
    {
        var suspects = new List<(int Index, StreamStep Step)>();
        for (var i = 0; i < steps.Count && _collapseFrames > 0; i++)
        {
            var (step, state) = (steps[i], steps[i].State);
            if (results[i].Status != StepStatus.Ok || step.Freeze || step.NotLearned?.Any(reason => reason != NotLearnedReason.None) == true
                || state.Runtime!.Layout.RowFloats == 0 || results[i].Outputs is not [{ Shape: [_, > 1] }, ..])
            {
                continue;
            }

            state.Collapse.Observe(results[i].Outputs[0].Values, results[i].Outputs[0].Shape[1]);
            if (state.Collapse.Suspects)
            {
                var frames = step.Frames.Count <= _collapseFrames ? step.Frames : step.Frames.Copy([.. Enumerable.Range(0, _collapseFrames)]);
                suspects.Add((i, new StreamStep(state, frames, Freeze: true) { Teaches = false, ComparesFit = true }));
            }
        }

        if (suspects.Count == 0)
        {
            return;
        }

        var source = RunSource(suspects.ConvertAll(suspect => suspect.Step.Frames))[0];
        var (classes, at) = (source.Shape[1], 0);
        var contradicted = new List<(int Index, StreamStep Step)>();
        foreach (var suspect in suspects)
        {
            var floats = suspect.Step.Frames.Count * classes;
            if (suspect.Step.State.Collapse.Contradicts(source.Values.AsSpan(at, floats), classes))
            {
                contradicted.Add(suspect);
            }

            at += floats;
        }

        if (contradicted.Count == 0)
        {
            return;
        }

        var fresh = contradicted.ConvertAll(suspect => FreshTwin(suspect.Step.State));
        try
        {
            RunParts(contradicted.ConvertAll(suspect => suspect.Step), new StepResult[contradicted.Count], observes: false);
            RunParts([.. contradicted.Zip(fresh, (suspect, twin) => suspect.Step with { State = twin })], new StepResult[contradicted.Count], observes: false);
            foreach (var ((index, step), twin) in contradicted.Zip(fresh))
            {
                if (step.State.Collapse.HasCollapsed(step.State.Misfit, twin.Misfit))
                {
                    step.State.Frames = 0;
                    Initialize(step.State);
                    results[index] = results[index] with { Frames = 0, RolledBack = RollbackReason.Collapsed };
                }
            }
        }
        finally
        {
            fresh.ForEach(ReturnRows);
        }
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

    /// <summary>Gives the model's memory back. Idempotent.</summary>
    public void Dispose()
    {
        if (_isDisposed)
        {
            return;
        }

        _isDisposed = true;
        foreach (var runtime in _runtimes.Values)
        {
            runtime.Dispose();
        }

        _runtimes.Clear();
        Observed?.Dispose();
        Filler.Dispose();
        (_runner as IDisposable)?.Dispose();
        _upload.Dispose();
        _graph.Dispose();
    }

    // Gives the state a row, of undefined content.
    private void Admit(StreamState state)
    {
        if (!_runtimes.TryGetValue(state.Method, out var runtime))
        {
            runtime = new MethodRuntime(state.Method, _target, _modelKey, _arenas);
        }

        if (ResidentBytes + runtime.RowBytes + ObservedBytes > ArenaBytes)
        {
            if (runtime.Streams == 0)
            {
                runtime.Dispose();
            }

            throw new ArenaFullException(ResidentStreams, ResidentBytes, ArenaBytes);
        }

        // What is held is what counts: free rows of other sizes make room.
        if (Growth(runtime.Arena, runtime.Arena == Observed?.Arena ? 2 : 1) + (runtime.Arena == Observed?.Arena || Observed is null ? 0 : Growth(Observed.Arena, 1)) > _arenas.Room)
        {
            _arenas.Trim(Tighten);
        }

        _runtimes[state.Method] = runtime;
        (state.Runtime, state.Row) = (runtime, runtime.Arena.Rent(alsoNeeded: ObservedBytes));
        runtime.Streams++;
        state.ObservedRow = Observed?.Arena.Rent() ?? -1;
        _resident.Add(state);
        ResidentBytes += runtime.RowBytes + ObservedBytes;
    }

    private static long Growth(StateArena arena, int rows) => Math.Max(0, rows - arena.FreeRows) * arena.RowBytes;

    private void Initialize(StreamState state)
    {
        using (var row = state.Runtime!.Arena.Edit(state.Row))
        {
            state.Runtime.Initialize(row.Values, state.Seed);
        }

        ForgetObservation(state);
    }

    private long ObservedBytes => Observed?.RowBytes ?? 0;

    private void ForgetObservation(StreamState state)
    {
        state.ObservedFrames = 0;
        state.UnobservedSteps = 0;
        state.Collapse.Restart();
        state.Changes.Restart();
        if (Observed is not null)
        {
            using var row = Observed.Arena.Edit(state.ObservedRow);
            row.Values.Clear();
        }
    }

    // A method without statistics is observed in full until it has warmed up, then now and then: its folded graph shows nothing, and the other one costs more.
    private bool IsObservedNow(StreamState state) =>
        Observed is not null && (state.ObservedFrames < Observed.Options.Tau || state.UnobservedSteps + 1 >= Observed.Options.SourceInterval);

    private static void CountUnobserved(IReadOnlyList<StreamStep> steps, List<int> plain, List<int> adapted, StepResult[] results)
    {
        foreach (var index in plain.Where(index => results[index].Status == StepStatus.Ok))
        {
            steps[index].State.UnobservedSteps++;
        }

        foreach (var index in adapted.Where(index => results[index].Status == StepStatus.Ok))
        {
            steps[index].State.UnobservedSteps = 0;
        }
    }

    private void Fill(StreamState state, in StreamSnapshot.Checked content, ReadOnlySpan<byte> snapshot)
    {
        Admit(state);
        try
        {
            using (var row = state.Runtime!.Arena.Edit(state.Row))
            {
                if (StreamSnapshot.Lacks(content, Sites))
                {
                    state.Runtime.Initialize(row.Values, state.Seed);
                }
                else
                {
                    row.Values.Clear();
                }

                StreamSnapshot.Fill(content, snapshot, state.Runtime.Layout, Sites, row.Values);
            }

            ForgetObservation(state);
            if (Observed is not null)
            {
                using var row = Observed.Arena.Edit(state.ObservedRow);
                StreamSnapshot.FillObserved(content, snapshot, Observed.Layout, Sites, row.Values, state);
            }
        }
        catch (SnapshotException)
        {
            Release(state);
            throw;
        }

        state.Steps = content.Steps;
        state.Frames = content.Frames;
    }

    /// <summary>One pass of a batch that lies in the order of its blocks; the outputs are read, which waits for the device.</summary>
    /// <param name="blocks">Frames of one C, H, W.</param>
    /// <param name="frames">How many they are.</param>
    /// <param name="pass">What normalizes at the sites, given the threads; null from it for the folded graph.</param>
    internal OutputTensor[] Forward(FrameBlock[] blocks, int frames, Func<int, ISiteNormalizer?> pass) =>
        _threads.Run((long)frames * blocks[0].Height * blocks[0].Width, threads => Forward(blocks, frames, pass(threads)));

    // Internal for the benchmarks, which run the same graph with other normalizers.
    internal OutputTensor[] Forward(FrameBlock[] blocks, int frames, ISiteNormalizer? pass)
    {
        using var scope = NewDisposeScope();
        using var mode = inference_mode();
        var began = Stopwatch.GetTimestamp();
        var input = _upload.Upload(blocks, frames);
        var uploaded = Stopwatch.GetTimestamp();
        var outputs = _graph.Run([input], pass, _between is null || _runner is not HostRunner ? null : GiveWay);
        var read = new OutputTensor[outputs.Length];
        for (var i = 0; i < read.Length; i++)
        {
            var output = Plan.Outputs[i].FramesFirst(_graph.Outputs[i].Name, outputs[i], frames);
            var shape = output.shape;
            var values = output.to_type(ScalarType.Float32).cpu().contiguous();
            read[i] = new OutputTensor(_graph.Outputs[i].Name, Array.ConvertAll(shape, extent => checked((int)extent)), values.data<float>().ToArray());
        }

        RunTimes += new PassTimes(Stopwatch.GetElapsedTime(began, uploaded), Stopwatch.GetElapsedTime(uploaded), TimeSpan.Zero);
        return read;
    }

    // Others run in here: what is the running pass's own is put back behind them.
    private void GiveWay()
    {
        var (between, times) = (_between!, RunTimes);
        _between = null;
        _threads.Aside(between);
        (_between, RunTimes) = (between, times);
    }

    /// <summary>Frames that fill a pass of so many up.</summary>
    internal int Filled(int frames) => Plan.Computed(frames) - frames;

    /// <summary>Runs frames through the graph as it is, for <see cref="PassProbe"/>.</summary>
    internal Tensor[] Trial(FrameBlock[] blocks, ISiteNormalizer? sites)
    {
        using var alone = _threads.Alone();
        return _graph.Run([_upload.Upload(blocks, blocks.Sum(block => block.Count))], sites);
    }

    /// <summary>Runs steps with a plan that is being tried, in states of their own that are released behind the call.</summary>
    internal StepResult[] Trial(PassPlan plan, MethodSettings method, FrameBlock[] frames)
    {
        Plan = plan;
        using var runtime = new MethodRuntime(method, _target, _modelKey, _arenas);
        var steps = Array.ConvertAll(frames, block =>
        {
            var state = new StreamState(method, 0, _collapseFrames) { Runtime = runtime, Row = runtime.Arena.Rent(), ObservedRow = Observed?.Arena.Rent() ?? -1 };
            Initialize(state);
            return new StreamStep(state, block);
        });
        try
        {
            var results = new StepResult[steps.Length];
            using var proposed = _runner.Run(steps, [.. Enumerable.Range(0, steps.Length)], results, adapts: true);
            return results;
        }
        finally
        {
            foreach (var step in steps)
            {
                runtime.Arena.Return(step.State.Row);
                Observed?.Arena.Return(step.State.ObservedRow);
            }
        }
    }

    // What a stream would go back to, beside the resident streams and for one call.
    private StreamState FreshTwin(StreamState state)
    {
        var twin = new StreamState(state.Method, state.Seed, collapseFrames: 0) { Runtime = state.Runtime, Row = state.Runtime!.Arena.Rent(), ObservedRow = Observed?.Arena.Rent() ?? -1 };
        Initialize(twin);
        return twin;
    }

    private void ReturnRows(StreamState twin)
    {
        twin.Runtime!.Arena.Return(twin.Row);
        Observed?.Arena.Return(twin.ObservedRow);
    }

    /// <summary>Counts the time until it is disposed as that of committing.</summary>
    internal CommitTimer TimeCommit() => new(this);

    private void Check(IReadOnlyList<StreamStep> steps)
    {
        ArgumentOutOfRangeException.ThrowIfZero(steps.Count);
        var first = steps[0].Frames;
        var seen = new HashSet<StreamState>(ReferenceEqualityComparer.Instance);
        foreach (var step in steps)
        {
            RequireLive(step.State);
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
        return fits
            ? null
            : $"frames are {frames.Channels}x{frames.Height}x{frames.Width} (channels x height x width), the model takes {Extent(shape[1])}x{Extent(shape[2])}x{Extent(shape[3])}";

        static bool Fits(long expected, int actual) => expected < 0 || expected == actual;

        static string Extent(long extent) => extent < 0 ? "any" : extent.ToString(CultureInfo.InvariantCulture);
    }

    private void RequireLive(StreamState state)
    {
        if (!state.IsResident)
        {
            throw new InvalidOperationException("the stream's state is not resident: it was released or evicted");
        }

        if (!_runtimes.TryGetValue(state.Method, out var runtime) || !ReferenceEquals(runtime, state.Runtime))
        {
            throw new ArgumentException("the state belongs to another model", nameof(state));
        }
    }

    // For what is the same on any model, without what a method prepares for this one.
    private static INormalizationMethod Unbound(MethodSettings method) => NormalizationMethods.Find(method.Name)!.Create(method, new MethodTarget([]));

    private static ModelCalibration? ReadCalibration(AdaptiveModelOptions options)
    {
        try
        {
            return options.ForCalibration ? null : options.Calibration ?? (options.CalibrationPath is { } path ? ModelCalibration.Read(path) : null);
        }
        catch (CalibrationException unfit)
        {
            throw new ModelLoadException(unfit.Message, unfit);
        }
    }

    private static string OtherClasses(ModelCalibration calibration, int classes) => $"the calibration is of {calibration.Classes} classes, the model answers {classes}; calibrate again with tta calibrate";

    private static ModelCalibration? RequireFit(ModelCalibration? calibration, ModelGraph graph, IReadOnlyList<ModelOutput> outputs, AdaptiveModelOptions options)
    {
        if (calibration is null)
        {
            return null;
        }

        var (declared, reason) = (ClassScores.Count(ModelOutputs.Scores(outputs, options.Labels)), calibration.WhyUnfit(graph.Digest, graph.Sites));
        reason ??= declared > 0 && declared != calibration.Classes ? OtherClasses(calibration, declared) : null;
        return reason is null ? calibration : throw new CalibrationException(options.CalibrationPath is { } file && options.Calibration is null ? $"{file}: {reason}" : reason);
    }

    private static ScalarType ElementType(Precision precision) => precision == Precision.Bf16 ? ScalarType.BFloat16 : ScalarType.Float32;

    private static torch.Device ParseDevice(string name)
    {
        try
        {
            if (!name.StartsWith("cuda", StringComparison.Ordinal))
            {
                return torch.device(name);
            }

            // Asked first: a device can't even be named without its backend.
            var count = cuda.is_available() ? cuda.device_count() : 0;
            if (count == 0)
            {
                throw new ModelLoadException($"device '{name}' needs a libtorch with CUDA and a GPU; build with -p:Torch=cuda, or use device cpu");
            }

            var device = torch.device(name);
            return device.index < count ? device : throw new ModelLoadException($"device '{name}' is not there: this process sees {count} GPU(s), cuda:0 to cuda:{count - 1}");
        }
        catch (Exception e) when (e is ArgumentException or FormatException)
        {
            throw new ModelLoadException($"device '{name}' is not known; use cpu or cuda:N", e);
        }
    }

    /// <summary>Adds its life to the commit time of the run.</summary>
    internal readonly ref struct CommitTimer(AdaptiveModel model)
    {
        private readonly long _began = Stopwatch.GetTimestamp();

        public void Dispose() => model.RunTimes += new PassTimes(TimeSpan.Zero, TimeSpan.Zero, Stopwatch.GetElapsedTime(_began));
    }
}

using System.Buffers;
using System.Numerics.Tensors;
using TtaService.Engine.Calibration;
using TtaService.Engine.Execution;
using TtaService.Engine.Streams;
using Tensor = TorchSharp.torch.Tensor;

namespace TtaService.Engine.Normalization.Auto;

/// <summary>Adapts by what a stream's frames differ from calibrated source frames, as far as the difference exceeds what their number and the classes in them explain.</summary>
/// <remarks>Before a pass the running moments are freed of what the predicted classes explain (<see cref="Composition"/>) and gated (<see cref="ShiftGate"/>); at a site
/// a step's and a frame's own
/// moments enter where classes can't explain them (<see cref="StepGate"/>); behind the pass a change of the camera is noticed (<see cref="MomentCusum"/>), the moments
/// move, predictions are believed while the
/// shift is small (<see cref="CompositionTrust"/>), the whole is held against the source's own predictions (<see cref="SourceTrust"/>), the answer is filtered in
/// time (<see cref="TemporalFilter"/>), and while predictions are guesses the source answers (<see cref="PredictionDoubt"/>).
/// State per site: auto_mean [C], auto_var [C], auto_variety [1]; per stream <see cref="AutoLayout"/>; float32. Without a calibration the source statistics stand for it,
/// and adapting must earn its trust.</remarks>
internal sealed class AutoMethod : IPassMethod, ISpanMethod, IDisposable
{
    // Of the imbalance of a model whose classes are not known: what ordinary streams have.
    private const float UnknownImbalance = 0.25f;
    private const float ImbalanceGain = 3;
    private const float LongestMemory = 1280;
    private const float InitialVariety = 0.5f;
    private const float InitialFilterFrames = 16;
    private const int CoarsePixels = 16;
    private const int Trusting = 2;

    private readonly IReadOnlyList<NormalizationSite> _sites;
    private readonly AutoPassLayout _pass;
    private readonly AutoLayout _layout;
    private readonly SiteNormal[] _normals;
    private readonly SiteNormal[] _coarse;
    private readonly bool _isCalibrated;
    private readonly bool _filters;
    private readonly bool _guards;
    private readonly OutputKind _kind;
    private readonly float[] _prior;
    private readonly float _classShare;
    private readonly float _usualEntropy;

    // Seen at the first pass; without a calibration the pixels of a site decide what is usual there.
    private readonly bool[] _isCoarse;

    // By site, where the model is on a device.
    private readonly AutoTensors?[] _tensors;

    public AutoMethod(MethodSettings settings, MethodTarget target)
    {
        var calibration = target.Calibration;
        _isCalibrated = calibration is not null;
        _filters = settings.Text("filter") == "on";
        _guards = settings.Text("guard") == "on";
        _kind = target.Scores?.Kind ?? OutputKind.Logits;
        _sites = calibration is null ? target.Sites : [.. target.Sites.Where(site => calibration.Sites.ContainsKey(site.Name))];
        _normals = [.. _sites.Select((site, i) => calibration is null
            ? SiteNormal.Assumed(site, i, _sites.Count, isCoarse: false)
            : SiteNormal.Calibrated(site, calibration.Sites[site.Name]))];
        _coarse = calibration is null ? [.. _sites.Select((site, i) => SiteNormal.Assumed(site, i, _sites.Count, isCoarse: true))] : _normals;
        _isCoarse = new bool[_sites.Count];
        _tensors = new AutoTensors?[_sites.Count];
        _prior = ClassScores.Prior(target.Classes, calibration);
        _usualEntropy = calibration?.Entropy is { Length: > 0 } entropy && entropy[^1] > 0 ? TensorPrimitives.Average<float>(entropy) : PredictionDoubt.UsualEntropy;
        _layout = new AutoLayout(_prior.Length);
        _pass = new AutoPassLayout(_sites);
        _classShare = _normals.Length == 0 ? 0 : _normals.Average(normal => normal.ClassShare);
    }

    public static MethodDefinition Definition { get; } = new(
        "auto",
        "Adapts as far as a stream differs from calibrated source frames beyond what its classes and their number explain, and filters predictions in time.",
        "of our own: James-Stein gate, class-conditional moments, CUSUM, hidden Markov filter",
        [
            Hyperparameter.Choice("filter", "Whether answers are filtered in time; off: each frame's own prediction.", "on", "off"),
            Hyperparameter.Choice("guard", "Whether the source answers while the adapted predictions are guesses; off: the adapted answer in any case.", "on", "off"),
        ],
        (settings, target) => new AutoMethod(settings, target))
    {
        RefusesFilter = filter => $"puts {filter} behind auto, which filters predictions itself; write auto, or another method in front of {filter}",
    };

    public bool ReadsFrames => true;

    public IReadOnlyList<StateTensor> StreamState => _layout.Tensors;

    public int BegunFloats => _pass.BegunFloats;

    public int KeptFloats(int frames) => _pass.KeptFloats(frames);

    public int SourceFrames(int frames, long framesBefore) => _layout.Classes == 0 ? 0 : SourceTrust.FramesOf(frames, framesBefore);

    public int SourceFrames(in PassStep step, ReadOnlySpan<float> scores, int planned)
    {
        var stream = step.StreamState;
        if (PredictionDoubt.Rests(stream[AutoLayout.Doubt]))
        {
            return 0;
        }

        var classes = _layout.Classes;
        if (!_guards || classes == 0 || scores.Length != step.Frames * classes)
        {
            return planned;
        }

        var rented = ArrayPool<float>.Shared.Rent(scores.Length + (2 * classes));
        try
        {
            var probabilities = rented.AsSpan(0, scores.Length);
            var mean = rented.AsSpan(scores.Length, classes);
            var own = rented.AsSpan(scores.Length + classes, classes);
            Span<float> doubt = stackalloc float[PredictionDoubt.Floats];
            stream[AutoLayout.Doubt].CopyTo(doubt);
            stream[_layout.DoubtPredictions].CopyTo(own);
            ClassScores.ToProbabilities(_kind, scores, classes, probabilities);
            ClassScores.Mean(probabilities, mean);
            return !PredictionDoubt.Observe(probabilities, mean, _usualEntropy, doubt, own) ? planned
                : TellsMoreThanSource(stream, doubt, own) ? Math.Max(planned, SourceTrust.FramesOf(step.Frames, step.FramesBefore, SourceTrust.SuspectInterval))
                : step.Frames;
        }
        finally
        {
            ArrayPool<float>.Shared.Return(rented);
        }
    }

    public IReadOnlyList<StateTensor> StateAt(NormalizationSite site) =>
        _pass.Slot(site) < 0 ? [] : [new("auto_mean", [site.Channels]), new("auto_var", [site.Channels]), new("auto_variety", [1])];

    public void Initialize(NormalizationSite site, SiteSeed seed, Span<float> state)
    {
        if (_pass.Slot(site) is >= 0 and var slot)
        {
            _normals[slot].Mean.CopyTo(state);
            _normals[slot].Variance.CopyTo(state[site.Channels..]);
            state[2 * site.Channels] = InitialVariety;
        }
    }

    public void InitializeStream(Span<float> state)
    {
        state.Clear();
        state[AutoLayout.Clock] = 1;
        state[AutoLayout.UsualDistance] = 1;
        state[AutoLayout.SourceTrust] = _isCalibrated || _layout.Classes == 0 ? 1 : SourceTrust.Initial;
        state[AutoLayout.FilterFrames] = InitialFilterFrames;
        foreach (var range in new[] { _layout.Predictions, _layout.Composition, _layout.FilterPredictions })
        {
            _prior.CopyTo(state[range]);
        }

        for (var j = 0; j < TemporalFilter.Experts; j++)
        {
            _prior.CopyTo(state[_layout.Belief][(j * _layout.Classes)..]);
        }
    }

    public void Begin(in PassStep step)
    {
        var stream = step.StreamState;
        var clock = stream[AutoLayout.Clock];
        var chi = _layout.Classes == 0 ? UnknownImbalance : Composition.Imbalance(stream[_layout.Predictions], _prior);
        step.Begun[AutoPassLayout.Correlation] = ClassCorrelation.FromEvidence(TensorPrimitives.Max(stream[AutoLayout.Evidence]));
        step.Begun[AutoPassLayout.Imbalance] = Math.Min(1, ImbalanceGain * chi);
        step.Begun[AutoPassLayout.Trust] = PredictionDoubt.Rests(stream[AutoLayout.Doubt]) ? 0 : stream[AutoLayout.SourceTrust];
        // What is normal was measured, or a stream can't show that it is.
        step.Begun[AutoPassLayout.FrameTolerance] = _isCalibrated ? StepGate.FrameTolerance(stream[AutoLayout.UsualDistance], step.FramesBefore) : 1;
        step.Begun[AutoPassLayout.IsFirst] = step.FramesBefore == 0 ? 1 : 0;

        var channels = _pass.MostChannels;
        var rented = ArrayPool<float>.Shared.Rent(_layout.Classes + channels + (2 * _sites.Count));
        try
        {
            var shift = rented.AsSpan(0, _layout.Classes);
            var scratch = rented.AsSpan(_layout.Classes, channels);
            var weights = rented.AsSpan(_layout.Classes + channels, _sites.Count);
            TensorPrimitives.Subtract(stream[_layout.Composition], _prior, shift);
            for (var i = 0; i < _sites.Count; i++)
            {
                var (normal, c) = (Normal(i), _sites[i].Channels);
                var own = step.State[step.Layout.At(_sites[i]).Offset..];
                var mean = _pass.ExpectedMean(step.Begun, i);
                var variance = _pass.ExpectedVariance(step.Begun, i);
                Composition.Remove(normal, shift, own[..c], own.Slice(c, c), mean, variance, scratch[..c]);
                weights[i] = ShiftGate.Weight(normal.Distance(mean, normal.Mean, variance, normal.Variance), clock, normal.ClassNoise * chi);
            }

            ShiftGate.LimitToMedian(weights, rented.AsSpan(_layout.Classes + channels + _sites.Count));
            for (var i = 0; i < _sites.Count; i++)
            {
                // e = mu + w (Mc - mu),  s = V0 + w (Vc - V0)
                var normal = Normal(i);
                TowardsNormal(_pass.ExpectedMean(step.Begun, i), normal.Mean, weights[i]);
                TowardsNormal(_pass.ExpectedVariance(step.Begun, i), normal.Variance, weights[i]);
                step.Begun[_pass.UncertaintyAt(i)] = weights[i] / (clock + 1);
            }
        }
        finally
        {
            ArrayPool<float>.Shared.Return(rented);
        }
    }

    public void Forward(in SiteStep step)
    {
        if (_pass.Slot(step.Site) is not (>= 0 and var slot))
        {
            step.UseSource();
            return;
        }

        // One value a channel has no variance of its own, and its mean is all class.
        var kept = _pass.KeptAt(step.Kept, slot, step.Frames);
        kept[AutoPassLayout.WasMeasured] = step.Spatial && step.Pixels > 1 ? 1 : 0;
        if (kept[AutoPassLayout.WasMeasured] == 0)
        {
            step.UseSource();
            return;
        }

        AutoSite.Normalize(step, Normal(slot, step.Pixels), step.Begun[..AutoPassLayout.HeaderFloats], _pass.BegunAt(step.Begun, slot), kept);
    }

    public (Tensor Mean, Tensor Variance) Forward(SiteTensors steps)
    {
        if (_pass.Slot(steps.Site) is not (>= 0 and var slot) || !steps.Spatial || steps.Pixels == 1)
        {
            return steps.Source;
        }

        var normal = Normal(slot, steps.Pixels);
        if (_tensors[slot]?.Normal != normal)
        {
            _tensors[slot]?.Dispose();
            _tensors[slot] = new AutoTensors(normal, steps.InstanceMean.device);
        }

        return _tensors[slot]!.Normalize(steps, _pass, slot);
    }

    public bool Complete(in PassStep step, Span<float> scores, ReadOnlySpan<float> sourceScores)
    {
        step.State.CopyTo(step.NextState);
        var stream = step.NextStreamState;
        if (PredictionDoubt.Rests(stream[AutoLayout.Doubt]))
        {
            PredictionDoubt.Rest(stream[AutoLayout.Doubt]);
            return false;
        }

        var apart = FirstSitesDistance(step);
        if (MomentCusum.Suspends(apart, step.Frames, stream[AutoLayout.Clock], ref stream[AutoLayout.Change], stream[AutoLayout.UsualDistance]))
        {
            return false;
        }

        var clock = MomentCusum.Update(apart, step.Frames, stream[AutoLayout.Clock], ref stream[AutoLayout.Change], ref stream[AutoLayout.UsualDistance]);
        clock = Math.Min(clock + step.Frames, LongestMemory);
        stream[AutoLayout.Clock] = clock;
        var rate = Math.Min(1, step.Frames / clock);
        var (distance, variety) = MoveMoments(step, rate, clock);
        return _layout.Classes > 0 && scores.Length == step.Frames * _layout.Classes
            && MovePredictions(step.Frames, stream, rate, CompositionTrust.Of(distance, variety), variety, scores, sourceScores);
    }

    public void Dispose()
    {
        foreach (var tensors in _tensors)
        {
            tensors?.Dispose();
        }
    }

    private static void TowardsNormal(Span<float> moments, ReadOnlySpan<float> normal, float weight)
    {
        if (weight == 0)
        {
            normal.CopyTo(moments);
            return;
        }

        TensorPrimitives.Subtract(moments, normal, moments);
        TensorPrimitives.MultiplyAdd(moments, weight, normal, moments);
    }

    private bool TellsMoreThanSource(ReadOnlySpan<float> stream, ReadOnlySpan<float> doubt, ReadOnlySpan<float> own) =>
        PredictionDoubt.TellsMoreThanSource(doubt, own, stream[AutoLayout.SourceFrames], stream[AutoLayout.SourceEntropy], stream[_layout.SourcePredictions]);

    private SiteNormal Normal(int slot) => _isCoarse[slot] ? _coarse[slot] : _normals[slot];

    private SiteNormal Normal(int slot, int pixels)
    {
        _isCoarse[slot] = pixels <= CoarsePixels;
        return Normal(slot);
    }

    private float FirstSitesDistance(in PassStep step)
    {
        var (sum, count) = (0f, 0);
        for (var i = 0; i < Math.Min(MomentCusum.Sites, _sites.Count); i++)
        {
            var kept = _pass.KeptAt(step.Kept, i, step.Frames);
            if (kept[AutoPassLayout.WasMeasured] != 0)
            {
                sum += FramesDistance(step, i, kept);
                count++;
            }
        }

        return count == 0 ? 1 : sum / count;
    }

    // Mean over frames of D(m - M, v - (V - fv)).
    private float FramesDistance(in PassStep step, int slot, ReadOnlySpan<float> kept)
    {
        var (normal, c) = (Normal(slot), _sites[slot].Channels);
        var own = step.State[step.Layout.At(_sites[slot]).Offset..];
        var rented = ArrayPool<float>.Shared.Rent(c);
        var within = rented.AsSpan(0, c);
        TensorPrimitives.Subtract(own.Slice(c, c), normal.MeanVariance, within);
        var sum = 0f;
        for (var frame = 0; frame < step.Frames; frame++)
        {
            sum += normal.Distance(AutoPassLayout.Mean(kept, c, frame), own[..c], AutoPassLayout.Variance(kept, c, step.Frames, frame), within);
        }

        ArrayPool<float>.Shared.Return(rented);
        return sum / step.Frames;
    }

    // Every site's running moments; how far the two furthest sites are from the source, in class units, and v.
    private (float Distance, float Variety) MoveMoments(in PassStep step, float rate, float clock)
    {
        var (first, second, varieties, measured) = (0f, 0f, 0f, 0);
        for (var i = 0; i < _sites.Count; i++)
        {
            var kept = _pass.KeptAt(step.Kept, i, step.Frames);
            var own = step.NextState[step.Layout.At(_sites[i]).Offset..];
            ref var variety = ref own[2 * _sites[i].Channels];
            if (kept[AutoPassLayout.WasMeasured] == 0)
            {
                continue;
            }

            var distance = AutoSite.Move(Normal(i), kept, step.Frames, rate, clock, own, ref variety);
            (first, second) = distance > first ? (distance, first) : (first, Math.Max(second, distance));
            varieties += variety;
            measured++;
        }

        return measured == 0
            ? (0, 1)
            : ((first + second) / Math.Min(Trusting, measured), CompositionTrust.Variety(varieties / measured, _classShare));
    }

    private bool MovePredictions(int frames, Span<float> stream, float rate, float trust, float variety, Span<float> scores, ReadOnlySpan<float> sourceScores)
    {
        var classes = _layout.Classes;
        var rented = ArrayPool<float>.Shared.Rent((2 * scores.Length) + sourceScores.Length + (2 * classes));
        try
        {
            var probabilities = rented.AsSpan(0, scores.Length);
            var answer = rented.AsSpan(scores.Length, scores.Length);
            var source = rented.AsSpan(2 * scores.Length, sourceScores.Length);
            var mean = rented.AsSpan((2 * scores.Length) + sourceScores.Length, classes);
            var believed = rented.AsSpan((2 * scores.Length) + sourceScores.Length + classes, classes);
            ClassScores.ToProbabilities(_kind, scores, classes, probabilities);
            ClassScores.Mean(probabilities, mean);

            // qc takes the predictions as they were believed when they came.
            _prior.CopyTo(believed);
            TemporalFilter.Blend(believed, mean, trust);
            TemporalFilter.Blend(stream[_layout.Composition], believed, rate);
            TemporalFilter.Blend(stream[_layout.Predictions], mean, rate);
            // Decided by what was known of the source before this step, as it was when the source was asked.
            var doubt = stream[AutoLayout.Doubt];
            var doubts = _guards && PredictionDoubt.Observe(probabilities, mean, _usualEntropy, doubt, stream[_layout.DoubtPredictions])
                && !TellsMoreThanSource(stream, doubt, stream[_layout.DoubtPredictions]) && sourceScores.Length == scores.Length;
            PredictionDoubt.Count(doubts, frames, doubt);
            if (!source.IsEmpty)
            {
                ClassScores.ToProbabilities(_kind, sourceScores, classes, source);
                SourceTrust.Observe(_layout, source, probabilities[..source.Length], stream);
            }

            if (_isCalibrated)
            {
                stream[AutoLayout.SourceTrust] = SourceTrust.FromImbalance(_layout, stream, _prior, variety, trust, frames);
            }
            else if (!source.IsEmpty)
            {
                stream[AutoLayout.SourceTrust] = SourceTrust.FromEntropy(_layout, stream);
            }

            // Run in any case: the class correlation of the stream comes from the filter's evidence.
            TemporalFilter.Run(_layout, stream, _prior, trust, probabilities, mean, answer);
            if (doubts)
            {
                sourceScores.CopyTo(scores);
                return true;
            }

            if (_filters)
            {
                ClassScores.FromProbabilities(_kind, answer, scores);
            }

            return _filters;
        }
        finally
        {
            ArrayPool<float>.Shared.Return(rented);
        }
    }
}

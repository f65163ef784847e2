using TtaService.Engine.Drift;
using TtaService.Engine.Execution;
using TtaService.Engine.Normalization;
using TtaService.Engine.Streams;

namespace TtaService.Engine.Tests.Drift;

/// <summary>The SIMD path of the CPU.</summary>
public sealed class HostObservedStatisticsTests() : ObservedStatisticsTests(usesTorchOperators: false);

/// <summary>The path of other devices, in torch operators, on the CPU.</summary>
public sealed class DeviceObservedStatisticsTests() : ObservedStatisticsTests(usesTorchOperators: true);

public abstract class ObservedStatisticsTests(bool usesTorchOperators) : IDisposable
{
    private const int Side = 32;
    private const int Tau = 24;

    private static readonly string Model = Path.Combine(AppContext.BaseDirectory, "Data", "onnx", "bottleneck_opset17.onnx");
    private static readonly string[] Methods = [.. MethodRegistry.BuiltIn.All.Select(method => method.Name)];

    private readonly AdaptiveModel _model = AdaptiveModel.Load(
        Model, new AdaptiveModelOptions { Observation = new ObservationOptions { Tau = Tau, SourceInterval = 1 }, UsesTorchOperators = usesTorchOperators });

    [Fact]
    public void Observe_EveryMethodInOneBatch_EqualsAStraightforwardAverageOfTheFrames()
    {
        var random = new Random(1);
        var states = Array.ConvertAll(Methods, method => _model.CreateState(Settings(method)));
        var frames = Array.ConvertAll(Methods, _ => new List<float[]>());
        for (var step = 0; step < 9; step++)
        {
            // Different numbers of frames, so that a wrong place in the batch shows.
            var steps = states.Select((state, i) => new StreamStep(state, Frames(random, 4 + ((i + step) % 3), i, frames[i]))).ToList();
            Assert.All(_model.Run(steps), result => Assert.Equal(StepStatus.Ok, result.Status));
        }

        for (var i = 0; i < states.Length; i++)
        {
            var snapshot = _model.Export(states[i], default);
            var content = Safetensors.Read(snapshot);
            var first = _model.Sites[0];
            Assert.Equal(frames[i].Count, states[i].ObservedFrames);
            // What the first site sees does not depend on the method, so it is computed here from the frames alone.
            var (mean, variance) = Expected(frames[i], first);
            Close.Assert(mean, Tensor(content, snapshot, $"{first.Name}.observed_mean", first.Channels), 1e-4, $"{Methods[i]} mean");
            Close.Assert(variance, Tensor(content, snapshot, $"{first.Name}.observed_var", first.Channels), 1e-3, $"{Methods[i]} variance");
        }
    }

    [Fact]
    public void Observe_FramesOneByOneOrTogether_AgreeForSource()
    {
        var random = new Random(2);
        var (single, whole) = (_model.CreateState(Settings("source")), _model.CreateState(Settings("source")));
        var all = new List<float[]>();
        var block = Frames(random, 12, 1, all);
        foreach (var frame in all)
        {
            _model.Run([new StreamStep(single, FrameBlock.FromValues(frame, 1, 3, Side, Side))]);
        }

        _model.Run([new StreamStep(whole, block)]);
        var (expected, actual) = (_model.Export(single, default), _model.Export(whole, default));
        foreach (var name in Safetensors.Read(expected).Names)
        {
            Close.Assert(All(expected, name), All(actual, name), 2e-4, name);
        }
    }

    [Fact]
    public void Source_AfterTheWarmUp_IsObservedNowAndThenAndAnswersTheSame()
    {
        using var rare = AdaptiveModel.Load(
            Model, new AdaptiveModelOptions { Observation = new ObservationOptions { Tau = 8, SourceInterval = 4 }, UsesTorchOperators = usesTorchOperators });
        using var plain = AdaptiveModel.Load(Model, new AdaptiveModelOptions { UsesTorchOperators = usesTorchOperators });
        var (watched, unwatched) = (rare.CreateState(Settings("source")), plain.CreateState(Settings("source")));
        var random = new Random(3);
        for (var step = 0; step < 10; step++)
        {
            var frames = Frames(random, 4, 0, []);
            var expected = plain.Run([new StreamStep(unwatched, frames)])[0].Outputs[0].Values;
            Close.Assert(expected, rare.Run([new StreamStep(watched, frames)])[0].Outputs[0].Values, 1e-3, $"step {step}");
        }

        // Steps 1 and 2 warm up; then 6 and 10.
        Assert.Equal(16, watched.ObservedFrames);
        Assert.Equal(0, unwatched.ObservedFrames);
    }

    [Fact]
    public void Frozen_IsObservedButNotAdapted()
    {
        var random = new Random(4);
        var state = _model.CreateState(Settings("ema"));
        _model.Run([new StreamStep(state, Frames(random, 4, 0, []))]);
        var before = _model.Export(state, default);
        _model.Run([new StreamStep(state, Frames(random, 4, 3, []), Freeze: true)]);
        var after = _model.Export(state, default);

        Assert.Equal((8, 4), (state.ObservedFrames, state.Frames));
        foreach (var name in Safetensors.Read(before).Names)
        {
            Assert.Equal(ObservedStatistics.IsTensor(name), !All(before, name).SequenceEqual(All(after, name)));
        }
    }

    [Fact]
    public void NotFiniteStep_ObservesNothing()
    {
        var state = _model.CreateState(Settings("source"));
        _model.Run([new StreamStep(state, Frames(new Random(5), 4, 0, []))]);
        var before = _model.Export(state, default);
        var poison = new float[4 * 3 * Side * Side];
        poison[7] = float.NaN;
        Assert.Equal(StepStatus.NotFinite, _model.Run([new StreamStep(state, FrameBlock.FromValues(poison, 4, 3, Side, Side))])[0].Status);
        Assert.Equal(before, _model.Export(state, default));
    }

    [Fact]
    public void Snapshot_RoundTrip_GoesOnFromItsObservation()
    {
        var random = new Random(6);
        foreach (var method in Methods)
        {
            var state = _model.CreateState(Settings(method));
            _model.Run([new StreamStep(state, Frames(random, 6, 1, []))]);
            var frames = Frames(random, 6, 1, []);
            var imported = _model.Import(_model.Export(state, default));
            Assert.Equal(6, imported.ObservedFrames);
            _model.Run([new StreamStep(state, frames), new StreamStep(imported, frames)]);
            Assert.Equal(_model.Export(state, default), _model.Export(imported, default));
            _model.Restore(imported, _model.Evict(imported, default));
            Assert.Equal(_model.Export(state, default), _model.Export(imported, default));
        }
    }

    [Fact]
    public void Snapshot_WithoutObservation_StartsItAnewAndOneWithItLoadsWhereNothingIsObserved()
    {
        using var plain = AdaptiveModel.Load(Model, new AdaptiveModelOptions { UsesTorchOperators = usesTorchOperators });
        var random = new Random(7);
        var (old, present) = (plain.CreateState(Settings("ema")), _model.CreateState(Settings("ema")));
        var frames = Frames(random, 6, 1, []);
        plain.Run([new StreamStep(old, frames)]);
        _model.Run([new StreamStep(present, frames)]);

        var fromOld = _model.Import(plain.Export(old, default));
        Assert.Equal((0, 6), (fromOld.ObservedFrames, fromOld.Frames));
        _model.Run([new StreamStep(fromOld, frames)]);
        Assert.Equal(6, fromOld.ObservedFrames);
        var back = plain.Import(_model.Export(present, default));
        Assert.Equal(plain.Export(old, default), plain.Export(back, default));
    }

    [Fact]
    public void Snapshot_WithABrokenObservation_IsRefused()
    {
        var state = _model.CreateState(Settings("ema"));
        _model.Run([new StreamStep(state, Frames(new Random(8), 4, 0, []))]);
        var snapshot = _model.Export(state, default);
        var content = Safetensors.Read(snapshot);
        var tensors = content.Names.Select(name => (name, content.Shape(name), All(snapshot, name))).ToList();
        tensors.First(tensor => tensor.name.EndsWith(".observed_var", StringComparison.Ordinal)).Item3[0] = -1;
        var refused = Assert.Throws<SnapshotException>(() => _model.Import(Safetensors.Write(content.Metadata, tensors)));
        Assert.Contains("observed_var", refused.Message, StringComparison.Ordinal);
        tensors.First(tensor => tensor.name.EndsWith(".observed_var", StringComparison.Ordinal)).Item3[0] = 1;
        var missing = tensors.Where(tensor => !tensor.name.EndsWith(".feature_var", StringComparison.Ordinal)).ToList();
        Assert.Contains("feature_var", Assert.Throws<SnapshotException>(() => _model.Import(Safetensors.Write(content.Metadata, missing))).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Reset_ForgetsTheObservation()
    {
        var state = _model.CreateState(Settings("ema"));
        var fresh = _model.Export(state, default);
        _model.Run([new StreamStep(state, Frames(new Random(9), 4, 0, []))]);
        _model.Reset(state);
        Assert.Equal(0, state.ObservedFrames);
        Assert.Equal(fresh, _model.Export(state, default));
    }

    [Fact]
    public void StateBytes_CountTheObservation()
    {
        using var plain = AdaptiveModel.Load(Model, new AdaptiveModelOptions { UsesTorchOperators = usesTorchOperators });
        var method = Settings("unmix_tns");
        var before = _model.ResidentBytes;
        var state = _model.CreateState(method);
        Assert.Equal(_model.StateBytes(method), _model.ResidentBytes - before);
        Assert.True(_model.StateBytes(method) >= plain.StateBytes(method) + (2 * sizeof(float) * _model.Sites.Sum(site => site.Channels)));
        _model.Release(state);
        Assert.Equal(before, _model.ResidentBytes);
    }

    public void Dispose()
    {
        _model.Dispose();
        GC.SuppressFinalize(this);
    }

    private static MethodSettings Settings(string method) => MethodSettings.Create(method);

    private static FrameBlock Frames(Random random, int count, float offset, List<float[]> kept)
    {
        var values = new float[count * 3 * Side * Side];
        for (var i = 0; i < values.Length; i++)
        {
            values[i] = (random.NextSingle() * 2) - 1 + (offset * 0.3f);
        }

        for (var frame = 0; frame < count; frame++)
        {
            kept.Add(values[(frame * 3 * Side * Side)..((frame + 1) * 3 * Side * Side)]);
        }

        return FrameBlock.FromValues(values, count, 3, Side, Side);
    }

    // The definition: averages of m and of v + m^2, weighted 1/min(t, tau) for the t-th frame, in double. What the first site sees comes from a model that only looks.
    private static (float[] Mean, float[] Variance) Expected(List<float[]> frames, NormalizationSite site)
    {
        using var model = AdaptiveModel.Load(Model, new AdaptiveModelOptions { Observation = new ObservationOptions { SourceInterval = 1 } });
        var (first, second) = (new double[site.Channels], new double[site.Channels]);
        for (var t = 0; t < frames.Count; t++)
        {
            var state = model.CreateState(Settings("source"));
            model.Run([new StreamStep(state, FrameBlock.FromValues(frames[t], 1, 3, Side, Side))]);
            var snapshot = model.Export(state, default);
            var (m, v) = (All(snapshot, $"{site.Name}.observed_mean"), All(snapshot, $"{site.Name}.observed_var"));
            model.Release(state);
            var weight = 1.0 / Math.Min(t + 1, Tau);
            for (var c = 0; c < site.Channels; c++)
            {
                first[c] += weight * (m[c] - first[c]);
                second[c] += weight * (v[c] + ((double)m[c] * m[c]) - second[c]);
            }
        }

        return (Array.ConvertAll(first, value => (float)value), [.. first.Zip(second, (m, s) => (float)(s - (m * m)))]);
    }

    private static float[] All(byte[] snapshot, string name)
    {
        var content = Safetensors.Read(snapshot);
        return Tensor(content, snapshot, name, content.Shape(name).Aggregate(1, (product, extent) => product * extent));
    }

    private static float[] Tensor(Safetensors content, byte[] snapshot, string name, int length)
    {
        var values = new float[length];
        content.CopyTo(snapshot, name, values);
        return values;
    }
}

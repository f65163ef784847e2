using System.Text.Json.Nodes;
using TtaService.Engine.Execution;
using TtaService.Engine.Normalization;
using TtaService.Engine.Onnx;
using TtaService.Engine.Streams;

namespace TtaService.Engine.Tests.Execution;

/// <summary>The SIMD path of the CPU.</summary>
public sealed class HostAdaptiveModelTests() : AdaptiveModelTests(usesTorchOperators: false);

/// <summary>The path of other devices, in torch operators, on the CPU.</summary>
public sealed class DeviceAdaptiveModelTests() : AdaptiveModelTests(usesTorchOperators: true);

public abstract class AdaptiveModelTests : IDisposable
{
    private const int Side = 32;

    private static readonly string Folder = Path.Combine(AppContext.BaseDirectory, "Data", "onnx");
    private static readonly string[] Methods = [.. MethodRegistry.BuiltIn.All.Select(method => method.Name)];

    // On one thread: several sum in another order, and how many a pass gets depends on what was faster lately.
    private readonly AdaptiveModelOptions _options;
    private readonly AdaptiveModel _model;

    protected AdaptiveModelTests(bool usesTorchOperators)
    {
        _options = new AdaptiveModelOptions { UsesTorchOperators = usesTorchOperators, Threads = 1 };
        _model = AdaptiveModel.Load(Path.Combine(Folder, "bottleneck_opset17.onnx"), _options);
    }

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    public void Run_RandomArrivalOfManyStreams_EqualsEachStreamAlone(int seed)
    {
        var random = new Random(seed);
        var streams = Enumerable.Range(0, 12).Select(i => new Scripted(
            Settings(Methods[i % Methods.Length]), (ulong)i, [.. Enumerable.Range(0, 8).Select(step => Frames(random, 4 + random.Next(3), offset: i * 0.2f))])).ToList();
        var together = streams.ToDictionary(stream => stream, stream => _model.CreateState(stream.Method, stream.Seed));
        var answers = streams.ToDictionary(stream => stream, _ => new List<float[]>());
        while (streams.Any(stream => answers[stream].Count < stream.Script.Length))
        {
            var due = streams.Where(stream => answers[stream].Count < stream.Script.Length && random.Next(2) == 0).OrderBy(_ => random.Next()).ToList();
            if (due.Count == 0)
            {
                continue;
            }

            var results = _model.Run([.. due.Select(stream => new StreamStep(together[stream], stream.Script[answers[stream].Count]))]);
            for (var i = 0; i < due.Count; i++)
            {
                Assert.Equal(StepStatus.Ok, results[i].Status);
                answers[due[i]].Add(results[i].Outputs[0].Values);
            }
        }

        foreach (var stream in streams)
        {
            var alone = _model.CreateState(stream.Method, stream.Seed);
            for (var step = 0; step < stream.Script.Length; step++)
            {
                var result = _model.Run([new StreamStep(alone, stream.Script[step])])[0];
                Close.Assert(result.Outputs[0].Values, answers[stream][step], 1e-4, $"{stream.Method.Name} step {step}");
            }

            Assert.Equal(stream.Script.Length, together[stream].Steps);
            var (expected, actual) = (Values(_model.Export(alone, default)), Values(_model.Export(together[stream], default)));
            Close.Assert(expected, actual, 1e-4, $"{stream.Method.Name} state");
        }
    }

    [Fact]
    public void Run_NotFiniteFramesInABatch_FailTheirStepAlone()
    {
        var random = new Random(3);
        foreach (var method in Methods)
        {
            var (good, bad) = (_model.CreateState(Settings(method)), _model.CreateState(Settings(method)));
            Run(bad, Frames(random, 4));
            var before = _model.Export(bad, default);
            var poison = new float[4 * 3 * Side * Side];
            poison[^1] = float.NaN;
            var results = _model.Run([new StreamStep(good, Frames(random, 4)), new StreamStep(bad, FrameBlock.FromValues(poison, 4, 3, Side, Side))]);
            Assert.Equal(StepStatus.Ok, results[0].Status);
            Assert.Equal(StepStatus.NotFinite, results[1].Status);
            Assert.Empty(results[1].Outputs);
            Assert.Equal(before, _model.Export(bad, default));
            Assert.Equal(1, good.Steps);
        }
    }

    [Fact]
    public void Run_Frozen_UsesTheStateAndLeavesIt()
    {
        var random = new Random(4);
        var state = _model.CreateState(Settings("ema"));
        Run(state, Frames(random, 4, offset: 2));
        var before = _model.Export(state, default);
        var frames = Frames(random, 4);
        var frozen = _model.Run([new StreamStep(state, frames, Freeze: true)])[0];
        Assert.Equal(before, _model.Export(state, default));
        Assert.Equal(1, frozen.Steps);
        Assert.Equal(frozen.Outputs[0].Values, Run(state, frames).Outputs[0].Values);
    }

    [Fact]
    public void Reset_AfterSteps_RepeatsTheRun()
    {
        foreach (var method in Methods)
        {
            var frames = Frames(new Random(5), 4);
            var state = _model.CreateState(Settings(method), seed: 9);
            var fresh = _model.Export(state, default);
            var first = Run(state, frames).Outputs[0].Values;
            Run(state, frames);
            _model.Reset(state);
            Assert.Equal(fresh, _model.Export(state, default));
            Assert.Equal(first, Run(state, frames).Outputs[0].Values);
        }
    }

    [Fact]
    public void Import_OfAnExport_ContinuesTheStream()
    {
        foreach (var method in Methods)
        {
            var random = new Random(6);
            var state = _model.CreateState(Settings(method), seed: 3);
            Run(state, Frames(random, 4));
            var copy = _model.Import(_model.Export(state, default));
            var next = Frames(random, 5);
            Assert.Equal(state.Seed, copy.Seed);
            Assert.Equal(Run(state, next).Outputs[0].Values, Run(copy, next).Outputs[0].Values);
            Assert.Equal(_model.Export(state, default), _model.Export(copy, default));
        }
    }

    [Fact]
    public void Import_ForeignOrDamaged_IsRefusedAndLeavesNothing()
    {
        using var other = AdaptiveModel.Load(Path.Combine(Folder, "squeeze_excite_opset17.onnx"), _options);
        var snapshot = _model.Export(_model.CreateState(Settings("unmix_tns")), default);
        Assert.Contains("belongs to model", Assert.Throws<SnapshotException>(() => other.Import(snapshot)).Message, StringComparison.Ordinal);
        var resident = _model.ResidentStreams;
        foreach (var length in new[] { 0, 7, 8, 100, snapshot.Length / 2, snapshot.Length - 1 })
        {
            Assert.Throws<SnapshotException>(() => _model.Import(snapshot.AsSpan(0, length)));
        }

        // NaN in the last tensor, and a negative variance.
        var poisoned = (byte[])snapshot.Clone();
        BitConverter.TryWriteBytes(poisoned.AsSpan(poisoned.Length - 4), float.NaN);
        Assert.Contains("not finite", Assert.Throws<SnapshotException>(() => _model.Import(poisoned)).Message, StringComparison.Ordinal);
        BitConverter.TryWriteBytes(poisoned.AsSpan(poisoned.Length - 4), -1f);
        Assert.Contains("negative", Assert.Throws<SnapshotException>(() => _model.Import(poisoned)).Message, StringComparison.Ordinal);
        Assert.Equal(resident, _model.ResidentStreams);
    }

    [Fact]
    public void Restore_AfterEviction_ContinuesWhereTheStreamWas()
    {
        var random = new Random(7);
        var (evicted, resident) = (_model.CreateState(Settings("unmix_tns"), 5), _model.CreateState(Settings("unmix_tns"), 5));
        var frames = Frames(random, 2);
        Run(evicted, frames);
        Run(resident, frames);
        var snapshot = _model.Evict(evicted, default);
        Assert.False(evicted.IsResident);
        Assert.Throws<InvalidOperationException>(() => Run(evicted, frames));
        _model.Restore(evicted, snapshot);
        Assert.Equal(Run(resident, frames).Outputs[0].Values, Run(evicted, frames).Outputs[0].Values);
    }

    [Fact]
    public void CreateState_PastTheArena_IsRefusedUntilOneIsReleased()
    {
        using var probe = AdaptiveModel.Load(Path.Combine(Folder, "bottleneck_opset17.onnx"), _options);
        var bytes = probe.StateBytes(Settings("unmix_tns"));
        using var model = AdaptiveModel.Load(Path.Combine(Folder, "bottleneck_opset17.onnx"), _options with { ArenaBytes = 3 * bytes });
        var states = Enumerable.Range(0, 3).Select(_ => model.CreateState(Settings("unmix_tns"))).ToList();
        Assert.Throws<ArenaFullException>(() => model.CreateState(Settings("unmix_tns")));
        model.Release(states[1]);
        model.Release(states[1]);
        Assert.Equal(2 * bytes, model.ResidentBytes);
        model.CreateState(Settings("unmix_tns"));
    }

    [Fact]
    public void Run_WithStepsOfOthersBetweenItsOperators_AnswersEachAsAlone()
    {
        string[] methods = [.. MethodRegistry.BuiltIn.All.Select(method => method.Name)];
        var (random, turns) = (new Random(12), 0);
        foreach (var large in methods)
        {
            var (alone, among) = (_model.CreateState(Settings(large)), _model.CreateState(Settings(large)));
            var others = methods.Select(method => (Alone: _model.CreateState(Settings(method)), Between: _model.CreateState(Settings(method)))).ToList();
            var frames = Frames(random, 24);
            FrameBlock[] small = [.. Enumerable.Range(0, 7).Select(_ => Frames(random, 4))];
            var answers = new List<(int Other, StepResult Result)>();

            var expected = Run(alone, frames);
            var result = _model.Run([new StreamStep(among, frames)], () =>
            {
                var other = turns++ % others.Count;
                answers.Add((other, Run(others[other].Between, small[answers.Count % small.Length])));
            })[0];

            Close.Assert(expected.Outputs[0].Values, result.Outputs[0].Values, 1e-5, large);
            Assert.Equal((expected.Steps, expected.Frames), (result.Steps, result.Frames));
            // A device is handed all operators at once.
            Assert.Equal(_options.UsesTorchOperators, answers.Count == 0);
            for (var i = 0; i < answers.Count; i++)
            {
                var (other, actual) = answers[i];
                Close.Assert(Run(others[other].Alone, small[i % small.Length]).Outputs[0].Values, actual.Outputs[0].Values, 1e-5, $"{methods[other]} within {large}");
            }

            foreach (var state in others.SelectMany(other => new[] { other.Alone, other.Between }).Append(alone).Append(among))
            {
                _model.Release(state);
            }
        }
    }

    [Fact]
    public void Run_TbnWithTooFewFrames_IsRefusedAndSaysWhatToDo()
    {
        var state = _model.CreateState(Settings("tbn"));
        var result = Run(state, Frames(new Random(8), 3));
        Assert.Equal(StepStatus.Refused, result.Status);
        Assert.Contains("at least 4 frames", result.Message, StringComparison.Ordinal);
        Assert.Equal(0, state.Steps);
    }

    [Fact]
    public void Run_TwoStepsOfAStreamOrMixedSizes_IsAProgrammersError()
    {
        var state = _model.CreateState(Settings("ema"));
        var frames = Frames(new Random(9), 1);
        Assert.Throws<ArgumentException>(() => _model.Run([new StreamStep(state, frames), new StreamStep(state, frames)]));
        var other = _model.CreateState(Settings("ema"));
        Assert.Throws<ArgumentException>(() => _model.Run([new StreamStep(state, frames), new StreamStep(other, FrameBlock.FromValues(new float[3 * 16], 1, 3, 4, 4))]));
    }

    [Fact]
    public void Method_ModelWithoutBatchNorm_SaysWhichExportKeepsIt()
    {
        using var model = AdaptiveModel.Load(Path.Combine(Folder, "folded.onnx"));
        Assert.Empty(model.Sites);
        Assert.Null(model.WhyUnavailable(Settings("source")));
        Assert.Contains("TrainingMode.PRESERVE", Assert.Throws<MethodSettingsException>(() => model.CreateState(Settings("ema"))).Message, StringComparison.Ordinal);
        var state = model.CreateState(Settings("source"));
        Assert.Equal(StepStatus.Ok, model.Run([new StreamStep(state, Frames(new Random(1), 2))])[0].Status);
    }

    [Fact]
    public void Pixels_AndTheirNormalizedValues_GiveTheSame()
    {
        var random = new Random(10);
        var pixels = new byte[2 * 3 * Side * Side];
        random.NextBytes(pixels);
        var normalization = InputNormalization.ImageNet;
        float[] values = [.. pixels.Select((pixel, i) => ((pixel / 255f) - normalization.Mean[i / (Side * Side) % 3]) / normalization.Std[i / (Side * Side) % 3])];
        var (one, two) = (_model.CreateState(Settings("ema")), _model.CreateState(Settings("ema")));
        Close.Assert(
            Run(one, FrameBlock.FromValues(values, 2, 3, Side, Side)).Outputs[0].Values,
            Run(two, FrameBlock.FromPixels(pixels, 2, 3, Side, Side)).Outputs[0].Values,
            1e-5,
            "pixels");
    }

    [Fact]
    public void SitesFirst_LimitsStateAndAdaptation()
    {
        var all = _model.StateBytes(Settings("ema"));
        var first = _model.StateBytes(MethodSettings.Create("ema", new JsonObject { ["sites_first"] = 1 }));
        Assert.True(first < all);
        Assert.Contains("select none", _model.WhyUnavailable(MethodSettings.Create("ema", new JsonObject { ["sites_pattern"] = "nothing*" })), StringComparison.Ordinal);
    }

    [Fact]
    public async Task InferenceEngine_WorkFromManyThreads_RunsOnItsOwnThreadInOrder()
    {
        await using var engine = await InferenceEngine.StartAsync(Path.Combine(Folder, "bottleneck_opset17.onnx"));
        var order = new List<int>();
        var threads = new HashSet<int>();
        await Task.WhenAll(Enumerable.Range(0, 50).Select(i => engine.InvokeAsync(_ =>
        {
            threads.Add(Environment.CurrentManagedThreadId);
            order.Add(i);
            return i;
        })));
        Assert.Equal(Enumerable.Range(0, 50), order);
        Assert.Single(threads);
        await Assert.ThrowsAsync<ArgumentException>(() => engine.InvokeAsync<int>(_ => throw new ArgumentException("mine")));
        Assert.Equal(1, await engine.InvokeAsync(_ => 1));
    }

    [Fact]
    public async Task InferenceEngine_MissingModel_FailsToStart() =>
        await Assert.ThrowsAsync<ModelLoadException>(() => InferenceEngine.StartAsync(Path.Combine(Folder, "none.onnx")));

    public void Dispose()
    {
        _model.Dispose();
        GC.SuppressFinalize(this);
    }

    private StepResult Run(StreamState state, FrameBlock frames) => _model.Run([new StreamStep(state, frames)])[0];

    private static MethodSettings Settings(string method) => MethodSettings.Create(method);

    private static FrameBlock Frames(Random random, int count, float offset = 0) =>
        FrameBlock.FromValues(Enumerable.Range(0, count * 3 * Side * Side).Select(_ => offset + (float)((random.NextDouble() * 4) - 2)).ToArray(), count, 3, Side, Side);

    private static float[] Values(byte[] snapshot)
    {
        var tensors = Safetensors.Read(snapshot);
        var values = new List<float>();
        foreach (var name in tensors.Names)
        {
            var tensor = new float[tensors.Shape(name).Aggregate(1, (product, extent) => product * extent)];
            tensors.CopyTo(snapshot, name, tensor);
            values.AddRange(tensor);
        }

        return [.. values];
    }

    private sealed record Scripted(MethodSettings Method, ulong Seed, FrameBlock[] Script);
}

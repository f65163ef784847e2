using TtaService.Engine.Execution;
using TtaService.Engine.Normalization;
using TtaService.Engine.Streams;

namespace TtaService.Engine.Tests.Normalization.Auto;

/// <summary>What design promises of a stream holds for a method that sees whole passes.</summary>
public sealed class AutoStreamTests : IDisposable
{
    private static readonly string[] Names = ["corrupted", "clean", "changing", "independent"];

    private readonly AdaptiveModel _model = Prototype.Load();

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Run_ManyStreamsInABatch_AnswersEachAsAlone(bool onDevice)
    {
        using var model = Prototype.Load(onDevice: onDevice);
        var alone = Names.Select(_ => Create(model)).ToList();
        var together = Names.Select(_ => Create(model)).ToList();
        var other = model.CreateState(MethodSettings.Create("unmix_tns"));
        for (var round = 0; round < 6; round++)
        {
            int[] sizes = [1 + (round % 3), 4, 1, 16];
            var steps = Names.Select((name, i) => Prototype.Frames(name, round * sizes[i], sizes[i])).ToList();
            List<StreamStep> batch = [.. together.Zip(steps, (state, frames) => new StreamStep(state, frames)), new StreamStep(other, steps[0])];
            var results = model.Run(batch);
            for (var i = 0; i < Names.Length; i++)
            {
                var expected = model.Run([new StreamStep(alone[i], steps[i])])[0];
                Close.Assert(expected.Outputs[0].Values, results[i].Outputs[0].Values, 1e-4, $"{Names[i]} round {round}");
            }
        }

        for (var i = 0; i < Names.Length; i++)
        {
            Same(model.Export(alone[i], default), model.Export(together[i], default), 1e-4);
        }
    }

    [Fact]
    public void Run_FrozenStep_AnswersAndChangesNothing()
    {
        var state = Create(_model);
        Step(state, 0, 16);
        var before = _model.Export(state, default);
        var frozen = _model.Run([new StreamStep(state, Prototype.Frames("corrupted", 16, 16), Freeze: true)])[0];
        Assert.Equal(before, _model.Export(state, default));
        var adapted = _model.Run([new StreamStep(state, Prototype.Frames("corrupted", 16, 16))])[0];
        Assert.Equal(frozen.Outputs[0].Values, adapted.Outputs[0].Values);
        Assert.NotEqual(before, _model.Export(state, default));
    }

    [Fact]
    public void Run_FramesThatAreNotFinite_ChangesNothing()
    {
        var state = Create(_model);
        Step(state, 0, 16);
        var before = _model.Export(state, default);
        var values = new float[2 * Prototype.Side * Prototype.Side];
        values[5] = float.NaN;
        var result = _model.Run([new StreamStep(state, FrameBlock.FromValues(values, 2, 1, Prototype.Side, Prototype.Side))])[0];
        Assert.Equal(StepStatus.NotFinite, result.Status);
        Assert.Equal(before, _model.Export(state, default));
    }

    [Fact]
    public void Import_OfASnapshot_ContinuesAsTheStream()
    {
        var state = Create(_model);
        Step(state, 0, 48);
        var (imported, evicted) = (_model.Import(_model.Export(state, default)), Create(_model));
        Step(evicted, 0, 48);
        _model.Restore(evicted, _model.Evict(evicted, default));
        using var device = Prototype.Load(onDevice: true);
        var moved = device.Import(_model.Export(state, default));
        var expected = Step(state, 48, 16);
        Assert.Equal(expected, Step(imported, 48, 16));
        Assert.Equal(expected, Step(evicted, 48, 16));
        Close.Assert(expected, device.Run([new StreamStep(moved, Prototype.Frames("corrupted", 48, 16))])[0].Outputs[0].Values, 5e-3, "on the device");
    }

    [Fact]
    public void Import_SnapshotOfAnUncalibratedModel_GoesOnCalibrated()
    {
        using var uncalibrated = Prototype.Load(calibrated: false);
        var state = Create(uncalibrated);
        uncalibrated.Run([new StreamStep(state, Prototype.Frames("corrupted", 0, 16))]);
        var imported = _model.Import(uncalibrated.Export(state, default));
        Assert.Equal(16, imported.Frames);
        Step(imported, 16, 16);
        Assert.Null(uncalibrated.Calibration);
        Assert.Contains("tta calibrate", uncalibrated.Caution(state.Method), StringComparison.Ordinal);
        Assert.Null(uncalibrated.Caution(MethodSettings.Create("ema")));
        Assert.Null(_model.Caution(state.Method));
        Assert.NotNull(_model.Calibration);
    }

    [Fact]
    public void Reset_AfterSteps_IsANewStream()
    {
        var (state, fresh) = (Create(_model), Create(_model));
        var first = Step(state, 0, 16);
        Step(state, 16, 16);
        _model.Reset(state);
        Assert.Equal(_model.Export(fresh, default), _model.Export(state, default));
        Assert.Equal(first, Step(state, 0, 16));
    }

    [Fact]
    public void Run_FilterOff_AnswersWhatTheFilterSaw()
    {
        // The guard may answer as the source does, filter or not.
        var on = _model.CreateState(MethodSettings.Create("auto", new() { ["guard"] = "off" }));
        var off = _model.CreateState(MethodSettings.Create("auto", new() { ["guard"] = "off", ["filter"] = "off" }));
        for (var at = 0; at < 128; at += 16)
        {
            var frames = Prototype.Frames("corrupted", at, 16);
            var (filtered, raw) = (_model.Run([new StreamStep(on, frames)])[0], _model.Run([new StreamStep(off, frames)])[0]);
            Assert.Equal(raw.Outputs[0].Values, filtered.Unfiltered!.Values);
            Assert.NotEqual(raw.Outputs[0].Values, filtered.Outputs[0].Values);
            Assert.Null(raw.Unfiltered);
        }
    }

    [Fact]
    public void Run_SitesLeftOut_KeepTheSource()
    {
        var settings = MethodSettings.Create("auto", new() { ["sites_first"] = 3 });
        var state = _model.CreateState(settings);
        Step(state, 0, 16);
        var names = Safetensors.Read(_model.Export(state, default)).Names.ToList();
        Assert.Equal(3, names.Count(name => name.EndsWith(".auto_mean", StringComparison.Ordinal)));
        Assert.True(_model.StateBytes(settings) < _model.StateBytes(MethodSettings.Create("auto")));
    }

    [Fact]
    public void StateBytes_OfAuto_AreTwoFloatsAChannelAndFewAClass()
    {
        var channels = _model.Sites.Sum(site => site.Channels);
        // Sites start on 16 floats.
        Assert.InRange(
            _model.StateBytes(MethodSettings.Create("auto")) / sizeof(float), (2 * channels) + _model.Sites.Count, (2 * channels) + (17 * _model.Sites.Count) + (8 * 10) + 32);
    }

    // Each class is some way from the others; taken for another camera, it would lose what tells it apart.
    [Theory]
    [InlineData(1)]
    [InlineData(4)]
    [InlineData(16)]
    public void Run_CleanStreamOfAnyClassOnly_IsNoWorseThanTheSource(int size)
    {
        var labels = Prototype.Labels("clean");
        foreach (var ofOne in Enumerable.Range(0, labels.Length).GroupBy(i => labels[i]).Where(frames => frames.Count() >= 16))
        {
            var (state, wrong, sourceWrong) = (Create(_model), 0, 0);
            int[] stream = [.. ofOne, .. ofOne, .. ofOne];
            for (var at = 0; at + size <= stream.Length; at += size)
            {
                var frames = Prototype.Frames("clean", stream.AsSpan(at, size));
                wrong += Wrong(_model.Run([new StreamStep(state, frames)])[0].Outputs[0].Values, ofOne.Key);
                sourceWrong += Wrong(_model.RunSource([frames])[0].Values, ofOne.Key);
            }

            Assert.True(wrong <= sourceWrong + 1, $"class {ofOne.Key}: {wrong} wrong, the source {sourceWrong}");
        }

        static int Wrong(float[] scores, int label) => scores.Chunk(10).Count(row => Array.IndexOf(row, row.Max()) != label);
    }

    // Crafted frames whose values are in range: none may cost more than three mistakes in the hundred frames behind them, and nothing after.
    [Theory]
    [InlineData("noise")]
    [InlineData("negative")]
    [InlineData("contrast")]
    [InlineData("another camera")]
    public void Run_TenCraftedFrames_CostLittleAndNotForLong(string kind)
    {
        const int at = 160;
        foreach (var stream in new[] { "corrupted", "independent" })
        {
            var (plain, poisoned) = (Answers(stream, []), Answers(stream, Crafted(kind, stream)));
            var labels = Prototype.Labels(stream);
            var (soon, later) = (Wrong(poisoned, at, at + 100) - Wrong(plain, at, at + 100), Wrong(poisoned, at + 100, labels.Length) - Wrong(plain, at + 100, labels.Length));
            TestContext.Current.TestOutputHelper?.WriteLine($"{kind}, {stream}: {soon:+0;-0;0} in the next 100 frames of which the plain stream errs {Wrong(
                plain, at, at + 100)}, {later:+0;-0;0} in the {labels.Length - at - 100} after");
            Assert.True(soon <= 3, $"{kind}, {stream}: {soon} more mistakes in the next 100 frames");
            Assert.True(later <= 1, $"{kind}, {stream}: {later} more mistakes after");

            int Wrong(int[] answers, int from, int to) => Enumerable.Range(from, to - from).Count(frame => answers[frame] != labels[frame]);
        }

        int[] Answers(string stream, IReadOnlyList<FrameBlock> crafted)
        {
            var state = Create(_model);
            return [.. Enumerable.Range(0, Prototype.Labels(stream).Length).Select(frame =>
            {
                if (frame == at)
                {
                    _ = crafted.Select(block => _model.Run([new StreamStep(state, block)])).ToList();
                }

                var scores = _model.Run([new StreamStep(state, Prototype.Frames(stream, frame, 1))])[0].Outputs[0].Values;
                return Array.IndexOf(scores, scores.Max());
            })];
        }
    }

    [Fact]
    public void Run_StepWithMarkedFrames_AnswersAllOfThemUnfilteredToo()
    {
        var state = Create(_model);
        Step(state, 0, 16);
        var marks = new NotLearnedReason[8];
        marks[2] = marks[5] = NotLearnedReason.Blank;
        var answer = _model.Run([new StreamStep(state, Prototype.Frames("corrupted", 16, 8)) { NotLearned = marks }])[0];
        Assert.Equal([8, 10], answer.Outputs[0].Shape);
        Assert.Equal([8, 10], answer.Unfiltered!.Shape);
        Assert.Equal(80, answer.Unfiltered.Values.Length);
    }

    public void Dispose() => _model.Dispose();

    private static StreamState Create(AdaptiveModel model) => model.CreateState(MethodSettings.Create("auto"));

    private static List<FrameBlock> Crafted(string kind, string stream)
    {
        var random = new Random(9);
        return [.. Enumerable.Range(0, 10).Select(i =>
        {
            var pixels = Prototype.Pixels(kind == "another camera" ? "changing" : stream, 120 + i);
            var crafted = Array.ConvertAll(pixels, value => kind switch
            {
                "noise" => value + (80 * ((2 * random.NextDouble()) - 1)),
                "negative" => 255 - value,
                "contrast" => ((value - 128.0) * 3) + 128,
                _ => value,
            });
            return FrameBlock.FromPixels(Array.ConvertAll(crafted, value => (byte)Math.Clamp(value, 0, 255)), 1, 1, Prototype.Side, Prototype.Side);
        })];
    }

    private float[] Step(StreamState state, int from, int count) => _model.Run([new StreamStep(state, Prototype.Frames("corrupted", from, count))])[0].Outputs[0].Values;

    private static void Same(byte[] expected, byte[] actual, double tolerance)
    {
        var (left, right) = (Safetensors.Read(expected), Safetensors.Read(actual));
        Assert.Equal(left.Names, right.Names);
        foreach (var name in left.Names)
        {
            var length = left.Shape(name).Aggregate(1, (product, extent) => product * extent);
            var (a, b) = (new float[length], new float[length]);
            left.CopyTo(expected, name, a);
            right.CopyTo(actual, name, b);
            Close.Assert(a, b, tolerance, name);
        }
    }
}

using System.Text.Json.Nodes;
using TtaService.Engine.Drift;
using TtaService.Engine.Execution;
using TtaService.Engine.Normalization;
using TtaService.Engine.Onnx.Wire;
using TtaService.Engine.Streams;
using TtaService.Engine.Tests.Onnx;

namespace TtaService.Engine.Tests.Normalization.Affine;

/// <summary>Streams with scales and biases of their own: alone and among others, what they learn, and what never gets in.</summary>
public sealed class AffineStreamTests : IDisposable
{
    private static readonly string[] Layers = ["bn1", "bn2", "bn3", "bn4"];

    private readonly string _folder = Directory.CreateTempSubdirectory("tta-affine").FullName;

    /// <summary>One backward pass for the batch: each stream's gradients (SGD's momentum after one step) and all that follows are those of the stream alone.</summary>
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Run_StreamsInABatch_HaveTheGradientsOfIsolatedRuns(bool onDevice)
    {
        using var model = Load(onDevice);
        int[] counts = [4, 7, 4, 8, 5];
        MethodSettings Settings(int stream) => Tent(stream == 4 ? """{"optimizer":"sgd","learning_rate":0.01,"rounds":2}""" : """{"optimizer":"sgd","learning_rate":0.01}""");
        StreamState[] together = [.. counts.Select((_, i) => model.CreateState(Settings(i)))];
        StreamState[] alone = [.. counts.Select((_, i) => model.CreateState(Settings(i)))];
        var (other, otherAlone) = (model.CreateState(MethodSettings.Create("ema")), model.CreateState(MethodSettings.Create("ema")));
        for (var t = 0; t < 4; t++)
        {
            FrameBlock[] frames = [.. counts.Select((count, i) => Trainable.Frames((11 * i) + (8 * t), count))];
            StreamStep[] batch = [.. together.Select((state, i) => new StreamStep(state, frames[i]))];

            var results = model.Run([.. batch[..2], new StreamStep(other, frames[0]), .. batch[2..]]);

            var expected = model.Run([new StreamStep(otherAlone, frames[0])])[0];
            Close.Assert(expected.Outputs[0].Values, results[2].Outputs[0].Values, 1e-5, $"ema, step {t}");
            for (var i = 0; i < counts.Length; i++)
            {
                expected = model.Run([new StreamStep(alone[i], frames[i])])[0];
                Close.Assert(expected.Outputs[0].Values, results[i < 2 ? i : i + 1].Outputs[0].Values, 1e-4, $"stream {i}, step {t}: answers");
                var (own, isolated) = (model.Export(together[i], default), model.Export(alone[i], default));
                foreach (var name in Safetensors.Read(own).Names.Where(name => !ObservedStatistics.IsTensor(name)))
                {
                    Close.Assert(Trainable.Tensor(isolated, name), Trainable.Tensor(own, name), 1e-5, $"stream {i}, step {t}: {name}");
                }
            }
        }
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Run_FrozenStep_IsAnsweredWithWhatWasLearnedAndChangesNothing(bool onDevice)
    {
        using var model = Load(onDevice);
        var state = model.CreateState(Tent("{}"));
        for (var t = 0; t < 3; t++)
        {
            model.Run([new StreamStep(state, Trainable.Frames(t))]);
        }

        var before = WithoutObservation(model.Export(state, default));
        // The answer of a step is the one before its update.
        var frozen = model.Run([new StreamStep(state, Trainable.Frames(3), Freeze: true)])[0];

        Close.Assert(Trainable.Golden("adam.logits.3"), frozen.Outputs[0].Values, 1e-4, "frozen");
        Assert.Equal((3, 24), (frozen.Steps, frozen.Frames));
        Assert.Equal(before, WithoutObservation(model.Export(state, default)));
    }

    [Fact]
    public void Run_SnapshotForkAndReset_CarryScalesBiasesAndMoments()
    {
        using var model = Load(onDevice: false);
        using var device = Load(onDevice: true);
        var state = model.CreateState(Tent("{}"));
        for (var t = 0; t < 3; t++)
        {
            model.Run([new StreamStep(state, Trainable.Frames(t))]);
        }

        var snapshot = model.Export(state, default);
        var (fork, moved) = (model.Import(snapshot), device.Import(snapshot));
        model.Reset(state);
        for (var t = 3; t < 6; t++)
        {
            model.Run([new StreamStep(fork, Trainable.Frames(t))]);
            device.Run([new StreamStep(moved, Trainable.Frames(t))]);
            var again = model.Run([new StreamStep(state, Trainable.Frames(t - 3))])[0];
            Close.Assert(Trainable.Golden($"adam.logits.{t - 3}"), again.Outputs[0].Values, 1e-4, $"after a reset, step {t - 3}");
        }

        Close.Assert(Trainable.Golden("adam.1.scale.5"), Trainable.Tensor(model.Export(fork, default), "bn2.scale"), 1e-4, "fork");
        Close.Assert(Trainable.Golden("adam.1.scale.5"), Trainable.Tensor(device.Export(moved, default), "bn2.scale"), 1e-4, "moved to another path");
        Assert.Equal([6f], Trainable.Tensor(model.Export(fork, default), "stream.updates"));
    }

    /// <summary>However large the steps, a scale or bias stays within what may be learned, and an update goes a part of that way at most.</summary>
    [Fact]
    public void Run_LargeLearningRate_IsBoundByWhatMayBeLearned()
    {
        using var bound = Trainable.Load(new AdaptiveModelOptions { Learning = new LearningOptions { CollapseFrames = 0 } });
        using var free = Trainable.Load(new AdaptiveModelOptions { Learning = null });
        var settings = Tent("""{"optimizer":"sgd","learning_rate":1,"momentum":0.99}""");
        var (state, loose) = (bound.CreateState(settings), free.CreateState(settings));
        var farthest = 0f;
        var sites = bound.Sites;
        float[] before = [.. sites.SelectMany(site => (float[])[.. site.Weight, .. site.Bias])];
        float[] source = [.. before];
        float[] reach = [.. sites.SelectMany(site => Reach(site).Concat(Reach(site)))];
        for (var t = 0; t < 60; t++)
        {
            Assert.Equal(StepStatus.Ok, bound.Run([new StreamStep(state, Trainable.Frames(t % 6))])[0].Status);
            free.Run([new StreamStep(loose, Trainable.Frames(t % 6))]);
            float[] after = Affine(bound.Export(state, default));
            for (var i = 0; i < after.Length; i++)
            {
                Assert.InRange(MathF.Abs(after[i] - before[i]), 0, (reach[i] / 32) + 1e-4f);
                Assert.InRange(MathF.Abs(after[i] - source[i]), 0, reach[i] + 1e-4f);
                farthest = Math.Max(farthest, MathF.Abs(after[i] - source[i]) / reach[i]);
            }

            before = after;
        }

        // It met the bound, and without it went past it.
        Assert.InRange(farthest, 0.25f, 1);
        Assert.Contains(Affine(free.Export(loose, default)).Zip(source.Zip(reach)), pair => MathF.Abs(pair.First - pair.Second.First) > pair.Second.Second);
    }

    /// <summary>Whole steps with a frame far outside are answered and leave no trace; the other streams of the batch learn.</summary>
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Run_FrameOutOfRange_TeachesNothing(bool onDevice)
    {
        using var model = Load(onDevice);
        var (state, other) = (model.CreateState(Tent("{}")), model.CreateState(Tent("{}")));
        model.Run([new StreamStep(state, Trainable.Frames(0))]);
        var before = model.Export(state, default);
        var values = Trainable.Golden("frames.1");
        for (var i = 0; i < 3 * Trainable.Side * Trainable.Side; i++)
        {
            values[i] *= 1e4f;
        }

        var results = model.Run([new StreamStep(state, Trainable.Block(values)), new StreamStep(other, Trainable.Frames(0))]);

        Assert.Equal(Enumerable.Repeat(NotLearnedReason.OutOfRange, 8), results[0].NotLearned);
        Assert.Equal(before, model.Export(state, default));
        Assert.Equal((1, 8), (results[1].Steps, results[1].Frames));
        Close.Assert(Trainable.Golden("adam.0.scale.0"), Trainable.Tensor(model.Export(other, default), "bn1.scale"), 1e-4, "the other stream");
    }

    /// <summary>A root of 0 has an answer and no slope: the step is refused, as one with statistics that are not finite, and nothing gets in.</summary>
    [Theory]
    [InlineData("adam", true)]
    [InlineData("sgd", true)]
    [InlineData("sgd", false)]
    public void Run_GradientThatIsNotFinite_ChangesNothing(string optimizer, bool limits)
    {
        var path = Write(
            [
                OnnxFiles.Node("Conv", ["x", "w"], "c"),
                Norm("c", "n"),
                OnnxFiles.Node("ReduceL2", ["n"], "l", Ints("axes", 2, 3), Int("keepdims", 0)),
                OnnxFiles.Node("Gemm", ["l", "fc"], "g"),
                OnnxFiles.Node("Softmax", ["g"], "y"),
            ],
            // The second channel is 0 everywhere.
            [1, 0],
            [0.5f, 0]);
        using var model = AdaptiveModel.Load(path, limits ? new AdaptiveModelOptions() : new AdaptiveModelOptions { Learning = null });
        var state = model.CreateState(Tent($$"""{"optimizer":"{{optimizer}}"}"""));
        var before = model.Export(state, default);

        var result = model.Run([new StreamStep(state, Random(4))])[0];

        Assert.Equal(StepStatus.NotFinite, result.Status);
        Assert.Contains("norm", result.Message, StringComparison.Ordinal);
        Assert.Equal(before, model.Export(state, default));
    }

    [Fact]
    public void CreateState_GraphThatRounds_SaysWhichNodeAndWhatToUse()
    {
        NodeProto[] Nodes(bool quantizes) =>
        [
            OnnxFiles.Node("Conv", ["x", "w"], "c"),
            Norm("c", "n"),
            .. quantizes
                ? new[] { OnnxFiles.Node("QuantizeLinear", ["n", "scale", "zero"], "q"), OnnxFiles.Node("DequantizeLinear", ["q", "scale", "zero"], "d") }
                : [OnnxFiles.Node("Identity", ["n"], "d")],
            OnnxFiles.Node("ReduceMean", ["d"], "l", Ints("axes", 2, 3), Int("keepdims", 0)),
            OnnxFiles.Node("Gemm", ["l", "fc"], "g"),
            OnnxFiles.Node("Softmax", ["g"], "y"),
        ];
        using var smooth = AdaptiveModel.Load(Write(Nodes(quantizes: false)));
        using var rounded = AdaptiveModel.Load(Write(Nodes(quantizes: true)));
        using var segmenter = AdaptiveModel.Load(Path.Combine(AppContext.BaseDirectory, "Data", "onnx", "segmenter_opset17.onnx"));

        Assert.Null(smooth.WhyUnavailable(Tent("{}")));
        Assert.Null(rounded.WhyUnavailable(MethodSettings.Create("tbn")));
        var refusal = Assert.Throws<MethodSettingsException>(() => rounded.CreateState(Tent("{}"))).Message;
        Assert.Contains("tent needs gradients from the class scores to its sites", refusal, StringComparison.Ordinal);
        Assert.Contains("(DequantizeLinear)", refusal, StringComparison.Ordinal);
        Assert.Contains("use tbn", refusal, StringComparison.Ordinal);
        Assert.Contains("no scores of classes", Assert.Throws<MethodSettingsException>(() => segmenter.CreateState(Tent("{}"))).Message, StringComparison.Ordinal);
        var beyond = Tent("""{"sites_pattern":"nothing*"}""");
        Assert.Contains("select none", Assert.Throws<MethodSettingsException>(() => smooth.CreateState(beyond)).Message, StringComparison.Ordinal);
    }

    /// <summary>Sites that the settings leave out keep the source's statistics, and have no scale and bias in the state.</summary>
    [Fact]
    public void Run_SomeSitesChosen_TrainsThoseOnly()
    {
        using var model = Load(onDevice: false);
        var state = model.CreateState(Tent("""{"sites_pattern":"bn2,bn4"}"""));

        Assert.Equal(StepStatus.Ok, model.Run([new StreamStep(state, Trainable.Frames(0))])[0].Status);

        var snapshot = model.Export(state, default);
        Assert.DoesNotContain(Safetensors.Read(snapshot).Names, name => name.StartsWith("bn1.scale", StringComparison.Ordinal));
        Assert.Contains(Trainable.Tensor(snapshot, "bn4.bias").Zip(model.Sites[3].Bias), pair => pair.First != pair.Second);
    }

    /// <summary>A graph of a fixed batch takes longer steps in parts, each a gradient step from where the one before it left the stream.</summary>
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Run_FixedBatch_TrainsPartAfterPart(bool onDevice)
    {
        var proto = ModelProto.Parser.ParseFrom(File.ReadAllBytes(Trainable.ModelPath));
        foreach (var value in proto.Graph.Input.Concat(proto.Graph.Output))
        {
            value.Type.TensorType.Shape.Dim[0] = new TensorShapeProto.Types.Dimension { DimValue = 4 };
        }

        var flatten = proto.Graph.Node.Single(node => node.OpType is "Flatten" or "Reshape");
        proto.Graph.Initializer.Add(new TensorProto { Name = "batch", Dims = { 2 }, DataType = (int)TensorProto.Types.DataType.Int64, Int64Data = { 4, -1 } });
        proto.Graph.Node[proto.Graph.Node.IndexOf(flatten)] = OnnxFiles.Node("Reshape", [flatten.Input[0], "batch"], flatten.Output[0]);
        using var model = Load(onDevice);
        using var fixedBatch = AdaptiveModel.Load(OnnxFiles.Write(_folder, proto), new AdaptiveModelOptions { UsesTorchOperators = onDevice });
        Assert.Equal(4, fixedBatch.FramesPerPass);
        var (parts, steps) = (fixedBatch.CreateState(Tent("{}")), model.CreateState(Tent("{}")));

        var whole = fixedBatch.Run([new StreamStep(parts, Trainable.Frames(0, 8))])[0];
        var first = model.Run([new StreamStep(steps, Trainable.Frames(0, 4))])[0].Outputs[0].Values;
        var second = model.Run([new StreamStep(steps, Trainable.Frames(4, 4))])[0].Outputs[0].Values;

        Assert.Equal((1, 8), (whole.Steps, whole.Frames));
        Close.Assert([.. first, .. second], whole.Outputs[0].Values, 1e-4, "answers");
        Close.Assert(Affine(model.Export(steps, default)), Affine(fixedBatch.Export(parts, default)), 1e-5, "scales and biases");
    }

    /// <summary>A pass keeps no more activations than it may: more streams go in several passes, with the same results, and a step that needs more alone is refused.</summary>
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Run_MoreFramesThanGradientsHaveRoomFor_GoInSeveralPassesOrAreRefused(bool onDevice)
    {
        // What the sites of a frame see: 12 and three times 16 channels.
        var frame = 5L * sizeof(float) * ((12 * 12 * 12) + (3 * 16 * 3 * 3));
        using var wide = Load(onDevice);
        using var narrow = Trainable.Load(new AdaptiveModelOptions { UsesTorchOperators = onDevice, GradientBytes = (9 * frame) + 1 });
        int[] counts = [4, 4, 8, 5, 10];
        StateAndTwin[] streams = [.. counts.Select(_ => new StateAndTwin(narrow.CreateState(Tent("{}")), wide.CreateState(Tent("{}"))))];

        var results = narrow.Run([.. streams.Select((stream, i) => new StreamStep(stream.State, Trainable.Frames(5 * i, counts[i])))]);
        var expected = wide.Run([.. streams.Select((stream, i) => new StreamStep(stream.Twin, Trainable.Frames(5 * i, counts[i])))]);

        for (var i = 0; i < 4; i++)
        {
            Close.Assert(expected[i].Outputs[0].Values, results[i].Outputs[0].Values, 1e-4, $"stream {i}");
            Close.Assert(Affine(wide.Export(streams[i].Twin, default)), Affine(narrow.Export(streams[i].State, default)), 1e-5, $"stream {i}");
        }

        Assert.Equal(StepStatus.Refused, results[4].Status);
        Assert.Contains("(GradientBytes); send at most 9 frames a step", results[4].Message, StringComparison.Ordinal);
        Assert.Equal(0, streams[4].State.Steps);
    }

    /// <summary>Scales and biases that answer everything with one class, where neither the source nor a fresh stream does, are noticed and left.</summary>
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Run_CollapsedStream_GoesBackToTheSource(bool onDevice)
    {
        using var model = Load(onDevice);
        var state = model.CreateState(Tent("""{"optimizer":"sgd","learning_rate":1,"momentum":0.9}"""));
        var rolledBack = false;
        for (var t = 0; t < 200 && !rolledBack; t++)
        {
            rolledBack = model.Run([new StreamStep(state, Trainable.Frames(8 * t, 8))])[0].RolledBack == RollbackReason.Collapsed;
        }

        Assert.True(rolledBack);
        Assert.Equal(0, state.Frames);
        Assert.Equal([.. model.Sites.SelectMany(site => (float[])[.. site.Weight, .. site.Bias])], Affine(model.Export(state, default)));
        Assert.Equal([0f], Trainable.Tensor(model.Export(state, default), "stream.updates"));
    }

    private sealed record StateAndTwin(StreamState State, StreamState Twin);

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    private static AdaptiveModel Load(bool onDevice) =>
        Trainable.Load(new AdaptiveModelOptions { UsesTorchOperators = onDevice, Observation = new ObservationOptions() });

    private static MethodSettings Tent(string hyperparameters) => MethodSettings.Create("tent", (JsonObject)JsonNode.Parse(hyperparameters)!);

    private static float[] Affine(byte[] snapshot) =>
        [.. Layers.SelectMany(layer => (float[])[.. Trainable.Tensor(snapshot, $"{layer}.scale"), .. Trainable.Tensor(snapshot, $"{layer}.bias")])];

    private static IEnumerable<float> Reach(NormalizationSite site) => site.Weight.Select(weight => 8 * Math.Max(Math.Abs(weight), site.Weight.Average(Math.Abs)));

    // A frozen stream is watched, too.
    private static float[][] WithoutObservation(byte[] snapshot) =>
        [.. Safetensors.Read(snapshot).Names.Where(name => !ObservedStatistics.IsTensor(name)).Select(name => Trainable.Tensor(snapshot, name))];

    private static FrameBlock Random(int frames)
    {
        var random = new Random(1);
        return FrameBlock.FromValues(Enumerable.Range(0, frames * 4).Select(_ => (random.NextSingle() * 2) - 1).ToArray(), frames, 1, 2, 2);
    }

    private static NodeProto Norm(string x, string y) => OnnxFiles.Node("BatchNormalization", [x, "norm.weight", "norm.bias", "norm.mean", "norm.var"], y);

    private static AttributeProto Int(string name, long value) => new() { Name = name, Type = AttributeProto.Types.AttributeType.Int, I = value };

    private static AttributeProto Ints(string name, params long[] values) => new() { Name = name, Type = AttributeProto.Types.AttributeType.Ints, Ints = { values } };

    // Frames of 1x2x2, two channels, three classes.
    private string Write(NodeProto[] nodes, float[]? weight = null, float[]? bias = null)
    {
        var model = OnnxFiles.Model(nodes);
        model.Graph.Initializer.Add(
        [
            OnnxFiles.Floats("w", [2, 1, 1, 1], 1, -0.5f),
            OnnxFiles.Floats("norm.weight", [2], weight ?? [1, 0.8f]),
            OnnxFiles.Floats("norm.bias", [2], bias ?? [0.5f, 0.1f]),
            OnnxFiles.Floats("norm.mean", [2], 0, 0),
            OnnxFiles.Floats("norm.var", [2], 1, 1),
            OnnxFiles.Floats("fc", [2, 3], 1, -1, 0.3f, 0.2f, 0.9f, -0.7f),
            OnnxFiles.Floats("scale", [], 0.1f),
            new TensorProto { Name = "zero", DataType = (int)TensorProto.Types.DataType.Uint8, Int32Data = { 128 } },
        ]);
        var shape = new TensorShapeProto { Dim = { new TensorShapeProto.Types.Dimension { DimParam = "n" }, new TensorShapeProto.Types.Dimension { DimValue = 3 } } };
        model.Graph.Output[0].Type = new TypeProto { TensorType = new TypeProto.Types.Tensor { ElemType = (int)TensorProto.Types.DataType.Float, Shape = shape } };
        return OnnxFiles.Write(Directory.CreateDirectory(Path.Combine(_folder, Guid.NewGuid().ToString("N"))).FullName, model);
    }
}

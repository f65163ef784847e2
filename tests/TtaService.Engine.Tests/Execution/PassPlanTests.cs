using System.Buffers;
using System.Text.Json.Nodes;
using TtaService.Engine.Drift;
using TtaService.Engine.Execution;
using TtaService.Engine.Normalization;
using TtaService.Engine.Onnx;
using TtaService.Engine.Onnx.Wire;
using TtaService.Engine.Streams;
using static TtaService.Engine.Tests.Onnx.OnnxFiles;

namespace TtaService.Engine.Tests.Execution;

/// <summary>The SIMD path of the CPU.</summary>
public sealed class HostPassPlanTests() : PassPlanTests(usesTorchOperators: false);

/// <summary>The path of other devices, in torch operators, on the CPU.</summary>
public sealed class DevicePassPlanTests() : PassPlanTests(usesTorchOperators: true);

/// <summary>Graphs whose frames do not simply lie on the first axis.</summary>
public abstract class PassPlanTests(bool usesTorchOperators) : IDisposable
{
    private const int Side = 4;
    private const int Channels = 4;

    private static readonly MethodSettings Source = MethodSettings.Create("source");

    private readonly string _folder = Directory.CreateTempSubdirectory("tta-plan-").FullName;
    private readonly List<AdaptiveModel> _models = [];
    private readonly Random _random = new(1);

    [Fact]
    public void Load_ParametersForOtherChannels_NamesBothNumbers()
    {
        Assert.Contains("7 values, its input 'c' has 4 channels", Refusal(Graph(0, Norm("c", "y", 7))), StringComparison.Ordinal);
        // Behind a node whose channels no weight tells.
        Assert.Contains("7 channels", Refusal(Graph(0, Node("Relu", ["c"], "r"), Norm("r", "y", 7))), StringComparison.Ordinal);
        Assert.Contains("7 channels", Refusal(Graph(0, Node("Flatten", ["c"], "r"), Norm("r", "y", 7))), StringComparison.Ordinal);
    }

    [Fact]
    public void TokensInTheFirstAxis_AreNormalizedLikePixels()
    {
        // BatchNorm1d over [N,C,L], and over the same values as [N*L,C] (LeViT's Linear and BatchNorm1d).
        var plain = Load(Graph(0, Reshape("c", "t", 0, 0, -1), Norm("t", "n"), Mean("n", "y", 2)));
        var flat = Load(Graph(
            0,
            Reshape("c", "t", 0, 0, -1),
            Node("Transpose", ["t"], "tt", Ints("perm", 0, 2, 1)),
            Reshape("tt", "f", -1, Channels),
            Norm("f", "n"),
            Reshape("n", "b", -1, Side * Side, Channels),
            Mean("b", "y", 1)));

        Assert.Empty(plain.Notices);
        Assert.Empty(flat.Notices);
        // With one component: more start from numbers drawn for the model's file.
        foreach (var method in MethodRegistry.BuiltIn.All
            .Select(method => MethodSettings.Create(method.Name, method.Name == "unmix_tns" ? new JsonObject { ["components"] = 1 } : null)))
        {
            if (plain.WhyUnavailable(method) is not null)
            {
                continue;
            }

            var (one, other) = (plain.CreateState(method), flat.CreateState(method));
            for (var step = 0; step < 3; step++)
            {
                var frames = Frames(4);
                Close.Assert(Run(plain, one, frames).Outputs[0].Values, Run(flat, other, frames).Outputs[0].Values, 1e-4, $"{method.Name} step {step}");
            }
        }
    }

    [Fact]
    public void TilesOutermost_StayAtTheirSourceStatisticsAndSaySo()
    {
        var model = Load(Graph(
            0,
            Reshape("c", "p", -1, Channels, 2, Side / 2, 2, Side / 2),
            Node("Transpose", ["p"], "q", Ints("perm", 2, 4, 0, 1, 3, 5)),
            Reshape("q", "t", -1, Channels, Side / 2, Side / 2),
            Norm("t", "n"),
            Reshape("n", "u", 2, 2, -1, Channels, Side / 2, Side / 2),
            Node("Transpose", ["u"], "v", Ints("perm", 2, 3, 0, 4, 1, 5)),
            Reshape("v", "z", -1, Channels, Side, Side),
            Mean("z", "y", 2, 3)));

        Assert.True(model.StaysAtSource(Assert.Single(model.Sites)));
        Assert.Contains("stays at its source statistics", Assert.Single(model.Notices), StringComparison.Ordinal);
        var frames = Frames(3);
        var state = model.CreateState(MethodSettings.Create("ema"));
        var before = model.Export(state, default);
        var adapted = Run(model, state, frames);
        Close.Assert(Run(model, model.CreateState(Source), frames).Outputs[0].Values, adapted.Outputs[0].Values, 1e-5, "a site at source statistics");
        Assert.Equal(Values(before), Values(model.Export(state, default)));
    }

    [Fact]
    public void BakedBatchOfOne_FramesThatWouldMix_RunOneByOne()
    {
        var model = Load(Mixing(0));

        Assert.Equal(1, model.FramesPerPass);
        Assert.Contains("a pass takes 1 frame", Assert.Single(model.Notices), StringComparison.Ordinal);
        var frames = Enumerable.Range(0, 4).Select(_ => Frames(1)).ToArray();
        foreach (var method in new[] { "source", "ema", "adaptive", "unmix_tns", "alpha_bn" }.Select(name => MethodSettings.Create(name)))
        {
            // A step of four frames is four steps of one, committed together.
            var (joined, single) = (model.CreateState(method), model.CreateState(method));
            var answers = frames.Select(frame => Run(model, single, frame).Outputs[0].Values).ToArray();
            var answer = Run(model, joined, Join(frames));
            Assert.Equal([4, 3], answer.Outputs[0].Shape);
            Close.Assert(answers.SelectMany(values => values).ToArray(), answer.Outputs[0].Values, 1e-5, method.Name);
            Assert.Equal((1, 4), (joined.Steps, joined.Frames));
            Close.Assert(Values(model.Export(single, default)), Values(model.Export(joined, default)), 1e-5, $"{method.Name} state");

            // Beside other streams, frozen, too.
            var others = model.Run(
                [new StreamStep(model.CreateState(method), frames[1]), new StreamStep(single, frames[0], Freeze: true), new StreamStep(model.CreateState(Source), frames[2])]);
            Close.Assert(Run(model, model.CreateState(method), frames[1]).Outputs[0].Values, others[0].Outputs[0].Values, 1e-5, $"{method.Name} beside others");
        }

        var refused = Run(model, model.CreateState(MethodSettings.Create("tbn")), Join(frames));
        Assert.Equal(StepStatus.Refused, refused.Status);
        Assert.Contains("takes 1 frame(s) a pass", refused.Message, StringComparison.Ordinal);
        Assert.Equal(4, model.RunSource([Join(frames)])[0].Shape[0]);
    }

    [Fact]
    public void FrozenStep_InParts_UsesTheStateAsItWasForEveryFrame()
    {
        var model = Load(Mixing(0));
        var state = model.CreateState(MethodSettings.Create("ema"));
        Run(model, state, Frames(1));
        var before = model.Export(state, default);
        var frames = Enumerable.Range(0, 3).Select(_ => Frames(1)).ToArray();
        var each = frames.Select(frame => model.Run([new StreamStep(state, frame, Freeze: true)])[0].Outputs[0].Values).SelectMany(values => values).ToArray();

        var together = model.Run([new StreamStep(state, Join(frames), Freeze: true)])[0];

        Close.Assert(each, together.Outputs[0].Values, 1e-6, "frozen");
        Assert.Equal(before, model.Export(state, default));
    }

    [Fact]
    public void FixedBatch_FillsItsPasses()
    {
        // Flatten with the batch of the export as a constant: three frames, not more and not fewer.
        var model = Load(Graph(3, Norm("c", "n"), Reshape("n", "f", 3, -1), Reshape("f", "g", 3, Channels, -1), Mean("g", "y", 2)));

        Assert.Equal(3, model.FramesPerPass);
        Assert.Contains("its batch is fixed to 3", Assert.Single(model.Notices), StringComparison.Ordinal);
        var free = Load(Graph(0, Norm("c", "n"), Mean("n", "y", 2, 3)));
        foreach (var method in new[] { "source", "ema" }.Select(name => MethodSettings.Create(name)))
        {
            foreach (var count in new[] { 1, 2, 3 })
            {
                var frames = Frames(count);
                Close.Assert(Run(free, free.CreateState(method), frames).Outputs[0].Values,
                    Run(model, model.CreateState(method), frames).Outputs[0].Values, 1e-5, $"{method.Name}, {count} frames");
            }

            var many = Frames(7);
            Assert.Equal([7, Channels], Run(model, model.CreateState(method), many).Outputs[0].Shape);
        }

        var (a, b) = (Frames(2), Frames(5));
        Close.Assert(free.RunSource([a, b])[0].Values, model.RunSource([a, b])[0].Values, 1e-5, "source");
    }

    [Fact]
    public void FixedBatch_OfFramesThatMix_IsRefusedWithTheWayOut()
    {
        var refusal = Refusal(Graph(2, Norm("c", "n"), Mean("n", "k", 2, 3), Mean("n", "m", 0, 2, 3), Node("Add", ["k", "m"], "y")));

        Assert.Contains("its batch is fixed to 2", refusal, StringComparison.Ordinal);
        Assert.Contains("dynamic_axes", refusal, StringComparison.Ordinal);
    }

    [Fact]
    public void OutputWithFramesOnAnotherAxis_IsAnsweredFramesFirst()
    {
        // A CRNN's [T,N,C].
        var model = Load(Graph(0, Norm("c", "n"), Mean("n", "m", 2), Node("Transpose", ["m"], "y", Ints("perm", 2, 0, 1))));

        Assert.Contains("holds its frames on axis 1", Assert.Single(model.Notices), StringComparison.Ordinal);
        var (a, b) = (Frames(1), Frames(1));
        var (one, other) = (Run(model, model.CreateState(Source), a).Outputs[0], Run(model, model.CreateState(Source), b).Outputs[0]);
        var both = Run(model, model.CreateState(Source), Join([a, b])).Outputs[0];
        Assert.Equal([2, Side, Channels], both.Shape);
        Close.Assert([.. one.Values, .. other.Values], both.Values, 1e-6, "frames first");
    }

    [Fact]
    public void OutputOfAsManyRowsAsWereFound_IsAnsweredFrameByFrameOrRefused()
    {
        // As detection with NMS in the graph: indices of what is positive, over the whole pass.
        var model = Load(Graph(0, Norm("c", "n"), Node("Greater", ["n", "zero"], "g"), Node("NonZero", ["g"], "y")));

        Assert.Equal(1, model.FramesPerPass);
        Assert.Contains(model.Notices, notice => notice.Contains("has no axis for the frames", StringComparison.Ordinal));
        var state = model.CreateState(Source);
        var answer = Run(model, state, Frames(1));
        Assert.Equal((StepStatus.Ok, 3, 1), (answer.Status, answer.Outputs[0].Shape.Length, answer.Outputs[0].Shape[0]));
        var refused = Run(model, state, Frames(8));
        Assert.Equal(StepStatus.Refused, refused.Status);
        Assert.Contains("send one frame a step", refused.Message, StringComparison.Ordinal);
        Assert.Equal(1, state.Steps);
    }

    [Fact]
    public void OutputOfAsManyEntriesAsWereFound_OfSeveralFrames_IsAnsweredFrameByFrame()
    {
        // As a detector that suppresses by itself: as many rows of numbers as there are, over the whole pass.
        var model = Load(Graph(0, Norm("c", "n"), Node("Greater", ["n", "zero"], "g"), Node("NonZero", ["g"], "z"), Node("Transpose", ["z"], "y")));
        var frames = Frames(8);
        var alone = Enumerable.Range(0, 8).Select(frame => Run(model, model.CreateState(Source), frames.CopyFrame(frame)).Outputs[0]).ToArray();

        var answer = Run(model, model.CreateState(Source), frames);
        var marked = model.Run([new StreamStep(model.CreateState(Source), frames)
        {
            NotLearned = [.. Enumerable.Range(0, 8).Select(frame => frame % 3 == 0 ? NotLearnedReason.Damaged : NotLearnedReason.None)],
        }])[0];

        Assert.True(alone.Select(output => output.Shape[1]).Distinct().Count() > 1);
        foreach (var output in new[] { answer.Outputs[0], marked.Outputs[0], model.RunSource([frames])[0] })
        {
            Assert.Equal([8, alone.Max(own => own.Shape[1]), 4], output.Shape);
            Assert.Equal(alone.Select(own => own.Shape[1]), output.Entries);
            Assert.All(alone, (own, frame) => Assert.Equal(own.Values, output.OfFrame(frame).ToArray()));
            Assert.All(alone, (own, frame) => Assert.All(output.Part(frame, 1).Values[own.Values.Length..], value => Assert.Equal(0, value)));
            Assert.Equal(output.Entries.Skip(2).Take(3), output.Part(2, 3).Entries);
        }
    }

    [Fact]
    public void OpenSize_IsTriedToo()
    {
        var model = Graph(0, Norm("c", "n"), Mean("n", "m", 2, 3), Reshape("m", "f", 1, -1), Reshape("f", "g", 1, -1, Channels), Mean("g", "y", 1));
        foreach (var dim in model.Graph.Input[0].Type.TensorType.Shape.Dim.Skip(2))
        {
            dim.DimParam = "side";
        }

        Assert.Equal(1, Load(model).FramesPerPass);
        Assert.Equal(1, Load(model, new AdaptiveModelOptions { FrameSize = (12, 20) }).FramesPerPass);
    }

    /// <summary>Large frames are tried small; what these show is believed as far as those of the graph's own size agree.</summary>
    [Theory]
    [InlineData(256, 1)]
    [InlineData(300, null)]
    public void LargeFrames_ThatMixAtTheirOwnSizeOnly_RunOneByOne(int mixingSide, int? framesPerPass)
    {
        const int Large = 256;
        var model = Graph(
            0,
            Norm("c", "n"),
            Node("Shape", ["x"], "s"),
            Node("Gather", ["s", "two"], "h"),
            Node("Div", ["h", "mixing"], "is"),
            Node("Cast", ["is"], "mixes", Int("to", 1)),
            Node("ReduceMean", ["n"], "all", Ints("axes", 0), Int("keepdims", 1)),
            Node("Mul", ["all", "mixes"], "other"),
            Node("Add", ["n", "other"], "both"),
            Mean("both", "y", 2, 3));
        model.Graph.Initializer.Add([Scalar("two", 2), Scalar("mixing", mixingSide)]);
        foreach (var dim in model.Graph.Input[0].Type.TensorType.Shape.Dim.Skip(2))
        {
            dim.DimValue = Large;
        }

        Assert.Equal(framesPerPass, Load(model).FramesPerPass);
    }

    [Theory]
    [InlineData("ConstantOfShape", 65536, 65536)]
    [InlineData("Expand", 65536, 65536)]
    [InlineData("Tile", 65536, 65536)]
    [InlineData("Range", 0, 1L << 40)]
    [InlineData("Pad", 1L << 33, 0)]
    [InlineData("MatMul", 65536, 65536)]
    public void Load_ConstantOfGigabytes_IsRefusedBeforeItIsMade(string op, long a, long b)
    {
        string[] inputs = op switch
        {
            "ConstantOfShape" => ["shape"],
            "Range" => ["first", "last", "one64"],
            "MatMul" => ["column", "row"],
            "Pad" => ["vector", "shape"],
            "Tile" => ["square", "shape"],
            _ => ["scalar", "shape"],
        };
        var model = Graph(0, Node(op, inputs, "k"), Node("ReduceMax", ["k"], "r", Int("keepdims", 0)), Node("Cast", ["r"], "f", Int("to", 1)), Node("Add", ["c", "f"], "y"));
        model.Graph.Initializer.Add([
            Longs("shape", a, b), Scalar("first", a), Scalar("last", b), Scalar("one64", 1), Floats("scalar", [], 1), Floats("vector", [1], 1), Floats("square", [1, 1], 1),
            Floats("column", [32768, 1], new float[32768]), Floats("row", [1, 32768], new float[32768])]);

        var refusal = Refusal(model);

        Assert.Contains($"({op}, opset 17)", refusal, StringComparison.Ordinal);
        Assert.Contains("would be a constant of", refusal, StringComparison.Ordinal);
    }

    [Fact]
    public void Load_ActivationsOfTerabytes_IsRefusedWithTheNode()
    {
        var model = Graph(0, Node("Tile", ["c", "times"], "y"));
        model.Graph.Initializer.Add(Longs("times", 1, 1, 1 << 20, 1 << 20));

        Assert.Contains("'Tile_y' (Tile) would make", Refusal(model), StringComparison.Ordinal);
    }

    [Fact]
    public void Run_WhenTheLastStepsThrow_CommitsNone()
    {
        var model = Load(Graph(0, Norm("c", "n"), Mean("n", "y", 2, 3)), new AdaptiveModelOptions { Observation = new ObservationOptions { Tau = 1, SourceInterval = 100 } });
        var (plain, adapted, broken) = (model.CreateState(Source), model.CreateState(MethodSettings.Create("ema")), model.CreateState(MethodSettings.Create("adaptive")));
        Run(model, plain, Frames(1));
        Run(model, adapted, Frames(1));
        var before = model.Export(adapted, default);
        using var memory = new VanishingMemory(3 * Side * Side);

        Assert.Throws<IOException>(() => model.Run(
            [new StreamStep(plain, Frames(1)), new StreamStep(adapted, Frames(1)), new StreamStep(broken, FrameBlock.FromValues(memory.Memory, 1, 3, Side, Side))]));

        Assert.Equal((1, 1, 0), (plain.Steps, adapted.Steps, broken.Steps));
        Assert.Equal(before, model.Export(adapted, default));
        Assert.Equal(2, Run(model, plain, Frames(1)).Steps);
        Assert.Equal(2, Run(model, adapted, Frames(1)).Steps);
    }

    [Fact]
    public void CreateState_ManySettings_ShareTheirArena()
    {
        var model = Load(Graph(0, Norm("c", "n"), Mean("n", "y", 2, 3)));
        var states = Enumerable.Range(0, 300)
            .Select(i => model.CreateState(MethodSettings.Create("unmix_tns", new JsonObject { ["components"] = 512, ["temperature"] = 0.05 + (i * 1e-4) }))).ToList();
        Run(model, states[7], Frames(1));

        Assert.InRange(model.HeldBytes, model.ResidentBytes, model.ResidentBytes * 13 / 10);

        // What is given back does not stay, and what stays goes on.
        var kept = states[150];
        var before = model.Export(kept, default);
        var reference = Run(model, states[7], Frames(1), freeze: true);
        states.Where(state => state != kept && state != states[7]).ToList().ForEach(model.Release);
        Assert.InRange(model.HeldBytes, model.ResidentBytes, Math.Max(32 << 20, 4 * model.ResidentBytes));
        Assert.Equal(before, model.Export(kept, default));
        Assert.Equal(StepStatus.Ok, reference.Status);
        model.Release(kept);
        model.Release(states[7]);
        Assert.Equal(0, model.ResidentBytes);
    }

    [Fact]
    public void CreateState_OfManySettingsAndSizes_HoldsNoMoreThanTheBudget()
    {
        static MethodSettings Settings(int components, int i) =>
            MethodSettings.Create("unmix_tns", new JsonObject { ["components"] = components, ["temperature"] = 0.05 + (i * 1e-4) });
        var graph = Graph(0, Norm("c", "n"), Mean("n", "y", 2, 3));
        var bytes = Load(graph).StateBytes(Settings(64, 0));
        var model = Load(graph, new AdaptiveModelOptions { ArenaBytes = (500 * bytes) + (bytes / 2) });

        // As many temperatures as the budget says, and what is held is counted.
        var states = Enumerable.Range(0, 500).Select(i => model.CreateState(Settings(64, i))).ToList();
        Assert.Throws<ArenaFullException>(() => model.CreateState(Settings(64, 500)));
        Assert.InRange(model.HeldBytes, model.ResidentBytes, model.ArenaBytes);
        var results = model.Run([.. states[..64].Select(state => new StreamStep(state, Frames(1)))]);
        Assert.All(results, result => Assert.Equal(StepStatus.Ok, result.Status));
        Assert.InRange(model.HeldBytes, model.ResidentBytes, model.ArenaBytes);

        // Rows of another size come in for some, whose free rows lie between those that stay.
        var kept = states.Where((_, i) => i % 4 != 0).ToList();
        var before = kept.ConvertAll(state => model.Export(state, default));
        states.Except(kept).ToList().ForEach(model.Release);
        var larger = new List<StreamState>();
        while (model.ResidentBytes + model.StateBytes(Settings(128, 0)) <= model.ArenaBytes)
        {
            larger.Add(model.CreateState(Settings(128, larger.Count)));
            Assert.InRange(model.HeldBytes, model.ResidentBytes, model.ArenaBytes);
        }

        Assert.InRange(larger.Count, 50, 125);
        Assert.Equal(before, kept.ConvertAll(state => model.Export(state, default)));
        Assert.Equal(StepStatus.Ok, Run(model, larger[^1], Frames(1)).Status);
        kept.ForEach(model.Release);
        larger.ForEach(model.Release);
        Assert.Equal(0, model.ResidentBytes);
    }

    [Fact]
    public void Run_InAProcessOfOthers_LeavesTorchsThreadsAsTheyWere()
    {
        var model = Load(Graph(0, Norm("c", "n"), Mean("n", "y", 2, 3)), new AdaptiveModelOptions { Threads = 1 });
        var before = TorchSharp.torch.get_num_threads();

        Run(model, model.CreateState(MethodSettings.Create("ema")), Frames(2));

        Assert.Equal(before, TorchSharp.torch.get_num_threads());
    }

    public void Dispose()
    {
        _models.ForEach(model => model.Dispose());
        Directory.Delete(_folder, recursive: true);
        GC.SuppressFinalize(this);
    }

    private AdaptiveModel Load(ModelProto model, AdaptiveModelOptions? options = null)
    {
        _models.Add(AdaptiveModel.Load(Write(_folder, model), (options ?? new AdaptiveModelOptions()) with { UsesTorchOperators = usesTorchOperators }));
        return _models[^1];
    }

    private string Refusal(ModelProto model) => Assert.Throws<ModelLoadException>(() => Load(model)).Message;

    // Tokens are pooled over an axis that holds those of all frames once there are several.
    private static ModelProto Mixing(int batch) => Graph(
        batch,
        Norm("c", "n"),
        Reshape("n", "t", 1, Channels, -1),
        Mean("t", "m", 2),
        Reshape("m", "f", -1, Channels),
        Node("MatMul", ["f", "head"], "y"));

    // c is a convolution of x; further nodes make y.
    private static ModelProto Graph(int batch, params NodeProto[] nodes)
    {
        var model = Model([Node("Conv", ["x", "w"], "c", Ints("pads", 1, 1, 1, 1)), .. nodes]);
        var shape = model.Graph.Input[0].Type.TensorType.Shape;
        shape.Dim.Clear();
        shape.Dim.Add(batch == 0 ? new TensorShapeProto.Types.Dimension { DimParam = "n" } : new TensorShapeProto.Types.Dimension { DimValue = batch });
        shape.Dim.Add([.. new long[] { 3, Side, Side }.Select(extent => new TensorShapeProto.Types.Dimension { DimValue = extent })]);
        var random = new Random(5);
        float[] Numbers(int count, double center = 0) => [.. Enumerable.Range(0, count).Select(_ => (float)(center + random.NextDouble() - 0.5))];
        model.Graph.Initializer.Add([
            Floats("w", [Channels, 3, 3, 3], Numbers(Channels * 27)), Floats("head", [Channels, 3], Numbers(Channels * 3)), Floats("zero", [], 0),
            Floats("weight4", [4], Numbers(4, 1)), Floats("bias4", [4], Numbers(4)), Floats("mean4", [4], Numbers(4)), Floats("var4", [4], Numbers(4, 1)),
            Floats("weight7", [7], Numbers(7, 1)), Floats("bias7", [7], Numbers(7)), Floats("mean7", [7], Numbers(7)), Floats("var7", [7], Numbers(7, 1))]);
        foreach (var shapes in nodes.Where(node => node.OpType == "Reshape"))
        {
            model.Graph.Initializer.Add(
                Longs(shapes.Input[1], [.. shapes.Input[1].Split(':')[1].Split(',').Select(extent => long.Parse(extent, System.Globalization.CultureInfo.InvariantCulture))]));
        }

        return model;
    }

    private static NodeProto Norm(string x, string y, int channels = Channels) =>
        Node("BatchNormalization", [x, $"weight{channels}", $"bias{channels}", $"mean{channels}", $"var{channels}"], y);

    private static NodeProto Reshape(string x, string y, params long[] shape) => Node("Reshape", [x, $"shape_{y}:{string.Join(',', shape)}"], y);

    private static NodeProto Mean(string x, string y, params long[] axes) => Node("ReduceMean", [x], y, Ints("axes", axes), Int("keepdims", 0));

    private static AttributeProto Int(string name, long value) => new() { Name = name, I = value };

    private static AttributeProto Ints(string name, params long[] values) => new() { Name = name, Ints = { values } };

    private static TensorProto Longs(string name, params long[] values) =>
        new() { Name = name, Dims = { values.Length }, DataType = (int)TensorProto.Types.DataType.Int64, Int64Data = { values } };

    private static TensorProto Scalar(string name, long value) => new() { Name = name, DataType = (int)TensorProto.Types.DataType.Int64, Int64Data = { value } };

    private static StepResult Run(AdaptiveModel model, StreamState state, FrameBlock frames, bool freeze = false) => model.Run([new StreamStep(state, frames, freeze)])[0];

    private FrameBlock Frames(int count)
    {
        var (level, contrast) = (_random.NextDouble() - 0.5, 0.5 + _random.NextDouble());
        return FrameBlock.FromValues(
            Enumerable.Range(0, count * 3 * Side * Side).Select(_ => (float)(level + (contrast * ((2 * _random.NextDouble()) - 1)))).ToArray(), count, 3, Side, Side);
    }

    private static FrameBlock Join(FrameBlock[] frames) => FrameBlock.FromValues(frames.SelectMany(frame => frame.Values.ToArray()).ToArray(), frames.Length, 3, Side, Side);

    private static float[] Values(byte[] snapshot)
    {
        var tensors = Safetensors.Read(snapshot);
        return [.. tensors.Names.SelectMany(name =>
        {
            var values = new float[tensors.Shape(name).Aggregate(1, (product, extent) => product * extent)];
            tensors.CopyTo(snapshot, name, values);
            return values;
        })];
    }

    /// <summary>Frames whose memory can't be read.</summary>
    private sealed class VanishingMemory(int length) : MemoryManager<float>
    {
        public override Memory<float> Memory => CreateMemory(length);

        public override Span<float> GetSpan() => throw new IOException("gone");

        public override MemoryHandle Pin(int elementIndex = 0) => throw new IOException("gone");

        public override void Unpin()
        {
        }

        protected override void Dispose(bool disposing)
        {
        }
    }
}

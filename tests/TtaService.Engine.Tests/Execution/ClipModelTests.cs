using System.Text.Json.Nodes;
using TorchSharp;
using TtaService.Engine.Calibration;
using TtaService.Engine.Execution;
using TtaService.Engine.Normalization;
using TtaService.Engine.Onnx;
using TtaService.Engine.Onnx.Wire;
using static TorchSharp.torch;
using static TtaService.Engine.Tests.Onnx.OnnxFiles;

namespace TtaService.Engine.Tests.Execution;

/// <summary>Networks of clips: several frames are one input, whatever the order of its axes, and one answer.</summary>
public sealed class ClipModelTests : IDisposable
{
    private const int Clip = 4;
    private const int Side = 8;
    private const int Channels = 6;

    private readonly string _folder = Directory.CreateTempSubdirectory("tta-clips-").FullName;
    private readonly Random _random = new(3);

    [Theory]
    [InlineData(true, false)]
    [InlineData(true, true)]
    [InlineData(false, false)]
    public void Run_StepOfTwoClips_AnswersAsTorchDoes(bool channelsFirst, bool onDevice)
    {
        using var model = AdaptiveModel.Load(Write(_folder, Network(channelsFirst)), new AdaptiveModelOptions
        {
            InputNormalization = new InputNormalization([0.4f, 0.5f, 0.6f], [0.2f, 0.3f, 0.4f]),
            UsesTorchOperators = onDevice,
        });
        Assert.Equal(Clip, model.ClipFrames);
        Assert.Equal([-1, 3, Side, Side], model.InputShape);
        Assert.Equal(channelsFirst ? InputLayout.Ncthw : InputLayout.Ntchw, model.InputLayout);
        Assert.Contains(model.Notices, notice => notice.StartsWith("the model takes clips of 4 frames", StringComparison.Ordinal));
        Assert.Null(model.FramesPerPass);
        var frames = Pixels(2 * Clip);
        var tbn = MethodSettings.Create("tbn", new JsonObject { ["min_frames"] = 1 });

        var source = model.Run([new StreamStep(model.CreateState(MethodSettings.Create("source")), frames)])[0];
        var state = model.CreateState(tbn);
        var adapted = model.Run([new StreamStep(state, frames), new StreamStep(model.CreateState(MethodSettings.Create("ema")), Pixels(Clip))])[0];

        Assert.Equal([2 * Clip, 5], source.Outputs[0].Shape);
        Close.Assert(Expected(frames, model, batchStatistics: false), source.Outputs[0].Values, 1e-4, "source");
        Close.Assert(Expected(frames, model, batchStatistics: true), adapted.Outputs[0].Values, 1e-4, "tbn");
        Close.Assert(source.Outputs[0].Values, model.RunSource([frames])[0].Values, 1e-4, "source, beside any stream");
        Assert.Equal((2 * Clip, 2L), (adapted.Frames, state.Frames));
    }

    [Fact]
    public void Run_ClipWithAFrameThatDoesNotTeach_IsAnsweredAndNotLearned()
    {
        using var model = AdaptiveModel.Load(Write(_folder, Network(true)));
        var (state, other) = (model.CreateState(MethodSettings.Create("ema")), model.CreateState(MethodSettings.Create("ema")));
        var frames = Pixels(2 * Clip);
        var reasons = new NotLearnedReason[2 * Clip];
        reasons[Clip + 1] = NotLearnedReason.Frozen;

        var marked = model.Run([new StreamStep(state, frames) { NotLearned = reasons }])[0];
        model.Run([new StreamStep(other, frames.CopyFrames(0, Clip))]);

        Assert.Equal([.. Enumerable.Repeat(NotLearnedReason.None, Clip), .. Enumerable.Repeat(NotLearnedReason.Frozen, Clip)], marked.NotLearned);
        Assert.Equal(model.Export(other, default), model.Export(state, default));
    }

    [Fact]
    public void WhyUnfit_PartOfAClip_SaysHowManyFrames()
    {
        using var model = AdaptiveModel.Load(Write(_folder, Network(true)));
        Assert.Null(model.WhyUnfit(Pixels(2 * Clip)));
        Assert.Equal("the model answers clips of 4 frames, there are 6; send whole clips, 4 frames or a multiple in a step", model.WhyUnfit(Pixels(6)));
        var refused = Assert.Throws<ArgumentException>(() => model.Run([new StreamStep(model.CreateState(MethodSettings.Create("source")), Pixels(6))]));
        Assert.Contains("clips of 4 frames", refused.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Load_ClipsOfNoFixedLength_IsRefused()
    {
        var open = Network(true);
        open.Graph.Input[0].Type.TensorType.Shape.Dim[2].DimParam = "frames";
        var refused = Assert.Throws<ModelLoadException>(() => AdaptiveModel.Load(Write(_folder, open)));
        Assert.Contains("takes clips of a number of frames that is not fixed", refused.Message, StringComparison.Ordinal);
        refused = Assert.Throws<ModelLoadException>(() => AdaptiveModel.Load(Write(_folder, Network(true)), new AdaptiveModelOptions { Layout = InputLayout.Nhwc }));
        Assert.Contains("does not lie as preprocessing.layout says (nhwc)", refused.Message, StringComparison.Ordinal);
    }

    /// <summary>Convolutions over clips are virtual sites like any other; a calibration counts clips.</summary>
    [Fact]
    public void Calibrate_FoldedNetworkOfClips_AdaptsItsConvolution()
    {
        var folded = Network(true);
        var norm = folded.Graph.Node.Single(node => node.OpType == "BatchNormalization");
        folded.Graph.Node.Single(node => node.OpType == "Relu").Input[0] = norm.Input[0];
        folded.Graph.Node.Remove(norm);
        var path = Write(_folder, folded);
        using var plain = AdaptiveModel.Load(path, new AdaptiveModelOptions { ForCalibration = true });
        var calibrator = new Calibrator(plain);
        calibrator.Observe(Pixels(Clip * Calibrator.MinFrames));
        Assert.Equal(Calibrator.MinFrames, calibrator.Frames);

        using var model = AdaptiveModel.Load(path, new AdaptiveModelOptions { Calibration = calibrator.Complete(default) });

        Assert.Equal((SiteKind.Virtual, Channels), (Assert.Single(model.Sites).Kind, model.Sites[0].Channels));
        var frames = Pixels(2 * Clip);
        var adapted = model.Run([new StreamStep(model.CreateState(MethodSettings.Create("auto")), frames)])[0];
        Assert.Equal(StepStatus.Ok, adapted.Status);
        Assert.Equal([2 * Clip, 5], adapted.Outputs[0].Shape);
    }

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    private FrameBlock Pixels(int count)
    {
        var pixels = new byte[count * 3 * Side * Side];
        _random.NextBytes(pixels);
        return FrameBlock.FromPixels(pixels, count, 3, Side, Side);
    }

    // Clips of the frames as torch takes them, each answer for each frame of its clip.
    private static float[] Expected(FrameBlock frames, AdaptiveModel model, bool batchStatistics)
    {
        using var scope = NewDisposeScope();
        var (mean, std) = (tensor(model.InputNormalization.Mean).view(1, 3, 1, 1), tensor(model.InputNormalization.Std).view(1, 3, 1, 1));
        var images = ((tensor(frames.Pixels.ToArray()).view(-1, 3, Side, Side).to_type(ScalarType.Float32) / 255) - mean) / std;
        var clips = images.view(-1, Clip, 3, Side, Side).transpose(1, 2);
        var random = new Random(5);
        var convolved = nn.functional.conv3d(clips, tensor(Numbers(random, Channels * 3 * 27)).view(Channels, 3, 3, 3, 3), padding: [1, 1, 1]);
        var site = model.Sites[0];
        var normalized = nn.functional.batch_norm(
            convolved, tensor(site.Mean), tensor(site.Variance), tensor(site.Weight), tensor(site.Bias), training: batchStatistics, eps: site.Epsilon);
        var scores = normalized.relu().mean([2L, 3, 4]).matmul(tensor(Numbers(random, Channels * 5)).view(Channels, 5));
        return scores.repeat_interleave(Clip, 0).contiguous().data<float>().ToArray();
    }

    private static ModelProto Network(bool channelsFirst)
    {
        var random = new Random(5);
        var (kernel, head) = (Numbers(random, Channels * 3 * 27), Numbers(random, Channels * 5));
        static AttributeProto Ints(string name, params long[] values) => new() { Name = name, Type = AttributeProto.Types.AttributeType.Ints, Ints = { values } };
        NodeProto[] nodes =
        [
            Node("Transpose", ["x"], "clips", Ints("perm", 0, 2, 1, 3, 4)),
            Node("Conv", [channelsFirst ? "x" : "clips", "w"], "c", Ints("pads", 1, 1, 1, 1, 1, 1)),
            Node("BatchNormalization", ["c", "weight", "bias", "mean", "variance"], "n"),
            Node("Relu", ["n"], "r"),
            Node("ReduceMean", ["r"], "m", Ints("axes", 2, 3, 4), new AttributeProto { Name = "keepdims", Type = AttributeProto.Types.AttributeType.Int }),
            Node("MatMul", ["m", "head"], "y"),
        ];
        var model = Model(channelsFirst ? nodes[1..] : nodes);
        var shape = model.Graph.Input[0].Type.TensorType.Shape;
        shape.Dim.Clear();
        shape.Dim.Add(new TensorShapeProto.Types.Dimension { DimParam = "n" });
        long[] extents = channelsFirst ? [3, Clip, Side, Side] : [Clip, 3, Side, Side];
        shape.Dim.Add([.. extents.Select(extent => new TensorShapeProto.Types.Dimension { DimValue = extent })]);
        model.Graph.Initializer.Add([
            Floats("w", [Channels, 3, 3, 3, 3], kernel), Floats("head", [Channels, 5], head),
            Floats("weight", [Channels], Numbers(random, Channels)), Floats("bias", [Channels], Numbers(random, Channels)),
            Floats("mean", [Channels], Numbers(random, Channels)), Floats("variance", [Channels], [.. Numbers(random, Channels).Select(value => 1 + (value * value))])]);
        return model;
    }

    private static float[] Numbers(Random random, int count) => [.. Enumerable.Range(0, count).Select(_ => (float)(random.NextDouble() - 0.5))];
}

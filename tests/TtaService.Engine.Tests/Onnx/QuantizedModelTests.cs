using System.Globalization;
using Google.Protobuf;
using Microsoft.ML.OnnxRuntime;
using Microsoft.ML.OnnxRuntime.Tensors;
using TtaService.Engine.Calibration;
using TtaService.Engine.Execution;
using TtaService.Engine.Normalization;
using TtaService.Engine.Onnx.Wire;
using TtaService.Engine.Tests.Evaluation;
using TtaService.Engine.Tests.Normalization.Auto;
using TtaService.Evaluation;

namespace TtaService.Engine.Tests.Onnx;

/// <summary>The demo network quantized to 8 bits in the forms that people have: it answers as in ONNX Runtime, and adapts at the dequantized outputs of its convolutions.</summary>
public sealed class QuantizedModelTests : IDisposable
{
    private const int RangeFrames = 128;
    private const int CalibrationFrames = 256;

    // TTA_QUANTIZED_FRAMES=2000 compares so many frames, and measures all corruptions with as many as half of it.
    private static readonly int Frames = int.Parse(Environment.GetEnvironmentVariable("TTA_QUANTIZED_FRAMES") ?? "384", CultureInfo.InvariantCulture);

    private static readonly LabelledImages Images = LabelledImages.Open(Repository.Sample, file => throw new InvalidOperationException(file));
    private static readonly ModelProto Folded = FoldedModel.Of(ModelProto.Parser.ParseFrom(File.ReadAllBytes(Repository.Model))).Model;

    private readonly string _folder = Directory.CreateTempSubdirectory("tta-quantized").FullName;

    public static TheoryData<Quantizing> Forms { get; } = new(
        new Quantizing(Linear: false, PerChannel: false, SignedWeights: false, SignedActivations: false),
        new Quantizing(Linear: false, PerChannel: true, SignedWeights: true, SignedActivations: true),
        new Quantizing(Linear: false, PerChannel: true, SignedWeights: true, SignedActivations: false),
        new Quantizing(Linear: true, PerChannel: false, SignedWeights: false, SignedActivations: false),
        new Quantizing(Linear: true, PerChannel: true, SignedWeights: true, SignedActivations: false));

    [Theory]
    [MemberData(nameof(Forms))]
    public void Run_QuantizedNetwork_AnswersAsOnnxRuntimeWithinAStep(Quantizing how)
    {
        var (model, step) = Quantized(how);
        using var reference = new InferenceSession(model.ToByteArray());
        using var served = AdaptiveModel.Load(OnnxFiles.Write(_folder, model), new AdaptiveModelOptions { InputNormalization = Prototype.Input });
        var (worst, other, beyond) = (0.0, 0, 0);
        for (var at = 0; at < Frames; at += 64)
        {
            var count = Math.Min(64, Frames - at);
            using var results = reference.Run([NamedOnnxValue.CreateFromTensor(model.Graph.Input[0].Name, Values(at, count))]);
            float[] expected = [.. results[0].AsEnumerable<float>()];
            var actual = served.RunSource([Pixels(at, count)])[0];
            var classes = actual.Shape[1];
            for (var frame = 0; frame < count; frame++)
            {
                var (theirs, ours) = (expected.AsSpan(frame * classes, classes).ToArray(), actual.OfFrame(frame).ToArray());
                var difference = theirs.Zip(ours, (a, b) => Math.Abs(a - b)).Max();
                worst = Math.Max(worst, difference);
                beyond += difference > 1.01 * step ? 1 : 0;
                other += Array.IndexOf(theirs, theirs.Max()) == Array.IndexOf(ours, ours.Max()) ? 0 : 1;
            }
        }

        TestContext.Current.TestOutputHelper?.WriteLine(FormattableString.Invariant(
            $"{how}: worst {worst / step:0.00} steps of {step:g3}, {beyond} of {Frames} frames beyond one, {other} of another class"));
        Assert.InRange(beyond, 0, Frames / 100);
        Assert.InRange(other, 0, Frames / 1000);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Calibrate_QuantizedNetwork_AdaptsAtItsConvolutions(bool linear)
    {
        var path = OnnxFiles.Write(_folder, Quantized(new Quantizing(linear, PerChannel: true, SignedWeights: true, SignedActivations: false)).Model);
        var options = new AdaptiveModelOptions { InputNormalization = Prototype.Input };
        using var plain = AdaptiveModel.Load(path, options with { ForCalibration = true });
        Assert.Equal(Folded.Graph.Node.Count(node => node.OpType == "Conv"), plain.Sites.Count);
        var calibrator = new Calibrator(plain);
        for (var at = 0; at < CalibrationFrames; at += 64)
        {
            calibrator.Observe(Pixels(at, 64));
        }

        using var model = AdaptiveModel.Load(path, options with { Calibration = calibrator.Complete(DateTimeOffset.UnixEpoch) });
        var half = Frames / 2;
        Corruption[] corruptions = half > 200 ? [.. Corruption.All] : [Corruption.Find("gaussian_noise")!, Corruption.Find("contrast")!, Corruption.Find("defocus_blur")!];
        var frames = new EvaluationFrames(Images, [.. corruptions.Select(corruption => new EvaluationDomain(corruption, 5))], seed: 0, image => image);
        var streams = EvaluationPlan.Streams(Images.Labels, corruptions.Length, DomainSetting.Single, StreamOrder.Iid, 0, limit: half);
        var errors = new[] { "source", "tbn", "auto" }.ToDictionary(method => method, method => new Evaluator(model, frames)
            .Run([.. streams.Select(samples => new EvaluationRun { Method = MethodSettings.Create(method), Samples = samples, BatchSize = 64 })])
            .Average(result => result.ErrorPercent));

        var said = errors.Select(error => FormattableString.Invariant($"{error.Key} {error.Value:0.0} %"));
        TestContext.Current.TestOutputHelper?.WriteLine($"{(linear ? "QLinear" : "QDQ")}: {string.Join(", ", said)}");
        Assert.True(errors["tbn"] < 0.8 * errors["source"] && errors["auto"] < 0.8 * errors["source"], string.Join(", ", errors));
    }

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    private static (ModelProto Model, float Step) Quantized(Quantizing how) => QuantizedModel.Of(Folded, QuantizedModel.Ranges(Folded, Values(0, RangeFrames)), how);

    private static FrameBlock Pixels(int first, int count) =>
        FrameBlock.FromPixels(Enumerable.Range(first, count).SelectMany(i => Images.Read(i).Pixels).ToArray(), count, 1, Prototype.Side, Prototype.Side);

    private static DenseTensor<float> Values(int first, int count) =>
        new(Pixels(first, count).Pixels.ToArray().Select(pixel => Prototype.Input.Apply(pixel, 0)).ToArray(), [count, 1, Prototype.Side, Prototype.Side]);
}

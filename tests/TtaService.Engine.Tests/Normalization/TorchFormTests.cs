using TtaService.Engine.Drift;
using TtaService.Engine.Execution;
using TtaService.Engine.Normalization;
using TtaService.Engine.Streams;
using Tensor = TorchSharp.torch.Tensor;

namespace TtaService.Engine.Tests.Normalization;

/// <summary>Methods that have their torch form alone, against the same mathematics over spans.</summary>
public sealed class TorchFormTests : IDisposable
{
    private const int Side = 32;

    // What learns by gradients has no spans.
    private static readonly string[] Names = [.. MethodRegistry.BuiltIn.All.Select(method => method.Name).Where(name => name is not ("source" or "tent" or "eta"))];

    // Each of the engine's own methods once more, without its spans.
    private static readonly MethodRegistry Methods = MethodRegistry.BuiltIn.With(Names.Select(name => MethodRegistry.BuiltIn.Find(name)!).Select(own => new MethodDefinition(
        $"{own.Name}_torch",
        own.Summary,
        own.Source,
        own.Own,
        (settings, target) => own.Create(settings, target) is IPassMethod whole ? new PassTorchForm(whole) : new TorchFormAlone(own.Create(settings, target)))));

    private readonly AdaptiveModel _model = AdaptiveModel.Load(Model, new AdaptiveModelOptions { Methods = Methods, Observation = new ObservationOptions() });

    public static TheoryData<string> AllNames() => [.. Names];

    [Theory]
    [MemberData(nameof(AllNames))]
    public void Run_WithoutSpans_EqualsTheSameMethodWithThem(string name)
    {
        var random = new Random(1);
        var (spans, torch) = (Create(name), Create($"{name}_torch"));
        for (var step = 0; step < 4; step++)
        {
            var frames = Frames(random, 4 + step);
            AssertSame(_model.Run([new StreamStep(spans, frames)])[0], _model.Run([new StreamStep(torch, frames)])[0], $"{name}, step {step}");
        }

        AssertSame(spans, torch);
    }

    [Fact]
    public void Run_ManyStreamsOfEveryMethodWithAndWithoutSpans_EqualEachAlone()
    {
        var random = new Random(2);
        string[] names = [.. Names.SelectMany(name => new[] { name, $"{name}_torch", $"{name}_torch" }), "source"];
        var streams = names.Select(name => (Alone: Create(name), Among: Create(name))).ToList();
        for (var round = 0; round < 4; round++)
        {
            var due = streams.Where(_ => random.Next(4) > 0).ToList();
            var frames = due.ConvertAll(_ => Frames(random, 4 + random.Next(2)));
            var frozen = due.ConvertAll(_ => random.Next(5) == 0);
            var among = _model.Run([.. due.Select((stream, i) => new StreamStep(stream.Among, frames[i], frozen[i]))]);
            for (var i = 0; i < due.Count; i++)
            {
                AssertSame(_model.Run([new StreamStep(due[i].Alone, frames[i], frozen[i])])[0], among[i], $"{due[i].Alone.Method.Name}, round {round}");
            }
        }

        streams.ForEach(stream => AssertSame(stream.Alone, stream.Among));
    }

    [Fact]
    public void Import_OfAStreamWithoutSpans_ForksIt()
    {
        var random = new Random(3);
        var stream = Create("unmix_tns_torch");
        _model.Run([new StreamStep(stream, Frames(random, 4))]);
        var fork = _model.Import(_model.Export(stream, default));
        Assert.Equal(("unmix_tns_torch", 1L, 4L), (fork.Method.Name, fork.Steps, fork.Frames));

        var frames = Frames(random, 4);
        AssertSame(_model.Run([new StreamStep(stream, frames)])[0], _model.Run([new StreamStep(fork, frames)])[0], "the fork");
        var elsewhere = Frames(random, 4);
        _model.Run([new StreamStep(fork, elsewhere)]);
        Assert.Equal((2, 3), (stream.Steps, fork.Steps));
    }

    public void Dispose() => _model.Dispose();

    internal static string Model { get; } = Path.Combine(AppContext.BaseDirectory, "Data", "onnx", "bottleneck_opset17.onnx");

    internal static FrameBlock Frames(Random random, int count)
    {
        var pixels = new byte[count * 3 * Side * Side];
        random.NextBytes(pixels);
        return FrameBlock.FromPixels(pixels, count, 3, Side, Side);
    }

    private StreamState Create(string method) => _model.CreateState(_model.Methods.Settings(method), seed: 7);

    private void AssertSame(StreamState expected, StreamState actual)
    {
        var (one, other) = (_model.Export(expected, default), _model.Export(actual, default));
        var (expectedTensors, actualTensors) = (Safetensors.Read(one), Safetensors.Read(other));
        Assert.Equal(expectedTensors.Names, actualTensors.Names);
        foreach (var name in expectedTensors.Names)
        {
            Close.Assert(Values(one, expectedTensors, name), Values(other, actualTensors, name), 1e-4, $"{actual.Method.Name} {name}");
        }
    }

    private static void AssertSame(StepResult expected, StepResult actual, string what)
    {
        Assert.True(actual.Status == StepStatus.Ok, $"{what}: {actual.Message}");
        Assert.Equal((expected.Steps, expected.Frames), (actual.Steps, actual.Frames));
        Close.Assert(expected.Outputs[0].Values, actual.Outputs[0].Values, 1e-5, what);
    }

    private static float[] Values(byte[] file, Safetensors content, string name)
    {
        var values = new float[content.Shape(name).Aggregate(1, (product, extent) => product * extent)];
        content.CopyTo(file, name, values);
        return values;
    }

    private class TorchFormAlone(INormalizationMethod own) : INormalizationMethod, IDisposable
    {
        public bool ReadsFrames => own.ReadsFrames;

        public IReadOnlyList<StateTensor> StateAt(NormalizationSite site) => own.StateAt(site);

        public void Initialize(NormalizationSite site, SiteSeed seed, Span<float> state) => own.Initialize(site, seed, state);

        public string? Refuses(int frames) => own.Refuses(frames);

        public float[] StepFigures(int frames, long framesBefore) => own.StepFigures(frames, framesBefore);

        public (Tensor Mean, Tensor Variance) Forward(SiteTensors steps) => own.Forward(steps);

        public void Dispose() => (own as IDisposable)?.Dispose();
    }

    private sealed class PassTorchForm(IPassMethod own) : TorchFormAlone(own), IPassMethod
    {
        public IReadOnlyList<StateTensor> StreamState => own.StreamState;

        public int BegunFloats => own.BegunFloats;

        public int KeptFloats(int frames) => own.KeptFloats(frames);

        public void InitializeStream(Span<float> state) => own.InitializeStream(state);

        public int SourceFrames(int frames, long framesBefore) => own.SourceFrames(frames, framesBefore);

        public int SourceFrames(in PassStep step, ReadOnlySpan<float> scores, int planned) => own.SourceFrames(step, scores, planned);

        public void Begin(in PassStep step) => own.Begin(step);

        public bool Complete(in PassStep step, Span<float> scores, ReadOnlySpan<float> sourceScores) => own.Complete(step, scores, sourceScores);
    }
}

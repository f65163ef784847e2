using System.Numerics.Tensors;
using TorchSharp;
using TtaService.Engine.Drift;
using TtaService.Engine.Execution;
using TtaService.Engine.Normalization;
using TtaService.Engine.Streams;
using TtaService.Engine.Tensors;
using static TorchSharp.torch;
using Tensor = TorchSharp.torch.Tensor;

namespace TtaService.Engine.Tests.Normalization;

/// <summary>A method of another assembly that fails: for frames that are white, so that one stream of a batch fails and others of the same method do not.</summary>
public sealed class FaultyMethodTests
{
    private static readonly MethodRegistry Methods = MethodRegistry.BuiltIn.With(
        Define("faulty", (fault, target) => new Faulty(fault, target)),
        Define("faulty_spans", (fault, target) => new FaultySpans(fault, target)),
        Define("faulty_pass", (fault, target) => new FaultyPass(fault, target)));

    public static TheoryData<string, string, bool, string> Faults()
    {
        var data = new TheoryData<string, string, bool, string>();
        foreach (var onDevice in new[] { false, true })
        {
            data.Add("faulty", "throws", onDevice, "failed at site 'bn1': InvalidOperationException: as it was told");
            data.Add("faulty", "shape", onDevice, "its mean has shape [7], which does not broadcast to [S,n,C] = [1,2,");
            data.Add("faulty", "null", onDevice, "its mean is null or disposed");
            data.Add("faulty", "disposed", onDevice, "its mean is null or disposed");
            data.Add("faulty", "torch", onDevice, "failed at site 'bn1': ");
            data.Add("faulty", "nan", onDevice, "not finite");
            data.Add("faulty", "negative", onDevice, "not finite");
            data.Add("faulty", "nan_state", onDevice, "not finite");
            data.Add("faulty_spans", "throws", onDevice, "failed at site 'bn1': InvalidOperationException: as it was told");
            data.Add("faulty_pass", "complete", onDevice, "failed at the end of a pass: InvalidOperationException");
        }

        return data;
    }

    [Theory]
    [MemberData(nameof(Faults))]
    public void Run_AMethodThatFailsForOneStream_FailsItsStepAloneAndChangesNothing(string method, string fault, bool onDevice, string message)
    {
        using var model = Load(onDevice);
        var settings = Methods.Settings(method, new() { ["fault"] = fault });
        StreamState Create(string name) => model.CreateState(name == method ? settings : Methods.Settings(name), seed: 3);
        string[] names = ["ema", method, method, "unmix_tns", "source"];
        var (alone, among, poisoned) = (names.Select(Create).ToList(), names.Select(Create).ToList(), Create(method));
        var random = new Random(1);
        foreach (var round in Enumerable.Range(0, 2))
        {
            var frames = names.Select(_ => TorchFormTests.Frames(random, 2)).ToList();
            var expected = alone.Select((state, i) => model.Run([new StreamStep(state, frames[i])])[0]).ToList();
            var actual = model.Run([.. among.Select((state, i) => new StreamStep(state, frames[i])), new StreamStep(poisoned, White())]);
            for (var i = 0; i < names.Length; i++)
            {
                Assert.Equal((StepStatus.Ok, round + 1), (actual[i].Status, actual[i].Steps));
                Close.Assert(expected[i].Outputs[0].Values, actual[i].Outputs[0].Values, 1e-5, names[i]);
            }

            var failed = actual[^1];
            Assert.Equal(message == "not finite" ? StepStatus.NotFinite : StepStatus.MethodFailed, failed.Status);
            Assert.Contains(message, failed.Message, StringComparison.Ordinal);
            Assert.Equal((0, 0), (poisoned.Steps, poisoned.Frames));
        }

        // It goes on from where it was.
        Assert.Equal((StepStatus.Ok, 1), (model.Run([new StreamStep(poisoned, TorchFormTests.Frames(random, 2))])[0] is var next ? next.Status : default, poisoned.Steps));
    }

    [Theory]
    [InlineData("faulty", "constructor", "failed when it was made: InvalidOperationException: as it was told")]
    [InlineData("faulty", "initialize", "failed when it began the state at 'bn1'")]
    [InlineData("faulty", "state_name", "a tensor is named 'a.b'")]
    [InlineData("faulty", "state_twice", "two tensors of a site have one name")]
    [InlineData("faulty", "state_negative", "no extent may be negative")]
    [InlineData("faulty", "state_null", "it gave null")]
    public void CreateState_AMethodThatFailsBeforeItRuns_IsRefusedAndHoldsNothing(string method, string fault, string message)
    {
        using var model = Load(onDevice: false);
        var thrown = Assert.Throws<MethodSettingsException>(() => model.CreateState(Methods.Settings(method, new() { ["fault"] = fault })));
        Assert.Contains(message, thrown.Message, StringComparison.Ordinal);
        Assert.Equal((0, 0L), (model.ResidentStreams, model.ResidentBytes));
    }

    [Theory]
    [InlineData("faulty", "refuses", "failed when it was asked whether it takes 2 frames")]
    [InlineData("faulty", "figures", "failed when it was asked for the figures of a step")]
    [InlineData("faulty_pass", "begin", "failed at the beginning of a pass: InvalidOperationException")]
    [InlineData("faulty_pass", "sizes", "it wants -1 floats begun")]
    public void Run_AMethodThatFailsAroundAPass_FailsItsStepsAlone(string method, string fault, string message)
    {
        foreach (var onDevice in new[] { false, true })
        {
            using var model = Load(onDevice);
            var faulty = model.CreateState(Methods.Settings(method, new() { ["fault"] = fault }));
            var other = model.CreateState(Methods.Settings("ema"));
            var results = model.Run([new StreamStep(faulty, TorchFormTests.Frames(new Random(1), 2)), new StreamStep(other, TorchFormTests.Frames(new Random(2), 2))]);
            Assert.Contains(message, results[0].Message, StringComparison.Ordinal);
            Assert.Equal(StepStatus.MethodFailed, results[0].Status);
            Assert.Equal((StepStatus.Ok, 1), (results[1].Status, results[1].Steps));
        }
    }

    [Fact]
    public void Read_AMethodWhoseFiguresForWatchingFail_HasNone()
    {
        using var model = Load(onDevice: false);
        var stream = model.CreateState(Methods.Settings("faulty", new() { ["fault"] = "watching" }));
        Assert.Equal(StepStatus.Ok, model.Run([new StreamStep(stream, TorchFormTests.Frames(new Random(1), 2))])[0].Status);
        Assert.Null(new DriftMonitor(model, null).Read(stream).TestWeight);
    }

    private static AdaptiveModel Load(bool onDevice) => AdaptiveModel.Load(
        TorchFormTests.Model,
        new AdaptiveModelOptions { Methods = Methods, Observation = new ObservationOptions(), Learning = null, UsesTorchOperators = onDevice });

    private static FrameBlock White()
    {
        var pixels = new byte[2 * 3 * 32 * 32];
        Array.Fill(pixels, byte.MaxValue);
        return FrameBlock.FromPixels(pixels, 2, 3, 32, 32);
    }

    private static MethodDefinition Define(string name, Func<string, MethodTarget, INormalizationMethod> create) =>
        new(name, "A test's.", "nobody", [Hyperparameter.Text("fault", "none", "Where it fails.")], (settings, target) => create(settings.Text("fault"), target));

    // As ema with a rate of 1/8, but for its fault. At the first site noise has more variance than mean, white pixels have it at their edges alone.
    private class Faulty : INormalizationMethod
    {
        private readonly string _fault;

        public Faulty(string fault, MethodTarget target)
        {
            _fault = fault;
            // With sites, as a model's; the engine also asks without.
            FailAt("constructor", target.Sites.Count > 0);
        }

        public IReadOnlyList<StateTensor> StateAt(NormalizationSite site) => _fault switch
        {
            "state_name" => [new("a.b", [1])],
            "state_twice" => [new("a", [1]), new("a", [1])],
            "state_negative" => [new("a", [-1])],
            "state_null" => null!,
            _ => [new("faulty_mean", [site.Channels])],
        };

        public void Initialize(NormalizationSite site, SiteSeed seed, Span<float> state)
        {
            FailAt("initialize");
            site.Mean.CopyTo(state);
        }

        public string? Refuses(int frames)
        {
            FailAt("refuses");
            return null;
        }

        public double? TestWeight(NormalizationSite site, ReadOnlySpan<float> state)
        {
            FailAt("watching");
            return 0.5;
        }

        public float[] StepFigures(int frames, long framesBefore)
        {
            FailAt("figures");
            return [frames];
        }

        public (Tensor Mean, Tensor Variance) Forward(SiteTensors steps)
        {
            var mean = SiteTensors.Mix(steps.StateAt(0, 1, steps.Channels), steps.BatchStatistics(unbiased: false).Mean, 0.125f);
            steps.Propose(0, 1, steps.Channels, mean);
            // Written before it fails: what the others propose must be theirs.
            var white = (steps.InstanceVariance.mean([1L, 2L], keepdim: true) - steps.InstanceMean.Squared().mean([1L, 2L], keepdim: true)).IsLess(0);
            var isWhite = steps.Site.Index == 0 && white.any().ToBoolean();
            FailAt("throws", isWhite);
            if (!isWhite)
            {
                return (mean, steps.SourceVariance.clone());
            }

            switch (_fault)
            {
                case "shape":
                    return (zeros(7), steps.SourceVariance);
                case "null":
                    return (null!, steps.SourceVariance);
                case "disposed":
                    mean.Dispose();
                    break;
                case "torch":
                    return (mean.view(3, 1, 4, 1, 5), steps.SourceVariance);
                case "nan":
                    return (Wrong(mean, double.NaN), steps.SourceVariance);
                case "negative":
                    return (mean, Wrong(steps.SourceVariance, -1e6));
                case "nan_state":
                    steps.Propose(0, 1, steps.Channels, Wrong(mean, double.NaN));
                    break;
            }

            return (mean, steps.SourceVariance);

            Tensor Wrong(Tensor right, double value) => where(white, full_like(right, value), right);
        }

        protected void FailAt(string place, bool now = true)
        {
            if (now && _fault == place)
            {
                throw new InvalidOperationException($"as it was told{Environment.NewLine}   at some native frame");
            }
        }
    }

    private sealed class FaultySpans(string fault, MethodTarget target) : Faulty(fault, target), ISpanMethod
    {
        public void Forward(in SiteStep step)
        {
            step.UseSource();
            var white = step.Site.Index == 0 && TensorPrimitives.Sum(step.InstanceVariance) < TensorPrimitives.SumOfSquares(step.InstanceMean);
            for (var c = 0; c < step.Channels; c++)
            {
                step.NextState[c] = white ? float.NaN : step.State[c] + (0.125f * (step.InstanceMean[c] - step.State[c]));
            }

            FailAt("throws", white);
        }
    }

    private sealed class FaultyPass : Faulty, IPassMethod
    {
        private readonly bool _hasWrongSizes;

        public FaultyPass(string fault, MethodTarget target)
            : base(fault, target) => _hasWrongSizes = fault == "sizes";

        public IReadOnlyList<StateTensor> StreamState => [new("faulty_count", [1])];

        public int BegunFloats => _hasWrongSizes ? -1 : 2;

        public int KeptFloats(int frames) => frames;

        public void InitializeStream(Span<float> state) => state[0] = 1;

        public int SourceFrames(int frames, long framesBefore) => 0;

        public void Begin(in PassStep step)
        {
            FailAt("begin");
            step.Begun.Fill(step.StreamState[0]);
        }

        public new (Tensor Mean, Tensor Variance) Forward(SiteTensors steps)
        {
            if (steps.Site.Index == 0)
            {
                steps.Kept!.copy_((steps.InstanceVariance - steps.InstanceMean.Squared()).mean([2L]));
            }

            return base.Forward(steps);
        }

        (Tensor Mean, Tensor Variance) INormalizationMethod.Forward(SiteTensors steps) => Forward(steps);

        public bool Complete(in PassStep step, Span<float> scores, ReadOnlySpan<float> sourceScores)
        {
            step.State.CopyTo(step.NextState);
            step.NextStreamState[0] = step.StreamState[0] + 1;
            FailAt("complete", step.Kept[0] < 0);
            return false;
        }
    }
}

using TtaService.Engine.Calibration;
using TtaService.Engine.Execution;
using TtaService.Engine.Normalization;
using TtaService.Engine.Onnx.Wire;
using TtaService.Engine.Tests.Evaluation;
using TtaService.Engine.Tests.Normalization.Auto;
using TtaService.Engine.Tests.Onnx;
using TtaService.Evaluation;

namespace TtaService.Engine.Tests.Normalization;

/// <summary>Networks that normalize otherwise than by BatchNormalization (Data/without-batchnorm): their virtual sites, and what these are worth.</summary>
public sealed class FeatureSiteTests : IDisposable
{
    private const int Frames = 192;

    private readonly string _folder = Directory.CreateTempSubdirectory("tta-features").FullName;

    /// <summary>Network and how many convolutions and sums of residual blocks it has.</summary>
    public static TheoryData<string, int, int> Networks { get; } = new() { { "convnext", 7, 5 }, { "vit", 1, 8 }, { "groupnorm", 13, 5 } };

    public static TheoryData<string, bool> NetworksAndDevices { get; } = new(
        from network in new[] { "convnext", "vit", "groupnorm" } from onDevice in new[] { false, true } select (network, onDevice));

    [Theory]
    [MemberData(nameof(Networks))]
    public void VirtualSites_OfANetworkWithoutBatchNormalization_AreItsConvolutionsAndResidualSums(string network, int convolutions, int sums)
    {
        using var model = AdaptiveModel.Load(Model(network));

        Assert.Empty(model.Sites);
        Assert.Equal(convolutions, model.VirtualSites.Count(site => site.Name.EndsWith("Conv", StringComparison.Ordinal)));
        Assert.Equal(sums, model.VirtualSites.Count(site => site.Name.Split('/')[^1] is "Add" or "Add_1"));
        Assert.Equal(convolutions + sums, model.VirtualSites.Count);
        Assert.StartsWith($"{convolutions + sums} places without BatchNorm can adapt: run `tta calibrate", model.Advice, StringComparison.Ordinal);
        Assert.DoesNotContain("TrainingMode", model.WhyUnavailable(MethodSettings.Create("ema")), StringComparison.Ordinal);
    }

    /// <summary>The same as BatchNormalization nodes behind the places, with transpositions around them where channels are last, in either kind of kernels.</summary>
    [Theory]
    [MemberData(nameof(NetworksAndDevices))]
    public void Run_SitesOfFeatures_AnswersAsBatchNormalizationNodesWould(string network, bool onDevice)
    {
        var options = new AdaptiveModelOptions { InputNormalization = Prototype.Input, Threads = 1, UsesTorchOperators = onDevice };
        using var model = CleanOrderTests.Load(network, options);
        using var plain = AdaptiveModel.Load(Model(network), options);
        using var twin = AdaptiveModel.Load(WithNodes(network, model.Sites), options);
        Assert.Equal(model.Sites.Select(site => site.Channels), twin.Sites.Select(site => site.Channels));
        Assert.DoesNotContain(model.Sites, model.StaysAtSource);
        var frames = Dim(8);
        var source = plain.RunSource([frames])[0].Values;
        Close.Assert(source, model.RunSource([frames])[0].Values, 1e-4 * source.Max(Math.Abs), "source");
        foreach (var method in new[] { "source", "tbn", "ema", "tbr", "alpha_bn", "adaptive", "iabn" })
        {
            var (expected, actual) = (twin.CreateState(MethodSettings.Create(method)), model.CreateState(MethodSettings.Create(method)));
            for (var step = 0; step < 3; step++)
            {
                var (a, b) = (twin.Run([new StreamStep(expected, frames)])[0].Outputs[0].Values, model.Run([new StreamStep(actual, frames)])[0].Outputs[0].Values);
                Close.Assert(a, b, 1e-4 * Math.Max(1, a.Max(Math.Abs)), $"{network}, {method}, step {step}");
                if (method == "tbn")
                {
                    Assert.Contains(a.Zip(source), pair => Math.Abs(pair.First - pair.Second) > 0.05);
                }
            }
        }
    }

    /// <summary>On other frames than the model knows the methods err less than it does alone; on frames as in training <c>auto</c> errs no more (CleanOrderTests).</summary>
    [Theory]
    [InlineData("convnext")]
    [InlineData("vit")]
    [InlineData("groupnorm")]
    public void Run_CalibratedOnUnlabelledFrames_ErrsLessThanTheNetworkAlone(string network)
    {
        using var model = CleanOrderTests.Load(network);
        var images = LabelledImages.Open(Repository.Sample, file => throw new InvalidOperationException(file));
        Corruption[] corruptions = [Corruption.Find("gaussian_noise")!, Corruption.Find("contrast")!, Corruption.Find("fog")!];
        var evaluator = new Evaluator(model, new EvaluationFrames(images, [.. corruptions.Select(corruption => new EvaluationDomain(corruption, 5))], 0, image => image));
        var worse = new List<string>();
        foreach (var (order, methods) in new[] { (StreamOrder.Iid, new[] { "tbn", "tbr", "auto" }), (StreamOrder.Correlated, ["tbr", "auto"]) })
        {
            var streams = EvaluationPlan.Streams(images.Labels, corruptions.Length, DomainSetting.Single, order, 0, limit: Frames);
            var source = Error("source");
            foreach (var method in methods)
            {
                var error = Error(method);
                TestContext.Current.TestOutputHelper?.WriteLine(FormattableString.Invariant($"{network}, {order}: source errs {source:0.0} %, {method} {error:0.0} %"));
                if (error > source - 3)
                {
                    worse.Add(FormattableString.Invariant($"{order}, {method}: {error:0.0} % where the source errs {source:0.0} %"));
                }
            }

            double Error(string method) => evaluator
                .Run([.. streams.Select(samples => new EvaluationRun { Method = MethodSettings.Create(method), Samples = samples, BatchSize = 16 })])
                .Average(result => result.ErrorPercent);
        }

        Assert.Empty(worse);
    }

    /// <summary>What instance normalization reads it centres and scales itself; what follows has no mean but its own.</summary>
    [Fact]
    public void VirtualSites_BeforeInstanceNormalization_AreNone()
    {
        var model = OnnxFiles.Model(
            OnnxFiles.Node("Conv", ["x", "w"], "conv"),
            OnnxFiles.Node("InstanceNormalization", ["conv", "one", "none"], "norm"),
            OnnxFiles.Node("Conv", ["norm", "v"], "next"),
            OnnxFiles.Node("Relu", ["next"], "bent"),
            OnnxFiles.Node("Conv", ["bent", "v"], "y"));
        model.Graph.Initializer.Add(OnnxFiles.Floats("w", [2, 1, 1, 1], 1, 2));
        model.Graph.Initializer.Add(OnnxFiles.Floats("v", [2, 2, 1, 1], 1, 2, 3, 4));
        model.Graph.Initializer.Add(OnnxFiles.Floats("one", [2], 1, 1));
        model.Graph.Initializer.Add(OnnxFiles.Floats("none", [2], 0, 0));
        using var loaded = AdaptiveModel.Load(OnnxFiles.Write(_folder, model));
        Assert.Equal("Conv_next", Assert.Single(loaded.VirtualSites).Name);
    }

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    private static string Model(string network) => Path.Combine(AppContext.BaseDirectory, "Data", "without-batchnorm", $"{network}.onnx");

    // Of little contrast, and brighter than the training's.
    private static FrameBlock Dim(int count)
    {
        var images = LabelledImages.Open(Repository.Sample, file => throw new InvalidOperationException(file));
        byte[] pixels = [.. Enumerable.Range(0, count).SelectMany(i => images.Read(2000 + i).Pixels).Select(pixel => (byte)(110 + (pixel / 4)))];
        return FrameBlock.FromPixels(pixels, count, 1, Prototype.Side, Prototype.Side);
    }

    private string WithNodes(string network, IReadOnlyList<NormalizationSite> sites)
    {
        var model = ModelProto.Parser.ParseFrom(File.ReadAllBytes(Model(network)));
        var graph = model.Graph;
        foreach (var site in sites)
        {
            var place = graph.Node.First(node => node.Name == site.Name);
            var (at, output) = (graph.Node.IndexOf(place) + 1, place.Output[0]);
            place.Output[0] = $"{output}.raw";
            foreach (var (name, values) in new[] { ("scale", site.Weight), ("bias", site.Bias), ("mean", site.Mean), ("variance", site.Variance) })
            {
                graph.Initializer.Add(OnnxFiles.Floats($"{site.Name}.{name}", [values.Length], values));
            }

            // The last axis is that of tokens here.
            var (from, to) = site.ChannelsLast ? ($"{output}.second", $"{output}.normalized") : ($"{output}.raw", output);
            var node = OnnxFiles.Node(
                "BatchNormalization",
                [from, $"{site.Name}.scale", $"{site.Name}.bias", $"{site.Name}.mean", $"{site.Name}.variance"],
                to,
                new AttributeProto { Name = "epsilon", Type = AttributeProto.Types.AttributeType.Float, F = site.Epsilon });
            graph.Node.Insert(at, node);
            if (site.ChannelsLast)
            {
                var order = new AttributeProto { Name = "perm", Type = AttributeProto.Types.AttributeType.Ints, Ints = { 0, 2, 1 } };
                graph.Node.Insert(at + 1, OnnxFiles.Node("Transpose", [to], output, order));
                graph.Node.Insert(at, OnnxFiles.Node("Transpose", [$"{output}.raw"], from, order.Clone()));
            }
        }

        return OnnxFiles.Write(_folder, model);
    }
}

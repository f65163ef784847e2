using System.Globalization;
using System.Text.Json.Nodes;
using TtaService.Engine.Calibration;
using TtaService.Engine.Drift;
using TtaService.Engine.Execution;
using TtaService.Engine.Normalization;
using TtaService.Engine.Onnx;
using TtaService.Engine.Onnx.Wire;
using TtaService.Engine.Tests.Evaluation;
using TtaService.Engine.Tests.Normalization.Auto;
using TtaService.Engine.Tests.Onnx;
using TtaService.Evaluation;

namespace TtaService.Engine.Tests.Normalization;

/// <summary>Models whose BatchNormalization was folded away: where they can be normalized instead, and that it is the same.</summary>
public sealed class VirtualSiteTests : IDisposable
{
    private const int Side = 16;
    private const int CalibrationFrames = 512;

    // TTA_VIRTUAL_FRAMES=1000 measures all corruptions with so many frames each.
    private static readonly int Frames = int.Parse(Environment.GetEnvironmentVariable("TTA_VIRTUAL_FRAMES") ?? "192", CultureInfo.InvariantCulture);

    private readonly string _folder = Directory.CreateTempSubdirectory("tta-virtual").FullName;

    public static TheoryData<string, bool> MethodsAndDevices { get; } = new(
        from method in new[] { "source", "prior", "tbn", "alpha_bn", "ema", "tbr", "adaptive", "unmix_tns", "iabn", "tent", "eta" }
        from onDevice in new[] { false, true }
        select (method, onDevice));

    public static TheoryData<string> Networks { get; } = new(
        "bottleneck_opset17", "dense_opset17", "detector_opset17", "squeeze_excite_opset17", "bottleneck_opset11", "dense_opset11", "detector_opset11", "squeeze_excite_opset11");

    /// <summary>Re-normalizing gamma (x - mu) / sigma + beta to mean beta and deviation |gamma| is BatchNormalization.</summary>
    [Theory]
    [MemberData(nameof(MethodsAndDevices))]
    public void Run_VirtualSitesOfBetaAndGamma_AnswerAsBatchNormalization(string method, bool onDevice)
    {
        var folded = FoldedModel.Of(ModelProto.Parser.ParseFrom(File.ReadAllBytes(Path.Combine(AppContext.BaseDirectory, "Data", "onnx", "bottleneck_opset17.onnx"))));
        var path = OnnxFiles.Write(_folder, folded.Model);
        // It compares directions of the means that BatchNormalization sees, which are folded away: its twin is the network whose nodes see what can still be known.
        var twinPath = method == "unmix_tns" ? OnnxFiles.Write(Directory.CreateDirectory(Path.Combine(_folder, "twin")).FullName, folded.Unfolded())
            : Path.Combine(AppContext.BaseDirectory, "Data", "onnx", "bottleneck_opset17.onnx");
        var options = new AdaptiveModelOptions { Threads = 1, UsesTorchOperators = onDevice, Observation = new ObservationOptions() };
        using var twin = AdaptiveModel.Load(twinPath, options);
        using var plain = AdaptiveModel.Load(path, options);
        using var model = AdaptiveModel.Load(path, options with { Calibration = folded.Calibration(plain.Digest, Classes(twin)), DrawsAs = twin.Digest });
        Assert.Equal(twin.Sites.Count, model.Sites.Count);
        Assert.All(model.Sites, site => Assert.Equal(SiteKind.Virtual, site.Kind));
        var settings = MethodSettings.Create(method);
        var (expected, actual) = (twin.CreateState(settings, seed: 3), model.CreateState(settings, seed: 3));
        var random = new Random(7);
        for (var step = 0; step < 6; step++)
        {
            var frames = Shifted(random, 6);
            var (a, b) = (twin.Run([new StreamStep(expected, frames)])[0], model.Run([new StreamStep(actual, frames)])[0]);
            Assert.Equal(StepStatus.Ok, a.Status);
            Assert.Equal(StepStatus.Ok, b.Status);
            Close.Assert(a.Outputs[0].Values, b.Outputs[0].Values, 1e-4, $"{method}, step {step}");
            if (step == 2 && method is not ("source" or "prior"))
            {
                var source = twin.RunSource([frames])[0].Values;
                Assert.Contains(source.Zip(b.Outputs[0].Values), pair => Math.Abs(pair.First - pair.Second) > 1e-3);
                // State survives as that of other sites does.
                var kept = model.Export(actual, DateTimeOffset.UnixEpoch);
                model.Release(actual);
                actual = model.Import(kept);
            }
        }

        // Drift is the same number: both are distances in source deviations.
        var (ofTwin, ofModel) = (new DriftMonitor(twin, null).Read(expected), new DriftMonitor(model, null).Read(actual));
        Close.Assert([.. ofTwin.GaussianKl], [.. ofModel.GaussianKl], 1e-3 * Math.Max(1, ofTwin.GaussianKl.Max()), $"{method}, drift");
    }

    /// <summary>The networks' own files lose and gain no site, and a folded one has a virtual site where each of its BatchNormalization nodes was.</summary>
    [Theory]
    [MemberData(nameof(Networks))]
    public void VirtualSites_OfAnExportBothWays_AreTheFoldedConvolutions(string name)
    {
        var twinPath = Path.Combine(AppContext.BaseDirectory, "Data", "onnx", $"{name}.onnx");
        var twin = ModelProto.Parser.ParseFrom(File.ReadAllBytes(twinPath));
        using var whole = AdaptiveModel.Load(twinPath, new AdaptiveModelOptions { ForCalibration = true });
        Assert.Empty(whole.VirtualSites);
        Assert.All(whole.Sites, site => Assert.Equal(SiteKind.BatchNorm, site.Kind));

        var folded = FoldedModel.Of(twin);
        using var model = AdaptiveModel.Load(OnnxFiles.Write(_folder, folded.Model), new AdaptiveModelOptions { ForCalibration = true });
        var answers = name.StartsWith("squeeze", StringComparison.Ordinal) ? 1 : 0;
        // The last sum of this network is its answer.
        Assert.Equal(folded.Statistics.Keys.SkipLast(answers), model.VirtualSites.Select(site => site.Name).Intersect(folded.Statistics.Keys));
        Assert.Equal(model.Sites.Select((_, i) => i), model.Sites.Select(site => site.Index));
    }

    /// <summary>BatchNormalization that was written as a multiplication and an addition is a site: at the convolution before it, or of its own in pre-activation
    /// networks.</summary>
    [Theory]
    [InlineData("bottleneck_opset17")]
    [InlineData("dense_opset17")]
    [InlineData("dense_opset11")]
    public void Run_BatchNormalizationInParts_AnswersAsTheNodes(string name)
    {
        var twinPath = Path.Combine(AppContext.BaseDirectory, "Data", "onnx", $"{name}.onnx");
        var parted = FoldedModel.InParts(ModelProto.Parser.ParseFrom(File.ReadAllBytes(twinPath)));
        var path = OnnxFiles.Write(_folder, parted.Model);
        using var twin = AdaptiveModel.Load(twinPath, new AdaptiveModelOptions { Threads = 1 });
        using var plain = AdaptiveModel.Load(path, new AdaptiveModelOptions { ForCalibration = true });
        Assert.Equal(parted.Statistics.Keys, plain.VirtualSites.Select(site => site.Name));
        var calibration = parted.Calibration(plain.Digest, Classes(twin));
        using var model = AdaptiveModel.Load(path, new AdaptiveModelOptions { Threads = 1, Calibration = calibration, DrawsAs = twin.Digest });
        foreach (var method in (string[])["source", "tbn", "ema", "alpha_bn", "adaptive"])
        {
            var random = new Random(7);
            var (expected, actual) = (twin.CreateState(MethodSettings.Create(method), seed: 3), model.CreateState(MethodSettings.Create(method), seed: 3));
            for (var step = 0; step < 3; step++)
            {
                var frames = Shifted(random, 6);
                var (a, b) = (twin.Run([new StreamStep(expected, frames)])[0].Outputs[0], model.Run([new StreamStep(actual, frames)])[0].Outputs[0]);
                Close.Assert(a.Values, b.Values, 1e-4 * Math.Max(1, a.Values.Max(Math.Abs)), $"{method}, step {step}");
            }
        }
    }

    [Fact]
    public void WhyUnavailable_FoldedModel_SaysHowToCalibrateIt()
    {
        using var model = AdaptiveModel.Load(Path.Combine(AppContext.BaseDirectory, "Data", "onnx", "folded.onnx"));
        Assert.Empty(model.Sites);
        Assert.Equal(4, model.VirtualSites.Count);
        Assert.Null(model.WhyUnavailable(MethodSettings.Create("source")));
        Assert.Contains("4 places where BatchNorm was folded can adapt: run `tta calibrate --model MODEL --data FOLDER` (64 unlabelled frames or more)",
            model.WhyUnavailable(MethodSettings.Create("ema")), StringComparison.Ordinal);
    }

    [Fact]
    public void WhyUnavailable_ModelLoadedForCalibration_RefusesToAdapt()
    {
        using var model = AdaptiveModel.Load(Path.Combine(AppContext.BaseDirectory, "Data", "onnx", "folded.onnx"), new AdaptiveModelOptions { ForCalibration = true });
        Assert.Equal(4, model.Sites.Count);
        Assert.Contains(
            "load it with its calibration", Assert.Throws<MethodSettingsException>(() => model.CreateState(MethodSettings.Create("ema"))).Message, StringComparison.Ordinal);
    }

    /// <summary>A graph with half of its nodes left: both kinds of sites in execution order, filters and old snapshots with them.</summary>
    [Fact]
    public void Load_PartlyFoldedModelCalibrated_AdaptsBothKindsAndKeepsOldSnapshots()
    {
        var twin = ModelProto.Parser.ParseFrom(File.ReadAllBytes(Path.Combine(AppContext.BaseDirectory, "Data", "onnx", "bottleneck_opset17.onnx")));
        var folded = FoldedModel.Of(twin, place => place % 2 == 0);
        var path = OnnxFiles.Write(_folder, folded.Model);
        var options = new AdaptiveModelOptions { Threads = 1, Observation = new ObservationOptions() };
        using var half = AdaptiveModel.Load(path, options);
        Assert.Contains("2 places where BatchNorm was folded (beside 2 sites that adapt) can adapt: run `tta calibrate", Assert.Single(half.Notices), StringComparison.Ordinal);
        Assert.Equal(2, half.Sites.Count);
        using var model = AdaptiveModel.Load(path, options with { Calibration = folded.Calibration(half.Digest, Classes(half)) });
        Assert.Empty(model.Notices);
        Assert.Equal([SiteKind.Virtual, SiteKind.BatchNorm, SiteKind.Virtual, SiteKind.BatchNorm], model.Sites.Select(site => site.Kind));
        Assert.Equal([0, 1, 2, 3], model.Sites.Select(site => site.Index));

        var random = new Random(5);
        var old = half.CreateState(MethodSettings.Create("ema"));
        Assert.Equal(StepStatus.Ok, half.Run([new StreamStep(old, Shifted(random, 6))])[0].Status);
        var state = model.Import(half.Export(old, DateTimeOffset.UnixEpoch));
        Assert.Equal((1L, 0L), (state.Steps, state.ObservedFrames));
        Assert.Equal(StepStatus.Ok, model.Run([new StreamStep(state, Shifted(random, 6))])[0].Status);

        var pattern = MethodSettings.Create("tbn", new JsonObject { ["sites_pattern"] = model.Sites[0].Name });
        var frames = Shifted(random, 6);
        var (one, all) = (Answer(model, pattern, frames), Answer(model, MethodSettings.Create("tbn"), frames));
        Assert.Contains(one.Zip(all), pair => Math.Abs(pair.First - pair.Second) > 1e-3);
        Assert.Contains(one.Zip(model.RunSource([frames])[0].Values), pair => Math.Abs(pair.First - pair.Second) > 1e-3);
    }

    /// <summary>What a calibration says of sites is believed of its own model only, and whole.</summary>
    [Fact]
    public void Load_CalibrationThatIsNotTheModels_SaysWhyAndWhatToDo()
    {
        var folded = FoldedModel.Of(ModelProto.Parser.ParseFrom(File.ReadAllBytes(Path.Combine(AppContext.BaseDirectory, "Data", "onnx", "bottleneck_opset17.onnx"))));
        var (path, file) = (OnnxFiles.Write(_folder, folded.Model), Path.Combine(_folder, ModelCalibration.FileName));
        using var plain = AdaptiveModel.Load(path);
        var own = folded.Calibration(plain.Digest, Classes(plain));
        var (name, site) = own.Sites.First();

        own.Write(file);
        using (var model = AdaptiveModel.Load(path, new AdaptiveModelOptions { CalibrationPath = file }))
        {
            Assert.Equal(own.Sites.Count, model.Sites.Count);
        }

        (own with { Model = new string('f', 64) }).Write(file);
        Refused($"the calibration belongs to model {new string('f', 64)}, this model is {plain.Digest}");
        (own with { Sites = new Dictionary<string, SiteCalibration>(own.Sites) { ["elsewhere"] = site } }).Write(file);
        Refused("the calibration's site 'elsewhere'");
        (own with { Sites = new Dictionary<string, SiteCalibration>(own.Sites) { [name] = site with { Mean = [1], MeanVariance = [1], Variance = [1], VarianceVariance = [1] } } })
            .Write(file);
        Refused($"the calibration's site '{name}' with 1 channels is none of the model's");
        (own with { Sites = new Dictionary<string, SiteCalibration>(own.Sites) { [name] = site with { Variance = [.. site.Variance.Select(_ => -1f)] } } }).Write(file);
        Refused($"tensor '{name}.var' holds negative values");
        own.Write(file);
        var whole = File.ReadAllBytes(file);
        File.WriteAllBytes(file, whole[..(whole.Length / 2)]);
        Refused("make it again with tta calibrate");
        whole[^5] ^= 1;
        File.WriteAllBytes(file, whole);
        Refused("its checksum does not fit its content");

        void Refused(string why)
        {
            var message = Assert.Throws<ModelLoadException>(() => AdaptiveModel.Load(path, new AdaptiveModelOptions { CalibrationPath = file })).Message;
            Assert.Contains(why, message, StringComparison.Ordinal);
            Assert.Contains(file, message, StringComparison.Ordinal);
            Assert.Contains("tta calibrate", message, StringComparison.Ordinal);
        }
    }

    /// <summary>A calibration of the demo model without its BatchNormalization is worth the nodes: every method errs as on the network that has them.</summary>
    [Fact]
    public void Run_FoldedDemoModelCalibrated_ErrsAsItsTwin()
    {
        var folded = FoldedModel.Of(ModelProto.Parser.ParseFrom(File.ReadAllBytes(Repository.Model)));
        var path = OnnxFiles.Write(_folder, folded.Model);
        using var twin = Calibrated(Repository.Model);
        // What is drawn at random is the twin's: a method is compared with itself.
        using var model = Calibrated(path, twin.Digest);
        Assert.Equal(twin.Sites.Count, model.Sites.Count);

        var images = LabelledImages.Open(Repository.Sample, file => throw new InvalidOperationException(file));
        Corruption[] corruptions = Frames > 192 ? [.. Corruption.All] : [Corruption.Find("gaussian_noise")!, Corruption.Find("contrast")!, Corruption.Find("defocus_blur")!];
        var frames = new EvaluationFrames(images, [.. corruptions.Select(corruption => new EvaluationDomain(corruption, 5))], seed: 0, image => image);
        var streams = EvaluationPlan.Streams(images.Labels, corruptions.Length, DomainSetting.Single, StreamOrder.Iid, 0, limit: Frames);
        var worse = new List<string>();
        foreach (var method in MethodRegistry.BuiltIn.All.Select(method => method.Name))
        {
            var (expected, actual) = (Error(twin, method), Error(model, method));
            TestContext.Current.TestOutputHelper?.WriteLine(FormattableString.Invariant($"{method}: BatchNormalization errs {expected:0.00} %, virtual sites {actual:0.00} %"));
            // Few frames tell less: a standard error of what differs by a frame in ten.
            if (actual > expected + 1 + (100 * Math.Sqrt(0.1 / (Frames * corruptions.Length))))
            {
                worse.Add(FormattableString.Invariant($"{method}: {actual:0.00} % against {expected:0.00} %"));
            }
        }

        Assert.Empty(worse);

        double Error(AdaptiveModel evaluated, string method) => new Evaluator(evaluated, frames)
            .Run([.. streams.Select(samples => new EvaluationRun { Method = MethodSettings.Create(method), Samples = samples, BatchSize = 64 })])
            .Average(result => result.ErrorPercent);
    }

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    private static int Classes(AdaptiveModel model) => model.RunSource([Shifted(new Random(0), 1)])[0].Shape[1];

    private static float[] Answer(AdaptiveModel model, MethodSettings method, FrameBlock frames) =>
        model.Run([new StreamStep(model.CreateState(method), frames)])[0].Outputs[0].Values;

    // On the first frames of the sample, as users calibrate: the model is loaded to be measured, then with what was measured.
    private static AdaptiveModel Calibrated(string path, string? drawsAs = null)
    {
        var options = new AdaptiveModelOptions { InputNormalization = Prototype.Input, DrawsAs = drawsAs };
        var images = LabelledImages.Open(Repository.Sample, file => throw new InvalidOperationException(file));
        using var plain = AdaptiveModel.Load(path, options with { ForCalibration = true });
        var calibrator = new Calibrator(plain);
        for (var at = 0; at < CalibrationFrames; at += 64)
        {
            byte[] pixels = [.. Enumerable.Range(at, 64).SelectMany(i => images.Read(i).Pixels)];
            calibrator.Observe(FrameBlock.FromPixels(pixels, 64, 1, Prototype.Side, Prototype.Side));
        }

        return AdaptiveModel.Load(path, options with { Calibration = calibrator.Complete(DateTimeOffset.UnixEpoch) });
    }

    private static FrameBlock Shifted(Random random, int frames) =>
        FrameBlock.FromValues(Enumerable.Range(0, frames * 3 * Side * Side).Select(_ => (float)(0.6 + (1.5 * ((2 * random.NextDouble()) - 1)))).ToArray(), frames, 3, Side, Side);
}

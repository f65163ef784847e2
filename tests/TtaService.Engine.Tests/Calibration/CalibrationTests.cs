using System.Text;
using TtaService.Engine.Calibration;
using TtaService.Engine.Execution;
using TtaService.Engine.Onnx;
using TtaService.Engine.Tests.Evaluation;
using TtaService.Engine.Tests.Normalization.Auto;
using TtaService.Evaluation;

namespace TtaService.Engine.Tests.Calibration;

/// <summary>Measuring, writing and refusing calibrations.</summary>
public sealed class CalibrationTests : IDisposable
{
    private const int Frames = 512;

    private readonly string _folder = Directory.CreateTempSubdirectory("tta-calibration").FullName;
    private readonly AdaptiveModel _model = Load();

    [Fact]
    public void Complete_SampleOfTheDemo_MeasuresWhatThePrototypeDoes()
    {
        var (ours, golden) = (Measure(_model, 128), Prototype.Calibration(_model, "sample.", Frames));
        // Classes of 512 frames explain a little by chance.
        var chance = 9.0 / Frames;
        Close.Assert(golden.Prior, ours.Prior, 1e-4, "prior");
        Assert.Equal(golden.Sites.Keys, ours.Sites.Keys);
        foreach (var (name, site) in golden.Sites)
        {
            var own = ours.Sites[name];
            Relative(site.Mean, own.Mean, site.MeanVariance, $"{name} mean");
            Relative(site.Variance, own.Variance, site.VarianceVariance, $"{name} variance");
            Close.Assert(Ratio(own.MeanVariance, site.MeanVariance), Ones(site.Mean.Length), 2e-3, $"{name} variance of means");
            Close.Assert(Ratio(own.VarianceVariance, site.VarianceVariance), Ones(site.Mean.Length), 2e-3, $"{name} variance of variances");
            Relative(site.ClassMean, own.ClassMean, site.MeanVariance, $"{name} class means");
            Relative(site.ClassVariance, own.ClassVariance, site.VarianceVariance, $"{name} class variances");
            Assert.Equal((site.ClassShare - chance) / (1 - chance), own.ClassShare, 4e-3);
            Assert.Equal(site.ClassDistance - chance, own.ClassDistance, 4e-3);
            Assert.Equal(site.FrameDistance, own.FrameDistance, 1e-2);
        }

        Assert.Equal(ModelCalibration.EntropyQuantiles, ours.Entropy.Length);
        Assert.Equal(ours.Entropy.Order(), ours.Entropy);
        var entropies = Prototype.OfCalibration("sample.entropy");
        Assert.Equal(entropies[Frames / 2] / Math.Log(10), ours.Entropy[50], 1e-3);
    }

    [Fact]
    public void Complete_OtherBlocks_MeasuresTheSame()
    {
        var (few, many) = (Measure(_model, 37), Measure(_model, 512));
        Assert.Equal(many.Frames, few.Frames);
        foreach (var (name, site) in many.Sites)
        {
            Relative(site.Mean, few.Sites[name].Mean, site.MeanVariance, name);
            Relative(site.ClassVariance, few.Sites[name].ClassVariance, site.VarianceVariance, name);
            Assert.Equal(site.ClassShare, few.Sites[name].ClassShare, 1e-3);
        }
    }

    [Fact]
    public void Complete_OnADevice_MeasuresTheSame()
    {
        using var device = Load(onDevice: true);
        var (host, other) = (Measure(_model, 128), Measure(device, 128));
        foreach (var (name, site) in host.Sites)
        {
            Relative(site.Mean, other.Sites[name].Mean, site.MeanVariance, name);
        }
    }

    [Fact]
    public void StandardError_OfIndependentFrames_FallsWithTheRootOfTheirNumber()
    {
        var calibrator = new Calibrator(_model);
        Assert.Equal(double.PositiveInfinity, calibrator.StandardError);
        Observe(calibrator, 0, 128, 64);
        var early = calibrator.StandardError;
        Observe(calibrator, 128, 896, 64);
        Assert.InRange(early, 0.06, 0.13);
        Assert.InRange(calibrator.StandardError, 0.02, 0.045);
    }

    [Fact]
    public void Complete_TooFewFrames_SaysHowMany()
    {
        var calibrator = new Calibrator(_model);
        Observe(calibrator, 0, 63, 63);
        Assert.Contains("64 frames and more, there are 63", Assert.Throws<CalibrationException>(() => calibrator.Complete(default)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Observe_FramesOfAnotherSize_IsRefused()
    {
        var frames = FrameBlock.FromPixels(new byte[32 * 32], 1, 1, 32, 32);
        Assert.Contains("28x28", Assert.Throws<CalibrationException>(() => new Calibrator(_model).Observe(frames)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Write_ThenRead_IsTheSame()
    {
        var (path, calibration) = (Path.Combine(_folder, ModelCalibration.FileName), Measure(_model, 128));
        calibration.Write(path);
        var read = ModelCalibration.Read(path);
        Assert.Equal((calibration.Model, calibration.Frames, calibration.Created), (read.Model, read.Frames, read.Created));
        Assert.Equal(calibration.Prior, read.Prior);
        Assert.Equal(calibration.Entropy, read.Entropy);
        foreach (var (name, site) in calibration.Sites)
        {
            Assert.Equivalent(site, read.Sites[name]);
        }

        using var model = AdaptiveModel.Load(Repository.Model, new AdaptiveModelOptions { CalibrationPath = path });
        Assert.Equal(calibration.Frames, model.Calibration!.Frames);
        Assert.Equal([Path.GetFileName(path)], Directory.GetFiles(_folder).Select(Path.GetFileName));
    }

    [Fact]
    public void Read_EveryByteThatWasEdited_IsRefused()
    {
        var path = Path.Combine(_folder, "edited.safetensors");
        var file = CalibrationFile.Bytes(Prototype.Calibration(_model, string.Empty, 2000));
        var random = new Random(5);
        for (var i = 0; i < 300; i++)
        {
            var edited = (byte[])file.Clone();
            edited[random.Next(2) == 0 ? random.Next(file.Length) : random.Next(2000)] ^= (byte)(1 << random.Next(8));
            File.WriteAllBytes(path, edited);
            Assert.Contains("tta calibrate", Assert.Throws<CalibrationException>(() => ModelCalibration.Read(path)).Message, StringComparison.Ordinal);
        }
    }

    [Fact]
    public void Read_CutShort_IsRefused()
    {
        var path = Path.Combine(_folder, "short.safetensors");
        var file = CalibrationFile.Bytes(Prototype.Calibration(_model, string.Empty, 2000));
        foreach (var length in new[] { 0, 5, 100, file.Length / 2, file.Length - 1 })
        {
            File.WriteAllBytes(path, file[..length]);
            Assert.Contains(path, Assert.Throws<CalibrationException>(() => ModelCalibration.Read(path)).Message, StringComparison.Ordinal);
        }

        Assert.Contains("can't be read", Assert.Throws<CalibrationException>(() => ModelCalibration.Read(Path.Combine(_folder, "none"))).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Load_CalibrationOfAnotherModel_IsRefused()
    {
        var own = Prototype.Calibration(_model, string.Empty, 2000);
        Refused(own with { Model = new string('a', 64) }, "belongs to model aaaa");
        Refused(own with { Sites = own.Sites.ToDictionary(site => "x" + site.Key, site => site.Value) }, "none of the model's");
        Refused(own with { Prior = [0.5f, 0.5f] }, "2 classes, the model answers 10");

        static void Refused(ModelCalibration calibration, string reason) => Assert.Contains(
            reason,
            Assert.Throws<ModelLoadException>(() => AdaptiveModel.Load(Repository.Model, new AdaptiveModelOptions { Calibration = calibration })).Message,
            StringComparison.Ordinal);
    }

    [Fact]
    public void Read_ValuesThatAreNotFinite_NamesTheTensor()
    {
        var own = Prototype.Calibration(_model, string.Empty, 2000);
        var (name, site) = own.Sites.First();
        site.Mean[0] = float.NaN;
        Refused($"'{name}.mean' holds values that are not finite");
        site.Mean[0] = 0;
        site.MeanVariance[0] = 0;
        Refused($"'{name}.mean_var' holds values that are not positive");

        void Refused(string reason)
        {
            var path = Path.Combine(_folder, "wrong.safetensors");
            own.Write(path);
            Assert.Contains(reason, Assert.Throws<CalibrationException>(() => ModelCalibration.Read(path)).Message, StringComparison.Ordinal);
        }
    }

    [Fact]
    public void Bytes_OfAnotherFormat_SayWhichIsRead()
    {
        var file = CalibrationFile.Bytes(Prototype.Calibration(_model, string.Empty, 2000));
        var at = file.AsSpan().IndexOf(Encoding.ASCII.GetBytes("tta.calibration.v1"));
        file[at + 17] = (byte)'2';
        var path = Path.Combine(_folder, "v2.safetensors");
        File.WriteAllBytes(path, file);
        Assert.Contains("'tta.calibration.v2', this version reads 'tta.calibration.v1'",
            Assert.Throws<CalibrationException>(() => ModelCalibration.Read(path)).Message, StringComparison.Ordinal);
    }

    public void Dispose()
    {
        _model.Dispose();
        Directory.Delete(_folder, recursive: true);
    }

    private static AdaptiveModel Load(bool onDevice = false) =>
        AdaptiveModel.Load(Repository.Model, new AdaptiveModelOptions { InputNormalization = Prototype.Input, UsesTorchOperators = onDevice });

    private static ModelCalibration Measure(AdaptiveModel model, int size)
    {
        var calibrator = new Calibrator(model);
        Observe(calibrator, 0, Frames, size);
        return calibrator.Complete(new DateTimeOffset(2026, 1, 2, 3, 4, 5, TimeSpan.Zero));
    }

    private static void Observe(Calibrator calibrator, int from, int count, int size)
    {
        var images = LabelledImages.Open(Repository.Sample, _ => throw new InvalidOperationException());
        for (var at = 0; at < count; at += size)
        {
            var length = Math.Min(size, count - at);
            byte[] pixels = [.. Enumerable.Range(from + at, length).SelectMany(i => images.Read(i).Pixels)];
            calibrator.Observe(FrameBlock.FromPixels(pixels, length, 1, Prototype.Side, Prototype.Side));
        }
    }

    // In deviations over frames.
    private static void Relative(float[] expected, float[] actual, float[] variance, string what)
    {
        float[] Units(float[] values) => [.. values.Select((value, i) => value / MathF.Sqrt(variance[i % variance.Length]))];
        Close.Assert(Units(expected), Units(actual), 2e-3, what);
    }

    private static float[] Ratio(float[] a, float[] b) => [.. a.Zip(b, (x, y) => x / y)];

    private static float[] Ones(int count) => [.. Enumerable.Repeat(1f, count)];
}

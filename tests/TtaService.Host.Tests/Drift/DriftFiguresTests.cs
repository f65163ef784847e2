using System.Globalization;
using TtaService.Engine.Drift;
using TtaService.Engine.Execution;
using TtaService.Engine.Normalization;
using TtaService.Evaluation;
using TtaService.Host.Commands;
using TtaService.Host.Commands.Evaluation;

namespace TtaService.Host.Tests.Drift;

/// <summary>What the sensor promises, measured with the demo's model and its own drift.json on the half of the sample that it was not calibrated with.</summary>
public sealed class DriftFiguresTests(ITestOutputHelper output)
{
    private const int CalibratedImages = 5000;
    private const int StreamLength = 1000;
    private const int FramesToNotice = 256;

    [Theory]
    [InlineData("source")]
    [InlineData("adaptive")]
    public void Sweeps_CleanAndCorruptedStreams_KeepTheFigures(string method)
    {
        using var demo = Open(new ObservationOptions());
        // A sweep every 32 frames; of a source stream one step in four is observed.
        var interval = method == "source" ? 8 : 32;
        var clean = Enumerable.Range(0, 3).SelectMany(i => Levels(demo.Follow(method, demo.Stream(i), 8, interval))).ToList();
        var above = clean.Count(sweep => sweep.Level >= DriftLevel.Warning);
        output.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{method}, clean: {above} of {clean.Count} sweeps at the warning level, {clean.Count(
            sweep => sweep.Score >= 1)} at its score, mean {clean.Average(sweep => sweep.Score):0.00}, largest {clean.Max(sweep => sweep.Score):0.00}"));
        var noticed = 0;
        for (var corruption = 0; corruption < Corruption.All.Count; corruption++)
        {
            var stream = demo.Stream(corruption % 3).Take(FramesToNotice).Select(sample => sample with { Domain = corruption + 1 }).ToArray();
            var sweeps = Levels(demo.Follow(method, stream, 8, interval)).ToList();
            noticed += sweeps.Any(sweep => sweep.Level >= DriftLevel.Warning) ? 1 : 0;
            output.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{method}, {Corruption.All[corruption].Name}: {sweeps.Max(
                sweep => sweep.Level)}, score {sweeps.Min(sweep => sweep.Score):0.00} to {sweeps.Max(sweep => sweep.Score):0.00}"));
        }

        Assert.True(above <= 0.02 * clean.Count, $"{above} of {clean.Count} clean sweeps are at the warning level");
        Assert.True(noticed >= 14, $"{noticed} of {Corruption.All.Count} corruptions are noticed within {FramesToNotice} frames");
    }

    [Theory]
    [InlineData("fog")]
    [InlineData("contrast")]
    [InlineData("brightness")]
    public void Switch_OfTheDomain_IsDatedAndRaisesTheLevel(string corruption)
    {
        const int Batch = 4;
        const int CleanFrames = 400;
        using var demo = Open(new ObservationOptions());
        var domain = Enumerable.Range(0, Corruption.All.Count).First(i => Corruption.All[i].Name == corruption) + 1;
        var stream = demo.Stream(1).Take(800).Select((sample, i) => sample with { Domain = i < CleanFrames ? 0 : domain }).ToArray();
        var level = new DriftLevelTracker();
        var levels = new List<(long Frames, DriftLevel Level)>();
        var changes = new List<long>();
        foreach (var reading in demo.Follow("adaptive", stream, Batch, DriftCalibration.ReadingInterval))
        {
            level.Update(reading);
            levels.Add((reading.Frames, level.Level));
            changes.Add(reading.ChangedAtStep);
        }

        Assert.All(levels.Where(at => at.Frames is >= 128 and <= CleanFrames), at => Assert.Equal(DriftLevel.Normal, at.Level));
        Assert.Contains(levels, at => at.Frames <= CleanFrames + 256 && at.Level >= DriftLevel.Warning);
        var expected = (CleanFrames / Batch) + 1;
        Assert.Single(changes.Where(step => step > 0).Distinct(), step => Math.Abs(step - expected) <= 2);
    }

    private static IEnumerable<(DriftLevel Level, double Score)> Levels(IEnumerable<DriftReading> readings)
    {
        var tracker = new DriftLevelTracker();
        foreach (var reading in readings.Where(reading => reading.Frames >= DriftLevelTracker.WarmUpFrames))
        {
            tracker.Update(reading);
            yield return (tracker.Level, reading.Score!.Value);
        }
    }

    private static Demo Open(ObservationOptions observation) => new(observation);

    private sealed class Demo : IDisposable
    {
        private readonly AdaptiveModel _model;
        private readonly EvaluationFrames _frames;
        private readonly DriftMonitor _monitor;

        public Demo(ObservationOptions observation)
        {
            var location = ModelLocation.Resolve("fashion-mnist", null);
            _model = AdaptiveModel.Load(location.OnnxPath, location.LoadOptions with { Observation = observation, Threads = 1 });
            _frames = EvaluationData.Open(location, _model, null, [new EvaluationDomain(null, 5), .. Corruption.All.Select(corruption => new EvaluationDomain(corruption, 5))]);
            _monitor = new DriftMonitor(_model, DriftReference.Read(Path.Combine(location.Folder!.FolderPath, DriftReference.FileName)));
        }

        /// <summary>A clean stream of images that the calibration has not seen, in runs of a class.</summary>
        public EvaluationSample[] Stream(int number)
        {
            var from = CalibratedImages + (number * StreamLength);
            var labels = Enumerable.Range(from, StreamLength).Select(image => _frames.Labels[image]).ToArray();
            return Array.ConvertAll(StreamOrders.Correlated(labels, 100 + number), at => new EvaluationSample(0, from + at));
        }

        public IEnumerable<DriftReading> Follow(string method, EvaluationSample[] stream, int batch, int interval) =>
            DriftCalibration.Follow(_model, _frames, _monitor, MethodSettings.Create(method), stream, batch, interval: interval);

        public void Dispose() => _model.Dispose();
    }
}

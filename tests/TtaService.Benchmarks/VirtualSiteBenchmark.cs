using TtaService.Engine.Calibration;
using TtaService.Engine.Execution;
using TtaService.Engine.Normalization;

namespace TtaService.Benchmarks;

/// <summary>The cost of adapting a network whose BatchNormalization was folded away: a pass with virtual sites against the folded graph as it is.</summary>
internal static class VirtualSiteBenchmark
{
    private const int CalibrationBatch = 16;

    public static void Run(Report report, BenchmarkOptions options)
    {
        foreach (var name in options.Models)
        {
            var path = ResNetModels.Path(name, isFolded: true);
            var calibration = Calibrate(path, options);
            foreach (var batch in options.Batches)
            {
                Run(report, options, (name, path, calibration), batch);
            }
        }
    }

    private static void Run(Report report, BenchmarkOptions options, (string Name, string Path, ModelCalibration Calibration) network, int batch)
    {
        // Random weights answer one class for ever, which has every step compared with the source: another pass.
        using var model = AdaptiveModel.Load(network.Path, options.Load with { Calibration = network.Calibration, Learning = new LearningOptions { CollapseFrames = 0 } });
        var frames = Frames.Random(batch, options.Size);
        var variants = new Interleaved();
        foreach (var method in new[] { "source", "ema", "unmix_tns" })
        {
            var state = model.CreateState(MethodSettings.Create(method));
            variants.Add(method, () => model.Run([new StreamStep(state, frames)]));
        }

        variants.Run(options.Rounds, options.Sample);
        report.Row($"ema at {model.Sites.Count} virtual sites / folded graph as it is, {network.Name}, batch {batch}", variants, "ema", "source", 1.15);
        report.Row($"unmix_tns at {model.Sites.Count} virtual sites / folded graph as it is, {network.Name}, batch {batch}", variants, "unmix_tns", "source", 1.15);
    }

    private static ModelCalibration Calibrate(string path, BenchmarkOptions options)
    {
        using var plain = AdaptiveModel.Load(path, options.Load with { ForCalibration = true });
        var calibrator = new Calibrator(plain);
        for (var frames = 0; frames < Calibrator.MinFrames; frames += CalibrationBatch)
        {
            calibrator.Observe(Frames.Random(CalibrationBatch, options.Size));
        }

        return calibrator.Complete(DateTimeOffset.UnixEpoch);
    }
}

using TtaService.Engine.Calibration;
using TtaService.Engine.Execution;
using TtaService.Engine.Normalization;

namespace TtaService.Benchmarks;

/// <summary>The cost of a pass of <c>auto</c>, the source's own passes now and then included, against one of <c>unmix_tns</c>.</summary>
internal static class AutoBenchmark
{
    private const int FramesInPass = 8;

    public static void Run(Report report, BenchmarkOptions options)
    {
        foreach (var name in options.Models)
        {
            foreach (var (classes, figure) in new[] { (10, 1.05), (1000, 1.10) })
            {
                var path = ResNetModels.Path(name, classes);
                using var model = AdaptiveModel.Load(path, options.Load with { Calibration = Calibrate(path, options) });
                foreach (var batch in options.Batches)
                {
                    Run(report, options, model, $"{name}, {classes} classes, batch {batch}", batch, figure);
                }
            }
        }
    }

    private static void Run(Report report, BenchmarkOptions options, AdaptiveModel model, string what, int batch, double figure)
    {
        var frames = Frames.Random(batch, options.Size);
        var auto = model.CreateState(MethodSettings.Create("auto"));
        var unmix = model.CreateState(MethodSettings.Create("unmix_tns"));
        // Past the start of a stream, where every frame is the source's, too.
        for (var seen = 0; seen < 32; seen += batch)
        {
            model.Run([new StreamStep(auto, frames)]);
        }

        var variants = new Interleaved();
        variants.Add("auto", () => model.Run([new StreamStep(auto, frames)]));
        variants.Add("unmix_tns", () => model.Run([new StreamStep(unmix, frames)]));
        variants.Run(options.Rounds, options.Sample);
        report.Row($"auto / unmix_tns, {what}", variants, "auto", "unmix_tns", figure);
        model.Release(auto);
        model.Release(unmix);
    }

    private static ModelCalibration Calibrate(string path, BenchmarkOptions options)
    {
        using var model = AdaptiveModel.Load(path, options.Load);
        var calibrator = new Calibrator(model);
        while (calibrator.Frames < Calibrator.MinFrames)
        {
            calibrator.Observe(Frames.Random(FramesInPass, options.Size));
        }

        return calibrator.Complete(DateTimeOffset.UnixEpoch);
    }
}

using System.Globalization;
using TtaService.Engine.Execution;
using TtaService.Engine.Normalization;

namespace TtaService.Benchmarks;

/// <summary>Bytes of a resident stream, and resident memory over many steps of many streams on few slots.</summary>
internal static class MemoryBenchmark
{
    private const int Streams = 200;
    private const int Slots = 64;
    private const int Reports = 10;

    public static void Run(Report report, BenchmarkOptions options)
    {
        using (var resnet = AdaptiveModel.Load(ResNetModels.Path("resnet50")))
        {
            var bytes = resnet.StateBytes(MethodSettings.Create("unmix_tns"));
            report.Line($"| bytes per resident stream, resnet50, unmix_tns K=16 | {bytes / 1e6:0.00} MB | | | <= 3.5 MB |");
        }

        RunAsync(report, options.Steps).GetAwaiter().GetResult();
    }

    private static async Task RunAsync(Report report, int steps)
    {
        var model = Path.Combine(AppContext.BaseDirectory, "models", "fashion-mnist", "model.onnx");
        long bytes;
        using (var sizing = AdaptiveModel.Load(model))
        {
            bytes = sizing.StateBytes(MethodSettings.Create("unmix_tns"));
        }

        await using var host = await ServiceBenchmark.StartAsync($"--Models:ArenaBytes={Slots * bytes}");
        var streams = await InProcess.OpenAsync(host, "fashion-mnist", Streams, "unmix_tns");
        var frames = ServiceBenchmark.Frames();
        for (var part = 0; part <= Reports; part++)
        {
            if (part > 0)
            {
                await Task.WhenAll(Enumerable.Range(0, Streams).Select(stream => Task.Run(async () =>
                {
                    for (var step = 0; step < steps / Reports / Streams; step++)
                    {
                        await streams[stream].StepAsync(frames[(stream + step) % frames.Length]);
                    }
                })));
            }

            var (managed, committed) = (GC.GetTotalMemory(forceFullCollection: false) / (1 << 20), GC.GetGCMemoryInfo().TotalCommittedBytes / (1 << 20));
            var name = string.Create(CultureInfo.InvariantCulture, $"resident memory after {part * (long)steps / Reports:N0} steps, {Streams} streams on {Slots} slots");
            report.Line($"| {name} | {ResidentMebibytes():0} MiB, managed heap {managed} of {committed} MiB committed | | | flat |");
        }
    }

    private static double ResidentMebibytes() =>
        double.Parse(File.ReadAllText("/proc/self/statm").Split(' ')[1], CultureInfo.InvariantCulture) * Environment.SystemPageSize / (1 << 20);
}

using System.Diagnostics;
using Microsoft.AspNetCore.Builder;
using Microsoft.Extensions.DependencyInjection;
using TtaService.Host.Streams;

namespace TtaService.Benchmarks;

/// <summary>What writing the state of 64 streams every 10 s costs the steps: the demo model, unmix_tns, the file store, against a store that writes nothing meanwhile.</summary>
internal static class CheckpointBenchmark
{
    private const int Streams = 64;
    private const string Model = "fashion-mnist";
    private static readonly TimeSpan Sample = TimeSpan.FromSeconds(20);
    private static readonly Process Self = Process.GetCurrentProcess();

    public static void Run(Report report, BenchmarkOptions options) => RunAsync(report, options).GetAwaiter().GetResult();

    private static async Task RunAsync(Report report, BenchmarkOptions options)
    {
        var folder = Directory.CreateTempSubdirectory("tta-checkpoints-").FullName;
        try
        {
            var frames = ServiceBenchmark.Frames();
            await using var writing = await StartAsync(Path.Combine(folder, "writing"), "00:00:10", options);
            await using var quiet = await StartAsync(Path.Combine(folder, "quiet"), "10:00:00", options);
            var streams = new[] { await InProcess.OpenAsync(writing, Model, Streams, "unmix_tns"), await InProcess.OpenAsync(quiet, Model, Streams, "unmix_tns") };
            var ratios = new List<double>();
            var cpu = new List<double>[] { [], [] };
            for (var round = 0; round < options.Rounds; round++)
            {
                for (var i = 0; i < 2; i++)
                {
                    var at = (i + round) % 2;
                    cpu[at].Add(await MeasureAsync(at == 0 ? writing : quiet, streams[at], frames, waits: at == 0));
                }

                ratios.Add(cpu[0][^1] / cpu[1][^1]);
            }

            ratios.Sort();
            var written = Directory.GetFiles(Path.Combine(folder, "writing"), "*.safetensors");
            report.Line($"| {Streams} streams written every 10 s / not written, {Model}, unmix_tns, {written.Average(file => new FileInfo(file).Length) / 1e3:0} kB a checkpoint | {ratios[ratios.Count / 2]:0.000} | | {Median(cpu[0]):0.000} / {Median(cpu[1]):0.000} a step | <= 1.03 |");
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    private static Task<WebApplication> StartAsync(string folder, string interval, BenchmarkOptions options) =>
        ServiceBenchmark.StartAsync($"--Models:Threads={options.Threads}", "--Store:Kind=file", $"--Store:Path={folder}", $"--Store:CheckpointInterval={interval}");

    // CPU milliseconds a step, the writing of what the steps changed included.
    private static async Task<double> MeasureAsync(WebApplication host, InProcess[] streams, V1.Frame[] frames, bool waits)
    {
        Self.Refresh();
        var (before, started) = (Self.TotalProcessorTime, Stopwatch.GetTimestamp());
        var steps = 0;
        await Task.WhenAll(streams.Select((stream, at) => Task.Run(async () =>
        {
            for (var step = 0; Stopwatch.GetElapsedTime(started) < Sample; step++)
            {
                await stream.StepAsync(frames[(at + step) % frames.Length]);
                Interlocked.Increment(ref steps);
            }
        })));
        while (waits && host.Services.GetRequiredService<StreamDirectory>().Loaded.Any(session => session.Keeping.Dirty))
        {
            await Task.Delay(50);
        }

        Self.Refresh();
        return (Self.TotalProcessorTime - before).TotalMilliseconds / steps;
    }

    private static double Median(List<double> values) => values.Order().ElementAt(values.Count / 2);
}

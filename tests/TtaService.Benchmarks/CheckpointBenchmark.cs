using System.Diagnostics;
using System.Globalization;
using Microsoft.AspNetCore.Builder;
using Microsoft.Extensions.DependencyInjection;
using TtaService.Serving.Streams;

namespace TtaService.Benchmarks;

/// <summary>What writing the state of 64 streams every 10 s costs: the demo model, unmix_tns, the file store.</summary>
/// <remarks>A step of every stream and the writing of all their states, against the steps alone and as long a wait. The difference is set against what all processors do in 10 s:
/// over windows of full load the difference of two large numbers drowned in the noise of a shared machine (0.99 to 1.13 in runs of one build).</remarks>
internal static class CheckpointBenchmark
{
    private const int Streams = 64;
    private const int Bursts = 4;
    private const string Model = "fashion-mnist";
    private static readonly TimeSpan Interval = TimeSpan.FromSeconds(10);
    private static readonly TimeSpan Burst = TimeSpan.FromSeconds(1.5);
    private static readonly Process Self = Process.GetCurrentProcess();

    public static void Run(Report report, BenchmarkOptions options) => RunAsync(report, options).GetAwaiter().GetResult();

    private static async Task RunAsync(Report report, BenchmarkOptions options)
    {
        var folder = Directory.CreateTempSubdirectory("tta-checkpoints-").FullName;
        try
        {
            var frames = ServiceBenchmark.Frames();
            await using var writing = await StartAsync(Path.Combine(folder, "writing"), "00:00:01", options);
            await using var quiet = await StartAsync(Path.Combine(folder, "quiet"), "10:00:00", options);
            var streams = new[] { await InProcess.OpenAsync(writing, Model, Streams, "unmix_tns"), await InProcess.OpenAsync(quiet, Model, Streams, "unmix_tns") };
            var costs = new List<double>();
            for (var round = -1; round < options.Rounds; round++)
            {
                var cpu = new double[2];
                for (var i = 0; i < 2; i++)
                {
                    var at = (i + round + 1) % 2;
                    cpu[at] = await MeasureAsync(at == 0 ? writing : quiet, streams[at], frames, waits: at == 0);
                }

                // The first round warms up.
                if (round >= 0)
                {
                    costs.Add((cpu[0] - cpu[1]) / Bursts);
                }
            }

            costs.Sort();
            var cost = costs[costs.Count / 2];
            var share = cost / (Interval.TotalMilliseconds * Environment.ProcessorCount);
            var written = Directory.GetFiles(Path.Combine(folder, "writing"), "*.safetensors");
            var (kilobytes, each) = (written.Average(file => new FileInfo(file).Length) / 1e3, costs.ConvertAll(one => one / Streams));
            var name = string.Create(CultureInfo.InvariantCulture, $"{Streams} streams written every 10 s / not written, {Model}, unmix_tns, {kilobytes:0} kB a checkpoint");
            report.Line($"| {name} | {1 + share:0.000} | | {cost / Streams:0.00} a checkpoint ({each[0]:0.00} to {each[^1]:0.00}) | <= 1.03 |");
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    private static Task<WebApplication> StartAsync(string folder, string interval, BenchmarkOptions options) =>
        ServiceBenchmark.StartAsync($"--Models:Threads={options.Threads}", "--Store:Kind=file", $"--Store:Path={folder}", $"--Store:CheckpointInterval={interval}");

    // CPU milliseconds of some bursts: a step of every stream, and what follows it.
    private static async Task<double> MeasureAsync(WebApplication host, InProcess[] streams, V1.Frame[] frames, bool waits)
    {
        Self.Refresh();
        var before = Self.TotalProcessorTime;
        for (var burst = 0; burst < Bursts; burst++)
        {
            var started = Stopwatch.GetTimestamp();
            await Task.WhenAll(streams.Select((stream, at) => stream.StepAsync(frames[(at + burst) % frames.Length])));
            await Task.Delay(Burst - Stopwatch.GetElapsedTime(started));
            while (waits && host.Services.GetRequiredService<StreamDirectory>().Loaded.Any(session => session.Keeping.Dirty))
            {
                await Task.Delay(50);
            }
        }

        Self.Refresh();
        return (Self.TotalProcessorTime - before).TotalMilliseconds;
    }
}

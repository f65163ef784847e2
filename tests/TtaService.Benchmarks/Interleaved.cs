using System.Diagnostics;

namespace TtaService.Benchmarks;

/// <summary>Runs variants in turn, round after round in changing order, and compares medians of process CPU time: on a shared machine a drift of the clock or a busy
/// neighbour meets all variants alike.</summary>
internal sealed class Interleaved
{
    private static readonly Process Self = Process.GetCurrentProcess();
    private readonly List<(string Name, Action Run, List<double> Cpu, List<double> Wall)> _variants = [];

    public void Add(string name, Action run) => _variants.Add((name, run, [], []));

    /// <summary>Measures. A sample repeats its variant until it has lasted at least <paramref name="sample"/>.</summary>
    public void Run(int rounds, TimeSpan sample)
    {
        var repeats = new int[_variants.Count];
        for (var i = 0; i < repeats.Length; i++)
        {
            _variants[i].Run();
            _variants[i].Run();
            var started = Stopwatch.GetTimestamp();
            _variants[i].Run();
            repeats[i] = Math.Max(1, (int)(sample / Stopwatch.GetElapsedTime(started)));
        }

        for (var round = 0; round < rounds; round++)
        {
            for (var i = 0; i < _variants.Count; i++)
            {
                var at = (i + round) % _variants.Count;
                var (_, run, cpu, wall) = _variants[at];
                Self.Refresh();
                var (cpuBefore, started) = (Self.TotalProcessorTime, Stopwatch.GetTimestamp());
                for (var n = 0; n < repeats[at]; n++)
                {
                    run();
                }

                var elapsed = Stopwatch.GetElapsedTime(started);
                Self.Refresh();
                cpu.Add((Self.TotalProcessorTime - cpuBefore).TotalMilliseconds / repeats[at]);
                wall.Add(elapsed.TotalMilliseconds / repeats[at]);
            }
        }
    }

    /// <summary>Median process CPU time of a run, in milliseconds.</summary>
    public double Cpu(string name) => Median(_variants.First(variant => variant.Name == name).Cpu);

    /// <summary>Median wall time of a run, in milliseconds.</summary>
    public double Wall(string name) => Median(_variants.First(variant => variant.Name == name).Wall);

    /// <summary>Median over the rounds of CPU time over the baseline's in the same round.</summary>
    public double CpuRatio(string name, string baseline) => Ratio(name, baseline, cpu: true);

    /// <summary>Median over the rounds of wall time over the baseline's in the same round.</summary>
    public double WallRatio(string name, string baseline) => Ratio(name, baseline, cpu: false);

    private double Ratio(string name, string baseline, bool cpu)
    {
        var one = _variants.First(variant => variant.Name == name);
        var other = _variants.First(variant => variant.Name == baseline);
        return Median([.. (cpu ? one.Cpu : one.Wall).Zip(cpu ? other.Cpu : other.Wall, (a, b) => a / b)]);
    }

    private static double Median(List<double> values)
    {
        var sorted = values.Order().ToList();
        var middle = sorted.Count / 2;
        return sorted.Count % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
    }
}

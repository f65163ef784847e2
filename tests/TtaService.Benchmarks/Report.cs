using System.Globalization;
using System.Runtime.Intrinsics;

namespace TtaService.Benchmarks;

/// <summary>Prints a Markdown table of ratios with the machine they were measured on.</summary>
internal sealed class Report(TextWriter output, int threads)
{
    public void Begin()
    {
        var simd = Vector512.IsHardwareAccelerated ? 512 : Vector256.IsHardwareAccelerated ? 256 : 128;
        Line($"{Processor()}, {Environment.ProcessorCount} cores, {threads} torch threads, {simd}-bit vectors, .NET {Environment.Version}");
        Line($"");
        Line($"| what | CPU ratio | wall ratio | CPU ms | figure |");
        Line($"| --- | --- | --- | --- | --- |");
    }

    /// <param name="what">What is compared.</param>
    /// <param name="variants">The measured variants.</param>
    /// <param name="name">The numerator.</param>
    /// <param name="baseline">The denominator.</param>
    /// <param name="figure">The ratio to stay under; null when there is none.</param>
    public void Row(string what, Interleaved variants, string name, string baseline, double? figure) =>
        Line($"| {what} | {variants.CpuRatio(name, baseline):0.00} | {variants.WallRatio(name, baseline):0.00} | {variants.Cpu(
            name):0.0} / {variants.Cpu(baseline):0.0} | {(figure is { } limit ? $"<= {limit:0.00}" : "")} |");

    public void Line(FormattableString text) => output.WriteLine(text.ToString(CultureInfo.InvariantCulture));

    private static string Processor() =>
        File.Exists("/proc/cpuinfo")
            ? File.ReadLines("/proc/cpuinfo").FirstOrDefault(line => line.StartsWith("model name", StringComparison.Ordinal))?.Split(':')[1].Trim() ?? "processor"
            : "processor";
}

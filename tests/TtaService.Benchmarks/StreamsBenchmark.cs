using TtaService.Engine.Execution;
using TtaService.Engine.Normalization;

namespace TtaService.Benchmarks;

/// <summary>What sharing a batch costs and saves: frames of many streams in one pass, against one stream's frames and against isolated passes.</summary>
internal static class StreamsBenchmark
{
    public static void Run(Report report, BenchmarkOptions options)
    {
        foreach (var name in options.Models)
        {
            using var model = AdaptiveModel.Load(ResNetModels.Path(name), options.Load);
            foreach (var streams in options.Streams)
            {
                Run(report, options, model, name, streams);
            }
        }
    }

    private static void Run(Report report, BenchmarkOptions options, AdaptiveModel model, string name, int streams)
    {
        var settings = MethodSettings.Create("unmix_tns");
        var states = Enumerable.Range(0, streams).Select(i => model.CreateState(settings, (ulong)i)).ToArray();
        var single = model.CreateState(settings);
        var one = Frames.Random(1, options.Size);
        var many = Frames.Random(streams, options.Size);
        var together = states.Select(state => new StreamStep(state, one)).ToArray();

        var variants = new Interleaved();
        variants.Add("together", () => model.Run(together));
        variants.Add("one stream", () => model.Run([new StreamStep(single, many)]));
        variants.Add("isolated", () =>
        {
            foreach (var step in together)
            {
                model.Run([step]);
            }
        });
        variants.Run(options.Rounds, options.Sample);
        report.Row($"{streams} streams x 1 frame / 1 stream x {streams} frames, {name}", variants, "together", "one stream", streams == 64 ? 1.10 : null);
        report.Row($"{streams} streams x 1 frame in a batch / in isolated passes, {name}", variants, "together", "isolated", streams == 64 ? 0.6 : null);
        foreach (var state in states.Append(single))
        {
            model.Release(state);
        }
    }
}

using System.Text.Json.Nodes;
using TtaService.Engine.Drift;
using TtaService.Engine.Execution;
using TtaService.Engine.Normalization;

namespace TtaService.Benchmarks;

/// <summary>The cost of learning scales and biases by gradients, against a pass of <c>tbn</c> over as many frames; drift is observed in all of them.</summary>
internal static class AffineBenchmark
{
    public static void Run(Report report, BenchmarkOptions options)
    {
        foreach (var name in options.Models)
        {
            using var model = AdaptiveModel.Load(ResNetModels.Path(name), options.Load with { Observation = new ObservationOptions() });
            foreach (var batch in options.Batches.Where(batch => batch > 1))
            {
                var (one, few) = (Frames.Random(batch, options.Size), Frames.Random(batch / 4, options.Size));
                var tbn = model.CreateState(MethodSettings.Create("tbn"));
                var tent = model.CreateState(MethodSettings.Create("tent"));
                var mixed = model.CreateState(MethodSettings.Create("tent", new JsonObject { ["test_weight"] = 0.5 }));
                var streams = Enumerable.Range(0, 4).Select(_ => model.CreateState(MethodSettings.Create("tent", new JsonObject { ["min_frames"] = 1 }))).ToArray();
                var variants = new Interleaved();
                variants.Add("tbn", () => model.Run([new StreamStep(tbn, one)]));
                variants.Add("tent", () => model.Run([new StreamStep(tent, one)]));
                variants.Add("frozen", () => model.Run([new StreamStep(tent, one, Freeze: true)]));
                variants.Add("mixed", () => model.Run([new StreamStep(mixed, one)]));
                variants.Add("streams", () => model.Run([.. streams.Select(state => new StreamStep(state, few))]));
                variants.Run(options.Rounds, options.Sample);
                report.Row($"tent / tbn, {name}, batch {batch}", variants, "tent", "tbn", null);
                report.Row($"tent with half of the source's statistics / tbn, {name}, batch {batch}", variants, "mixed", "tbn", null);
                report.Row($"tent, 4 streams in the batch / tbn, {name}, batch {batch}", variants, "streams", "tbn", null);
                report.Row($"tent, frozen / tbn, {name}, batch {batch}", variants, "frozen", "tbn", null);
                foreach (var state in streams.Append(tbn).Append(tent).Append(mixed))
                {
                    model.Release(state);
                }
            }
        }
    }
}

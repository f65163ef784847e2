using TtaService.Engine.Drift;
using TtaService.Engine.Execution;
using TtaService.Engine.Normalization;

namespace TtaService.Benchmarks;

/// <summary>What watching costs: observed statistics in the pass, and a sweep over 200 streams.</summary>
internal static class DriftBenchmark
{
    private const int Streams = 200;
    private const int StreamsInPass = 20;

    // Of the time between two sweeps (Drift:Interval).
    private const double IntervalMilliseconds = 10_000;

    public static void Run(Report report, BenchmarkOptions options)
    {
        foreach (var name in options.Models)
        {
            using var watched = AdaptiveModel.Load(ResNetModels.Path(name), options.Load with { Observation = new ObservationOptions() });
            using var plain = AdaptiveModel.Load(ResNetModels.Path(name), options.Load);
            foreach (var method in new[] { "adaptive", "unmix_tns", "source" })
            {
                var (observed, unobserved) = (new Fleet(watched, method, options.Size), new Fleet(plain, method, options.Size));
                var variants = new Interleaved();
                variants.Add("observed", observed.Pass);
                variants.Add("not observed", unobserved.Pass);
                variants.Run(options.Rounds, options.Sample);
                report.Row($"{method}, observed / not observed, {Streams} streams, {name}", variants, "observed", "not observed", 1.03);
                if (method == "adaptive")
                {
                    var monitor = new DriftMonitor(watched, null);
                    var sweep = new Interleaved();
                    sweep.Add("sweep", () => observed.Sweep(monitor));
                    sweep.Run(options.Rounds, options.Sample);
                    report.Line(
                        $"a sweep over {Streams} streams, {name}: {sweep.Cpu("sweep"):0.0} ms, {100 * sweep.Cpu("sweep") / IntervalMilliseconds:0.00} % of the time between two");
                }

                observed.Release();
                unobserved.Release();
            }
        }
    }

    private sealed class Fleet
    {
        private readonly AdaptiveModel _model;
        private readonly StreamStep[][] _passes;
        private int _next;

        public Fleet(AdaptiveModel model, string method, int size)
        {
            _model = model;
            var frame = Frames.Random(1, size);
            var steps = Enumerable.Range(0, Streams).Select(i => new StreamStep(model.CreateState(MethodSettings.Create(method), (ulong)i), frame)).ToArray();
            _passes = [.. steps.Chunk(StreamsInPass)];
            // Everybody has warmed up: a source stream is then observed now and then only.
            var warm = Frames.Random(64, size);
            for (var i = 0; i < 2; i++)
            {
                foreach (var step in method == "source" ? steps : [])
                {
                    model.Run([step with { Frames = warm }]);
                }
            }
        }

        public void Pass() => _model.Run(_passes[_next++ % _passes.Length]);

        public void Sweep(DriftMonitor monitor)
        {
            foreach (var step in _passes.SelectMany(pass => pass))
            {
                _ = monitor.TryRead(step.State);
            }
        }

        public void Release()
        {
            foreach (var step in _passes.SelectMany(pass => pass))
            {
                _model.Release(step.State);
            }
        }
    }
}

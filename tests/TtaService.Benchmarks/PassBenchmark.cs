using Microsoft.ML.OnnxRuntime;
using Microsoft.ML.OnnxRuntime.Tensors;
using TtaService.Engine.Execution;
using TtaService.Engine.Normalization;

namespace TtaService.Benchmarks;

/// <summary>The cost of adapting within one pass: UnMix-TNS against eval BN, folded BN, the plainly written layer, and ONNX Runtime.</summary>
internal static class PassBenchmark
{
    public static void Run(Report report, BenchmarkOptions options)
    {
        foreach (var name in options.Models)
        {
            foreach (var batch in options.Batches)
            {
                Run(report, options, name, batch);
            }
        }
    }

    private static void Run(Report report, BenchmarkOptions options, string name, int batch)
    {
        var path = ResNetModels.Path(name);
        using var model = AdaptiveModel.Load(path, options.Load);
        var frames = Frames.Random(batch, options.Size);
        var source = model.CreateState(MethodSettings.Create("source"));
        var unmix = model.CreateState(MethodSettings.Create("unmix_tns"));
        var evalBatchNorm = new EvalBatchNorm();
        var plain = new PlainUnmixTns(components: 16);
        using var session = OnnxRuntime(path, options.Threads);
        using var input = OrtValue.CreateTensorValueFromMemory(frames.Values.ToArray(), [batch, 3, options.Size, options.Size]);
        using var run = new RunOptions();

        var variants = new Interleaved();
        variants.Add("unmix_tns", () => model.Run([new StreamStep(unmix, frames)]));
        variants.Add("source", () => model.Run([new StreamStep(source, frames)]));
        variants.Add("eval BN", () => model.Pass.Forward([frames], batch, evalBatchNorm));
        variants.Add("plain layer", () => model.Pass.Forward([frames], batch, plain));
        variants.Add("ONNX Runtime", () => session.Run(run, ["image"], [input], ["logits"]).Dispose());
        variants.Run(options.Rounds, options.Sample);

        report.Row($"unmix_tns / eval BN, {name}, batch {batch}", variants, "unmix_tns", "eval BN", 1.05);
        report.Row($"unmix_tns / source (BN folded), {name}, batch {batch}", variants, "unmix_tns", "source", 1.12);
        report.Row($"unmix_tns / layer in plain torch operators, {name}, batch {batch}", variants, "unmix_tns", "plain layer", 0.6);
        report.Row($"layer in plain torch operators / eval BN, {name}, batch {batch}", variants, "plain layer", "eval BN", null);
        report.Row($"source / ONNX Runtime, {name}, batch {batch}", variants, "source", "ONNX Runtime", batch == 8 ? (name == "resnet18" ? 1.15 : 1.3) : null);
        report.Row($"unmix_tns / ONNX Runtime, {name}, batch {batch}", variants, "unmix_tns", "ONNX Runtime", null);
    }

    private static InferenceSession OnnxRuntime(string path, int threads)
    {
        using var settings = new SessionOptions { IntraOpNumThreads = threads, InterOpNumThreads = 1 };
        // A waiting thread that spins would count as CPU time.
        settings.AddSessionConfigEntry("session.intra_op.allow_spinning", "0");
        return new InferenceSession(path, settings);
    }
}

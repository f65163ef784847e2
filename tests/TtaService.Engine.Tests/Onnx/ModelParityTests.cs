using Microsoft.ML.OnnxRuntime;
using Microsoft.ML.OnnxRuntime.Tensors;
using TtaService.Engine.Execution;
using TtaService.Engine.Normalization;
using TtaService.Engine.Onnx;
using TtaService.Engine.Streams;
using static TorchSharp.torch;

namespace TtaService.Engine.Tests.Onnx;

/// <summary>Whole models against ONNX Runtime, folded and with the source statistics at every site. TTA_ONNX_MODELS names a folder of further models (export_models.py
/// makes them).</summary>
public sealed class ModelParityTests(ITestOutputHelper output)
{
    private static readonly string Small = Path.Combine(AppContext.BaseDirectory, "Data", "onnx");

    public static TheoryData<string> Models()
    {
        var folders = new List<string> { Small };
        if (Environment.GetEnvironmentVariable("TTA_ONNX_MODELS") is { Length: > 0 } more)
        {
            folders.Add(more);
        }

        return [.. folders.SelectMany(folder => Directory.EnumerateFiles(folder, "*.onnx").Order(StringComparer.Ordinal))];
    }

    [Theory]
    [MemberData(nameof(Models))]
    public void Model_AnyShape_AgreesWithOnnxRuntime(string path)
    {
        using var graph = ModelGraph.Load(path, CPU);
        using var reference = new InferenceSession(path);
        var size = path.Contains("inception", StringComparison.Ordinal) ? 299 : path.StartsWith(Small, StringComparison.Ordinal) ? 48 : 224;
        var worst = 0.0;
        var other = graph.Inputs[0].Shape[2] < 0 ? size + 32 : size;
        foreach (var (frames, side) in new[] { (1, size), (2, size), (1, other) })
        {
            var x = Frames(frames, side);
            using var results = reference.Run([NamedOnnxValue.CreateFromTensor(graph.Inputs[0].Name, new DenseTensor<float>(x, [frames, 3, side, side]))]);
            var expected = results[0].AsTensor<float>();
            var folded = Difference(expected, Run(graph, x, [frames, 3, side, side], adapts: false));
            output.WriteLine($"{frames} frames of {side}: folded {folded:E1}");
            worst = Math.Max(worst, folded);
            worst = Math.Max(worst, Difference(expected, Run(graph, x, [frames, 3, side, side], adapts: true)));
        }

        output.WriteLine($"{Path.GetFileName(path)}: {graph.Sites.Count} sites, largest relative difference {worst:E1}");
        Assert.True(worst <= 1e-3, $"largest relative difference {worst:E1}");
    }

    private static unsafe float[] Run(ModelGraph graph, float[] x, long[] shape, bool adapts)
    {
        using var scope = NewDisposeScope();
        using var mode = inference_mode();
        var input = tensor(x, shape).permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2);
        if (!adapts)
        {
            return [.. graph.Run([input], null)[0].contiguous().data<float>()];
        }

        using var runtime = new MethodRuntime(MethodSettings.Create("source"), new MethodTarget(graph.Sites), 0);
        var row = ((HostArena)runtime.Arena).Pointer(runtime.Arena.Rent());
        var pass = new ForwardPass([new StepInPass(runtime, 0, (int)shape[0], 0, row, row)], 1);
        return [.. graph.Run([input], pass)[0].contiguous().data<float>()];
    }

    // Relative to the largest output: single values near zero have no digits of their own.
    private static double Difference(Microsoft.ML.OnnxRuntime.Tensors.Tensor<float> expected, float[] actual)
    {
        float[] wanted = [.. expected];
        Assert.Equal(wanted.Length, actual.Length);
        var scale = Math.Max(1e-6, wanted.Max(Math.Abs));
        return wanted.Zip(actual, (a, b) => double.IsNaN(b) ? double.PositiveInfinity : Math.Abs((double)a - b)).Max() / scale;
    }

    private static float[] Frames(int frames, int side)
    {
        var random = new Random(side);
        return [.. Enumerable.Range(0, frames * 3 * side * side).Select(_ => (float)((random.NextDouble() * 4) - 2))];
    }
}

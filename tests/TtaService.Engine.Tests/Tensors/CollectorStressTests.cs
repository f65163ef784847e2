using System.Diagnostics;
using System.Globalization;
using TorchSharp;
using TtaService.Engine.Drift;
using TtaService.Engine.Execution;
using TtaService.Engine.Normalization;
using TtaService.Engine.Onnx.Operators;
using TtaService.Engine.Onnx.Wire;
using TtaService.Engine.Tests.Onnx;
using static TorchSharp.torch;

namespace TtaService.Engine.Tests.Tensors;

/// <summary>Every operator and every method while a thread collects and finalizes without pause. TTA_STRESS_SECONDS scales it; the default is a few seconds.</summary>
[Collection(nameof(CollectorStressTests))]
[CollectionDefinition(nameof(CollectorStressTests), DisableParallelization = true)]
public sealed class CollectorStressTests
{
    private static readonly double Seconds = double.Parse(
        Environment.GetEnvironmentVariable("TTA_STRESS_SECONDS") is { Length: > 0 } given ? given : "3", CultureInfo.InvariantCulture);

    [Fact]
    public void Operators_UnderAnEagerCollector_AnswerTheSame()
    {
        using var scope = NewDisposeScope();
        using var mode = inference_mode();
        var sets = Inputs();
        var first = new Dictionary<string, (Kernel Kernel, Tensor[] Inputs, float[] Answer)>(StringComparer.Ordinal);
        foreach (var type in OperatorRegistry.All.Select(op => op.Type))
        {
            if (Compile(type) is { } kernel && sets.Find(set => Suits(type, kernel, set)) is { } inputs)
            {
                first[type] = (kernel, inputs, Run(kernel, inputs));
            }
        }

        // What takes other inputs than these does no arithmetic with numbers.
        Assert.Superset(new HashSet<string>(StringComparer.Ordinal) { "Add", "Sum", "Mean", "Pow", "Clip", "Softplus", "Mish", "Gelu", "Celu", "Elu", "LeakyRelu", "HardSigmoid",
            "Shrink", "PRelu", "LayerNormalization", "LRN", "Gemm", "ReduceLogSumExp", "AveragePool", "LpPool", "GlobalLpPool", "Gather", "Range" }, first.Keys.ToHashSet());
        var calls = 0L;
        using (new Collector())
        {
            for (var clock = Stopwatch.StartNew(); clock.Elapsed.TotalSeconds < Seconds;)
            {
                foreach (var (type, (kernel, inputs, answer)) in first)
                {
                    Assert.True(answer.AsSpan().SequenceEqual(Run(kernel, inputs)), $"{type} answers otherwise in call {calls}");
                    calls++;
                }
            }
        }

        TestContext.Current.TestOutputHelper?.WriteLine($"{calls} calls of {first.Count} operators");
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Methods_UnderAnEagerCollector_AnswerTheSame(bool usesTorchOperators)
    {
        var options = new AdaptiveModelOptions { UsesTorchOperators = usesTorchOperators, Observation = new ObservationOptions(), Threads = 1 };
        using var model = AdaptiveModel.Load(Path.Combine(AppContext.BaseDirectory, "Data", "onnx", "bottleneck_opset17.onnx"), options);
        var random = new Random(1);
        var frames = FrameBlock.FromValues(Enumerable.Range(0, 4 * 3 * 32 * 32).Select(_ => (float)((random.NextDouble() * 4) - 2)).ToArray(), 4, 3, 32, 32);
        var steps = MethodRegistry.BuiltIn.All.Select(method => new StreamStep(model.CreateState(MethodSettings.Create(method.Name)), frames, Freeze: true)).ToList();
        var first = model.Run(steps).Select(result => result.Outputs[0].Values).ToList();
        var passes = 0L;
        using (new Collector())
        {
            for (var clock = Stopwatch.StartNew(); clock.Elapsed.TotalSeconds < Seconds; passes++)
            {
                var results = model.Run(steps);
                for (var i = 0; i < results.Count; i++)
                {
                    Close.Assert(first[i], results[i].Outputs[0].Values, 1e-3, $"{steps[i].State.Method.Name}, pass {passes}");
                }
            }
        }

        TestContext.Current.TestOutputHelper?.WriteLine($"{passes} passes");
    }

    private static Kernel? Compile(string type)
    {
        var proto = new NodeProto { OpType = type, Name = type, Input = { "a", "b", "c", "d", "e" }, Output = { "y" } };
        foreach (var (name, ints) in new[] { ("kernel_shape", new long[] { 2, 2 }), ("axes", [-1]) })
        {
            proto.Attribute.Add(new AttributeProto { Name = name, Type = AttributeProto.Types.AttributeType.Ints, Ints = { ints } });
        }

        proto.Attribute.Add(new AttributeProto { Name = "size", Type = AttributeProto.Types.AttributeType.Int, I = 3 });
        proto.Attribute.Add(new AttributeProto { Name = "to", Type = AttributeProto.Types.AttributeType.Int, I = 1 });
        var problems = new List<string>();
        var kernel = OperatorRegistry.Find(type)!.Compile(new Node(proto, 17, new Dictionary<string, Tensor>(), problems));
        return problems.Count == 0 ? kernel : null;
    }

    // Sets of inputs of which an operator takes the first that suits it.
    private static List<Tensor[]> Inputs()
    {
        manual_seed(1);
        var image = rand(2, 4, 8, 8);
        var (matrix, other, row) = (rand(8, 8), rand(8, 8), rand(8));
        var channel = rand(4);
        return
        [
            [image, channel, channel, channel, channel],
            [image, rand(4, 1, 1), rand(4, 1, 1)],
            [image, tensor(0.2f), tensor(0.6f)],
            [image, tensor(new long[] { 0, -1 })],
            [image],
            [matrix, other, row],
            [tensor(0L), tensor(40L), tensor(3L)],
        ];
    }

    private static float[] Run(Kernel kernel, Tensor[] inputs)
    {
        using var scope = NewDisposeScope();
        return kernel(inputs)[0].to_type(ScalarType.Float32).contiguous().data<float>().ToArray();
    }

    private static bool Suits(string type, Kernel kernel, Tensor[] inputs)
    {
        // They take an image for a matrix of matrices.
        if (type is "Gemm" or "MatMul" && inputs[0].dim() != 2)
        {
            return false;
        }

        try
        {
            return !Array.Exists(Run(kernel, inputs), float.IsNaN);
        }
        catch (Exception e) when (e is not OutOfMemoryException)
        {
            return false;
        }
    }

    private sealed class Collector : IDisposable
    {
        private readonly Thread _thread;
        private volatile bool _stop;

        public Collector()
        {
            _thread = new Thread(() =>
            {
                while (!_stop)
                {
                    GC.Collect(0, GCCollectionMode.Forced, blocking: true);
                    GC.WaitForPendingFinalizers();
                }
            })
            { IsBackground = true };
            _thread.Start();
        }

        public void Dispose()
        {
            _stop = true;
            _thread.Join();
        }
    }
}

using TorchSharp;
using TtaService.Engine.Onnx.Compiling;
using TtaService.Engine.Onnx.Operators;
using TtaService.Engine.Onnx.Wire;
using static TorchSharp.torch;
using Tensor = TorchSharp.torch.Tensor;

namespace TtaService.Engine.Tests.Onnx;

/// <summary>The gradient of every operator that training passes through, against finite differences in float64.</summary>
public sealed class DifferentiableOperatorTests
{
    private const double Step = 1e-6;

    private static readonly Dictionary<string, Case> Cases = AllCases();

    public static TheoryData<string> Names() => [.. Cases.Keys.Order(StringComparer.Ordinal)];

    [Fact]
    public void Cases_AreThoseOfEveryDifferentiableOperator() =>
        Assert.Equal(DifferentiableOperators.All.Order(StringComparer.Ordinal), Cases.Keys.Select(name => name.Split(' ')[0]).Distinct().Order(StringComparer.Ordinal));

    [Theory]
    [MemberData(nameof(Names))]
    public void Operator_Gradient_IsTheSlopeOfItsOutput(string name)
    {
        using var scope = NewDisposeScope();
        using var mode = enable_grad();
        var test = Cases[name];
        var generator = new Generator(3);
        var x = test.Positive ? rand(test.Shape, ScalarType.Float64, generator: generator) + 0.5 : randn(test.Shape, ScalarType.Float64, generator: generator);
        var direction = randn(test.Shape, ScalarType.Float64, generator: generator);
        Tensor?[] others = [.. test.Others.Select(other => other switch
        {
            long[] values => tensor(values),
            int[] shape => randn([.. shape.Select(extent => (long)extent)], ScalarType.Float64, generator: generator).abs(),
            _ => null,
        })];
        var proto = new NodeProto { OpType = name.Split(' ')[0], Name = name, Attribute = { test.Attributes } };
        proto.Input.Add(test.BehindCondition ? ["condition", "x"] : ["x"]);
        var constants = new Dictionary<string, Tensor>();
        for (var i = 0; i < others.Length; i++)
        {
            proto.Input.Add(others[i] is null ? string.Empty : $"input{i}");
            if (others[i] is { } constant)
            {
                constants[$"input{i}"] = constant;
            }
        }

        proto.Output.Add([.. Enumerable.Range(0, test.Outputs).Select(i => $"y{i}")]);
        var problems = new List<string>();
        var kernel = OperatorRegistry.Compile(new Node(proto, test.Opset, constants, problems))!;
        Assert.Empty(problems);
        var where = x.clone().requires_grad_(true);
        var outputs = kernel(Inputs(where));
        Tensor[] weights = [.. outputs.Select(y => randn(y.shape, ScalarType.Float64, generator: generator))];

        Loss(outputs).backward();

        using var off = no_grad();
        var slope = (Loss(kernel(Inputs(x + (Step * direction)))) - Loss(kernel(Inputs(x - (Step * direction))))).item<double>() / (2 * Step);
        var gradient = (where.grad! * direction).sum().item<double>();
        Assert.NotEqual(0, gradient);
        Assert.True(Math.Abs(gradient - slope) <= 1e-5 * (1 + Math.Abs(slope)), $"{name}: the gradient says {gradient}, the outputs {slope}");

        Tensor?[] Inputs(Tensor own) => test.BehindCondition ? [direction.gt(0), own, .. others] : [own, .. others];

        Tensor Loss(Tensor[] outputs) => outputs.Zip(weights, (y, weight) => (y * weight).sum()).Aggregate((a, b) => a + b);
    }

    private static Dictionary<string, Case> AllCases()
    {
        var cases = new Dictionary<string, Case>(StringComparer.Ordinal)
        {
            ["Conv"] = new() { Others = [new[] { 4, 3, 3, 3 }, new[] { 4 }], Attributes = [Ints("pads", 1, 1, 1, 1), Ints("strides", 2, 2)] },
            ["Conv asymmetric"] = new() { Others = [new[] { 4, 3, 3, 3 }], Attributes = [Ints("pads", 0, 0, 1, 1)] },
            ["Conv grouped"] = new() { Others = [new[] { 3, 1, 3, 3 }], Attributes = [Int("group", 3), Ints("dilations", 2, 2)] },
            ["ConvTranspose"] = new()
            {
                Others = [new[] { 3, 4, 3, 3 }, new[] { 4 }],
                Attributes = [Ints("pads", 1, 1, 1, 1), Ints("strides", 2, 2), Ints("output_padding", 1, 1)],
            },
            ["ConvTranspose grown"] = new() { Others = [new[] { 3, 4, 2, 2 }, new[] { 4 }], Attributes = [Ints("strides", 2, 2), Ints("output_padding", 1, 1)] },
            ["Gemm"] = new() { Shape = [4, 5], Others = [new[] { 6, 5 }, new[] { 6 }], Attributes = [Int("transB", 1), Float("alpha", 0.5f)] },
            ["Gemm scaled"] = new() { Shape = [4, 5], Others = [new[] { 5, 6 }], Attributes = [Float("alpha", 0.5f)] },
            ["MatMul"] = new() { Shape = [2, 4, 5], Others = [new[] { 5, 6 }] },
            ["BatchNormalization"] = new() { Others = [new[] { 3 }, new[] { 3 }, new[] { 3 }, new[] { 3 }] },
            ["InstanceNormalization"] = new() { Others = [new[] { 3 }, new[] { 3 }] },
            ["LayerNormalization"] = new() { Others = [new[] { 6 }, new[] { 6 }] },
            ["GroupNormalization"] = new() { Opset = 21, Shape = [2, 4, 5, 5], Others = [new[] { 4 }, new[] { 4 }], Attributes = [Int("num_groups", 2)] },
            ["LpNormalization"] = new(),
            ["LRN"] = new() { Attributes = [Int("size", 3)] },
            ["PRelu"] = new() { Others = [new[] { 3, 1, 1 }] },
            ["Clip"] = new() { Opset = 6, Attributes = [Float("min", -0.5f), Float("max", 0.5f)] },
            ["Gelu"] = new() { Opset = 20 },
            ["Gelu tanh"] = new() { Opset = 20, Attributes = [Text("approximate", "tanh")] },
            ["Softmax"] = new(),
            ["Softmax early"] = new() { Opset = 11 },
            ["Pow"] = new() { Positive = true, Others = [new[] { 1 }] },
            ["Max"] = new() { Others = [new[] { 2, 3, 6, 6 }] },
            ["Min"] = new() { Others = [new[] { 2, 3, 6, 6 }] },
            ["Sum"] = new() { Others = [new[] { 3, 6, 6 }] },
            ["Mean"] = new() { Others = [new[] { 3, 6, 6 }] },
            ["Where"] = new() { BehindCondition = true, Others = [new[] { 2, 3, 6, 6 }] },
            ["MaxPool"] = new() { Attributes = [Ints("kernel_shape", 3, 3), Ints("strides", 2, 2), Ints("pads", 1, 1, 1, 1)] },
            ["AveragePool"] = new() { Attributes = [Ints("kernel_shape", 3, 3), Ints("strides", 2, 2), Ints("pads", 1, 1, 1, 1)] },
            ["AveragePool unpadded"] = new() { Attributes = [Ints("kernel_shape", 2, 2), Ints("strides", 2, 2), Int("count_include_pad", 1)] },
            ["GlobalAveragePool"] = new(),
            ["GlobalMaxPool"] = new(),
            ["Flatten"] = new(),
            ["Reshape"] = new() { Others = [new long[] { 2, -1 }] },
            ["Squeeze"] = new() { Shape = [2, 3, 1], Others = [new long[] { 2 }] },
            ["Unsqueeze"] = new() { Others = [new long[] { 1 }] },
            ["Transpose"] = new() { Attributes = [Ints("perm", 0, 2, 3, 1)] },
            ["Concat"] = new() { Others = [new[] { 2, 2, 6, 6 }], Attributes = [Int("axis", 1)] },
            ["Split"] = new() { Outputs = 2, Others = [new long[] { 2, 1 }], Attributes = [Int("axis", 1)] },
            ["Slice"] = new() { Others = [new long[] { 4, 0 }, new long[] { 0, 2 }, new long[] { 2, 1 }, new long[] { -2, 1 }] },
            ["Gather"] = new() { Others = [new long[] { 2, 0 }], Attributes = [Int("axis", 1)] },
            ["Expand"] = new() { Shape = [3, 1], Others = [new long[] { 2, 3, 4 }] },
            ["Tile"] = new() { Shape = [3, 2], Others = [new long[] { 2, 3 }] },
            ["Pad"] = new() { Others = [new long[] { 0, 0, 1, 1, 0, 0, 1, 2 }] },
            ["Pad reflect"] = new() { Others = [new long[] { 0, 0, 1, 1, 0, 0, 1, 2 }], Attributes = [Text("mode", "reflect")] },
            ["DepthToSpace"] = new() { Shape = [2, 8, 3, 3], Attributes = [Int("blocksize", 2)] },
            ["SpaceToDepth"] = new() { Attributes = [Int("blocksize", 2)] },
            ["Resize"] = new() { Others = [null, null, new long[] { 2, 3, 9, 12 }], Attributes = [Text("mode", "linear")] },
            ["Upsample"] = new() { Opset = 7, Attributes = [Floats("scales", 1, 1, 2, 2)] },
        };
        foreach (var type in new[] { "Add", "Sub", "Mul", "Div" })
        {
            cases[type] = new Case { Others = [new[] { 3, 1, 1 }] };
        }

        foreach (var type in new[] { "ReduceMean", "ReduceMax", "ReduceL2", "ReduceSum" })
        {
            cases[type] = new Case { Opset = 11, Attributes = [Ints("axes", 2, 3)] };
        }

        foreach (var type in new[] { "Sqrt", "Log", "Reciprocal" })
        {
            cases[type] = new Case { Positive = true };
        }

        foreach (var type in new[]
        {
            "Relu", "LeakyRelu", "Elu", "Selu", "Celu", "Sigmoid", "HardSigmoid", "HardSwish", "Tanh", "Erf", "Softplus", "Softsign", "Mish", "LogSoftmax", "Abs", "Neg", "Exp",
            "Identity", "Dropout",
        })
        {
            cases[type] = new Case();
        }

        return cases;
    }

    private static AttributeProto Int(string name, long value) => new() { Name = name, Type = AttributeProto.Types.AttributeType.Int, I = value };

    private static AttributeProto Ints(string name, params long[] values) => new() { Name = name, Type = AttributeProto.Types.AttributeType.Ints, Ints = { values } };

    private static AttributeProto Float(string name, float value) => new() { Name = name, Type = AttributeProto.Types.AttributeType.Float, F = value };

    private static AttributeProto Floats(string name, params float[] values) => new() { Name = name, Type = AttributeProto.Types.AttributeType.Floats, Floats = { values } };

    private static AttributeProto Text(string name, string value) =>
        new() { Name = name, Type = AttributeProto.Types.AttributeType.String, S = Google.Protobuf.ByteString.CopyFromUtf8(value) };

    private sealed class Case
    {
        public long Opset { get; init; } = 17;

        public long[] Shape { get; init; } = [2, 3, 6, 6];

        public bool Positive { get; init; }

        public int Outputs { get; init; } = 1;

        // Shapes of random tensors (int[]), values (long[]), or null for one left out.
        public object?[] Others { get; init; } = [];

        public AttributeProto[] Attributes { get; init; } = [];

        // Whether a condition comes before x.
        public bool BehindCondition { get; init; }
    }
}

using System.Runtime.InteropServices;
using Google.Protobuf;
using TtaService.Engine.Onnx.Wire;

namespace TtaService.Benchmarks;

/// <summary>Writes ResNet-18 and ResNet-50 (He et al., CVPR 2016; torchvision's layout) with random weights as ONNX files, so that no download is needed.</summary>
internal sealed class ResNetModels
{
    private readonly GraphProto _graph = new() { Name = "resnet" };
    private readonly Random _random = new(0);
    private int _values;
    private bool _isFolded;

    /// <summary>The models that there are.</summary>
    public static IReadOnlyList<string> Names { get; } = ["resnet18", "resnet50"];

    /// <summary>The file of one of <see cref="Names"/>; written when it is not there yet.</summary>
    /// <param name="name">The network.</param>
    /// <param name="classes">How many it answers.</param>
    /// <param name="isFolded">Without BatchNormalization nodes: folded into the convolutions, as exporters do by default.</param>
    public static string Path(string name, int classes = 1000, bool isFolded = false)
    {
        if (!Names.Contains(name))
        {
            throw new ArgumentException($"there is no model '{name}'; there is {string.Join(", ", Names)}", nameof(name));
        }

        var folder = Directory.CreateDirectory(System.IO.Path.Combine(System.IO.Path.GetTempPath(), "tta-benchmarks"));
        var path = System.IO.Path.Combine(folder.FullName, $"{name}{(classes == 1000 ? string.Empty : $"-{classes}")}{(isFolded ? "-folded" : string.Empty)}.onnx");
        if (!File.Exists(path))
        {
            var model = new ResNetModels { _isFolded = isFolded }.Build(name == "resnet50" ? [3, 4, 6, 3] : [2, 2, 2, 2], bottleneck: name == "resnet50", classes);
            File.WriteAllBytes(path + ".new", model.ToByteArray());
            File.Move(path + ".new", path, overwrite: true);
        }

        return path;
    }

    private ModelProto Build(int[] blocks, bool bottleneck, int classes)
    {
        _graph.Input.Add(Value("image", -1, 3, -1, -1));
        var x = Relu(Normalized("image", 3, 64, 7, 2, "", "conv1", "bn1"));
        x = Node("MaxPool", [x], Ints("kernel_shape", 3, 3), Ints("strides", 2, 2), Ints("pads", 1, 1, 1, 1));
        var channels = 64;
        for (var stage = 0; stage < 4; stage++)
        {
            var width = 64 << stage;
            var wide = bottleneck ? 4 * width : width;
            for (var block = 0; block < blocks[stage]; block++)
            {
                var stride = block == 0 && stage > 0 ? 2 : 1;
                var name = $"layer{stage + 1}.{block}.";
                var shortcut = stride == 1 && channels == wide ? x : Normalized(x, channels, wide, 1, stride, name, "downsample.0", "downsample.1");
                string y;
                if (bottleneck)
                {
                    y = Relu(Normalized(x, channels, width, 1, 1, name, "conv1", "bn1"));
                    y = Relu(Normalized(y, width, width, 3, stride, name, "conv2", "bn2"));
                    y = Normalized(y, width, wide, 1, 1, name, "conv3", "bn3");
                }
                else
                {
                    y = Relu(Normalized(x, channels, width, 3, stride, name, "conv1", "bn1"));
                    y = Normalized(y, width, wide, 3, 1, name, "conv2", "bn2");
                }

                x = Relu(Node("Add", [y, shortcut]));
                channels = wide;
            }
        }

        x = Node("Flatten", [Node("GlobalAveragePool", [x])], Int("axis", 1));
        var logits = new NodeProto
        {
            OpType = "Gemm",
            Name = "fc",
            Input = { x, Weights("fc.weight", [classes, channels], Math.Sqrt(1.0 / channels)),
            Constant("fc.bias", classes, _ => 0) },
            Output = { "logits" },
            Attribute = { Int("transB", 1) }
        };
        _graph.Node.Add(logits);
        _graph.Output.Add(Value("logits", -1, classes));
        return new ModelProto { IrVersion = 8, Graph = _graph, OpsetImport = { new OperatorSetIdProto { Domain = "", Version = 17 } } };
    }

    private string Normalized(string input, int from, int to, int kernel, int stride, string block, string conv, string norm)
    {
        var pad = kernel / 2;
        var weight = Normal([to, from, kernel, kernel], Math.Sqrt(2.0 / (from * kernel * kernel)));
        var (gamma, beta) = (Uniform(to, u => 0.5 + (0.5 * u)), Uniform(to, u => 0.2 * (u - 0.5)));
        var (mean, variance) = (Uniform(to, u => 0.4 * (u - 0.5)), Uniform(to, u => 0.5 + u));
        string Convolution(params string[] bias) =>
            Node("Conv", [input, Initializer($"{block}{conv}.weight", [to, from, kernel, kernel], weight), .. bias],
                Ints("kernel_shape", kernel, kernel), Ints("strides", stride, stride), Ints("pads", pad, pad, pad, pad));
        string Parameter(string suffix, float[] values) => Initializer($"{block}{norm}.{suffix}", [to], values);
        if (_isFolded)
        {
            var scale = gamma.Zip(variance, (g, v) => g / MathF.Sqrt(v + 1e-5f)).ToArray();
            for (var i = 0; i < weight.Length; i++)
            {
                weight[i] *= scale[i / (from * kernel * kernel)];
            }

            return Convolution(Initializer($"{block}{conv}.bias", [to], [.. beta.Select((shift, c) => shift - (mean[c] * scale[c]))]));
        }

        return Node(
            "BatchNormalization",
            [Convolution(), Parameter("weight", gamma), Parameter("bias", beta), Parameter("running_mean", mean), Parameter("running_var", variance)],
            new AttributeProto { Name = "epsilon", F = 1e-5f, Type = AttributeProto.Types.AttributeType.Float });
    }

    private string Relu(string input) => Node("Relu", [input]);

    private string Node(string op, string[] inputs, params AttributeProto[] attributes)
    {
        var output = $"v{_values++}";
        _graph.Node.Add(new NodeProto { OpType = op, Name = $"{op}_{_values}", Input = { inputs }, Output = { output }, Attribute = { attributes } });
        return output;
    }

    private string Weights(string name, long[] shape, double deviation) => Initializer(name, shape, Normal(shape, deviation));

    private float[] Normal(long[] shape, double deviation)
    {
        var values = new float[shape.Aggregate(1L, (product, extent) => product * extent)];
        for (var i = 0; i < values.Length; i++)
        {
            // Box-Muller
            values[i] = (float)(deviation * Math.Sqrt(-2 * Math.Log(1 - _random.NextDouble())) * Math.Cos(2 * Math.PI * _random.NextDouble()));
        }

        return values;
    }

    private float[] Uniform(int length, Func<double, double> value) => [.. Enumerable.Range(0, length).Select(_ => (float)value(_random.NextDouble()))];

    private string Constant(string name, int length, Func<double, double> value) => Initializer(name, [length], Uniform(length, value));

    private string Initializer(string name, long[] shape, float[] values)
    {
        _graph.Initializer.Add(new TensorProto
        {
            Name = name,
            DataType = (int)TensorProto.Types.DataType.Float,
            Dims = { shape },
            RawData = ByteString.CopyFrom(MemoryMarshal.AsBytes<float>(values))
        });
        return name;
    }

    private static AttributeProto Int(string name, long value) => new() { Name = name, I = value, Type = AttributeProto.Types.AttributeType.Int };

    private static AttributeProto Ints(string name, params long[] values) => new() { Name = name, Ints = { values }, Type = AttributeProto.Types.AttributeType.Ints };

    private static ValueInfoProto Value(string name, params long[] shape)
    {
        var type = new TypeProto.Types.Tensor { ElemType = (int)TensorProto.Types.DataType.Float, Shape = new TensorShapeProto() };
        for (var axis = 0; axis < shape.Length; axis++)
        {
            type.Shape.Dim.Add(
                shape[axis] < 0 ? new TensorShapeProto.Types.Dimension { DimParam = $"axis{axis}" } : new TensorShapeProto.Types.Dimension { DimValue = shape[axis] });
        }

        return new ValueInfoProto { Name = name, Type = new TypeProto { TensorType = type } };
    }
}

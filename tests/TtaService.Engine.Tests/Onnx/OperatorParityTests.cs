using Google.Protobuf;
using Microsoft.ML.OnnxRuntime;
using Microsoft.ML.OnnxRuntime.Tensors;
using TtaService.Engine.Onnx;
using TtaService.Engine.Onnx.Wire;
using static TorchSharp.torch;
using DataType = TtaService.Engine.Onnx.Wire.TensorProto.Types.DataType;

namespace TtaService.Engine.Tests.Onnx;

/// <summary>Small graphs of one operator or form each, against ONNX Runtime: quantized layers, control flow, functions, recurrent networks, boxes, sampling and indexing.</summary>
public sealed class OperatorParityTests : IDisposable
{
    private static readonly Dictionary<string, Func<ModelProto>> Cases = AllCases();

    private readonly string _folder = Directory.CreateTempSubdirectory("tta-operators-").FullName;

    public static TheoryData<string> Names() => [.. Cases.Keys];

    [Theory]
    [MemberData(nameof(Names))]
    public void Operator_RandomInput_AgreesWithOnnxRuntime(string name)
    {
        var model = Cases[name]();
        var path = OnnxFiles.Write(_folder, model);
        var x = Random(7, 2 * 3 * 8 * 8);
        using var session = new InferenceSession(path);
        using var results = session.Run([NamedOnnxValue.CreateFromTensor("x", new DenseTensor<float>(x, [2, 3, 8, 8]))]);
        using var scope = NewDisposeScope();
        using var mode = inference_mode();
        using var graph = ModelGraph.Load(path, CPU);

        var actual = graph.Run([tensor(x, [2, 3, 8, 8])], sites: null);

        Assert.Equal(results.Count, actual.Length);
        // An output that is named for its quantization may be one step off where rounding meets a tie.
        foreach (var (result, y) in results.Zip(actual))
        {
            var (shape, expected) = Values(result);
            Assert.Equal(shape, y.shape.Select(extent => (int)extent));
            var values = y.to_type(ScalarType.Float64).contiguous().data<double>().ToArray();
            var scale = expected.Select(Math.Abs).DefaultIfEmpty().Max();
            var step = result.Name.StartsWith("step", StringComparison.Ordinal) ? double.Parse(result.Name.AsSpan(5), System.Globalization.CultureInfo.InvariantCulture) : 0;
            for (var i = 0; i < values.Length; i++)
            {
                var difference = Math.Abs(values[i] - expected[i]);
                Assert.True(difference <= (1e-4 * scale) + 1e-6 + (1.001 * step), $"{result.Name} has {values[i]} at {i}, expected {expected[i]}");
            }

            if (step > 0)
            {
                Assert.True(
                    values.Zip(expected).Count(pair => Math.Abs(pair.First - pair.Second) > step / 2) <= values.Length / 100,
                    $"{result.Name} differs in more than one of a hundred values");
            }
        }
    }

    [Fact]
    public void Load_BatchNormalizationBehindDequantization_IsASite()
    {
        var model = Model(
            N("QuantizeLinear", ["x", "s", "z"], ["q"]),
            N("DequantizeLinear", ["q", "s", "z"], ["d"]),
            N("BatchNormalization", ["d", "c", "c", "c", "c"], ["y"]));
        model.Graph.Initializer.Add([F("s", [], 0.05f), I("z", [], DataType.Int8, 3), F("c", [3], 1, 2, 3)]);

        using var graph = ModelGraph.Load(OnnxFiles.Write(_folder, model), CPU);

        Assert.Single(graph.Sites);
    }

    [Fact]
    public void Load_BatchNormalizationInAFunctionAndABranch_IsASite()
    {
        var model = Model(
            N("Block", ["x", "c"], ["a"], "own"),
            N(
                "If",
                ["yes"],
                ["y"],
                "",
                G("then_branch", [], ["b"], N("BatchNormalization", ["a", "c", "c", "c", "c"], ["b"])),
                G("else_branch", [], ["e"], N("Identity", ["a"], ["e"]))));
        model.Functions.Add(new FunctionProto
        {
            Name = "Block",
            Domain = "own",
            Input = { "in", "p" },
            Output = { "out" },
            Node = { N("BatchNormalization", ["in", "p", "p", "p", "p"], ["out"]) }
        });
        model.Graph.Initializer.Add([F("c", [3], 1, 2, 3), I("yes", [], DataType.Bool, 1)]);

        using var graph = ModelGraph.Load(OnnxFiles.Write(_folder, model), CPU);

        Assert.Equal(2, graph.Sites.Count);
    }

    [Fact]
    public void Load_FunctionThatCallsItself_IsRefused()
    {
        var model = Model(N("Self", ["x"], ["y"], "own"));
        model.Functions.Add(new FunctionProto
        {
            Name = "Self",
            Domain = "own",
            Input = { "in" },
            Output = { "out" },
            Node = { N("Self", ["in"], ["a"], "own"), N("Self", ["a"], ["out"], "own") }
        });

        Assert.Contains("'Self'", Assert.Throws<ModelLoadException>(() => ModelGraph.Load(OnnxFiles.Write(_folder, model), CPU)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Load_FunctionsThatDoubleEachOther_AreRefused()
    {
        var model = Model(N("F0", ["x"], ["y"], "own"));
        for (var i = 0; i < 40; i++)
        {
            var next = i < 39 ? N($"F{i + 1}", ["in"], ["a"], "own") : N("Relu", ["in"], ["a"]);
            var last = i < 39 ? N($"F{i + 1}", ["a"], ["out"], "own") : N("Relu", ["a"], ["out"]);
            model.Functions.Add(new FunctionProto { Name = $"F{i}", Domain = "own", Input = { "in" }, Output = { "out" }, Node = { next, last } });
        }

        Assert.Contains(
            "nodes, which is the limit",
            Assert.Throws<ModelLoadException>(() => ModelGraph.Load(OnnxFiles.Write(_folder, model), CPU)).Message,
            StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void Run_ThatWouldNotEndOrTakeAllMemory_IsRefused(bool loops)
    {
        var model = loops
            ? Model(N("Loop", ["", "yes", "x"], ["y"], "", G("body", ["i", "go", "v"], ["go2", "v2"], N("Identity", ["go"], ["go2"]), N("Identity", ["v"], ["v2"]))))
            : Model(N("OneHot", ["x", "depth", "values"], ["y"]));
        model.Graph.Initializer.Add([I("yes", [], DataType.Bool, 1), I("depth", [1], DataType.Int64, int.MaxValue), F("values", [2], 0, 1)]);
        using var graph = ModelGraph.Load(OnnxFiles.Write(_folder, model), CPU);
        using var scope = NewDisposeScope();

        Assert.Throws<PassException>(() => graph.Run([zeros(2, 3, 8, 8)], sites: null));
    }

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    private static Dictionary<string, Func<ModelProto>> AllCases()
    {
        var cases = new Dictionary<string, Func<ModelProto>>(StringComparer.Ordinal);
        Quantized(cases);
        Nested(cases);
        Networks(cases);
        Indices(cases);
        return cases;
    }

    private static void Quantized(Dictionary<string, Func<ModelProto>> cases)
    {
        TensorProto[] constants =
        [
            F("s", [], 0.0175f), I("z", [], DataType.Uint8, 121), F("s2", [], 0.04f), I("z2", [], DataType.Uint8, 130), I("z8", [], DataType.Int8, -3),
            F("ws", [4], 0.01f, 0.02f, 0.015f, 0.005f), I("wz", [4], DataType.Int8, 0, 0, 0, 0),
                Bytes("w", [4, 3, 3, 3], DataType.Int8), I("b", [4], DataType.Int32, 100, -2000, 50, 900),
            Bytes("m", [8, 5], DataType.Int8), F("ms", [], 0.01f), I("mz", [], DataType.Int8, 2),
                F("c4", [4], 0.5f, 1, 0.25f, 2), Bytes("wu", [4, 3, 3, 3], DataType.Uint8), I("wuz", [], DataType.Uint8, 128),
        ];
        void Add(string name, params NodeProto[] nodes) => cases[name] = () =>
        {
            var model = Model(nodes);
            var read = nodes.SelectMany(node => node.Input).ToHashSet();
            model.Graph.Initializer.Add(constants.Where(constant => read.Contains(constant.Name)));
            return model;
        };
        var quantize = N("QuantizeLinear", ["x", "s", "z"], ["q"]);
        Add("QuantizeLinear uint8", N("QuantizeLinear", ["x", "s", "z"], ["y"]));
        Add("QuantizeLinear int8, saturating", N("QuantizeLinear", ["x", "ms", "z8"], ["y"]));
        Add("DequantizeLinear", quantize, N("DequantizeLinear", ["q", "s2", "z2"], ["y"]));
        Add("QDQ convolution", quantize, N("DequantizeLinear", ["q", "s", "z"], ["d"]), N(
            "DequantizeLinear",
            ["w", "ws", "wz"],
            ["v"],
            "",
            A("axis", 0)), N("Conv", ["d", "v"], ["c"], "", A("pads", [1, 1, 1, 1])),
            N("Relu", ["c"], ["r"]), N("QuantizeLinear", ["r", "s2", "z2"], ["p"]), N("DequantizeLinear", ["p", "s2", "z2"], ["step_0.04"]));
        Add(
            "QLinearConv per channel",
            quantize,
            N("QLinearConv", ["q", "s", "z", "w", "ws", "wz", "s2", "z2", "b"], ["p"], "", A("pads", [1, 0, 1, 1]), A("strides", [2, 1])),
            N("DequantizeLinear", ["p", "s2", "z2"], ["step_0.04"]));
        Add("QLinearMatMul", quantize, N("QLinearMatMul", ["q", "s", "z", "m", "ms", "mz", "s2", "z2"], ["step_1"]));
        Add(
            "MatMulInteger of DynamicQuantizeLinear",
            N("DynamicQuantizeLinear", ["x"], ["q", "qs", "qz"]),
            N("MatMulInteger", ["q", "m", "qz", "mz"], ["i"]),
            N("Cast", ["i"], ["f"], "", A("to", 1)),
            N("Mul", ["f", "qs"], ["y"]));
        Add("ConvInteger", quantize, N("ConvInteger", ["q", "wu", "z", "wuz"], ["y"], "", A("pads", [1, 1, 1, 1])));
        Add("QLinearAdd and QLinearConcat", quantize, N("QuantizeLinear", ["x", "s2", "z2"], ["r"]), N(
            "QLinearAdd",
            ["q", "s", "z", "r", "s2", "z2", "s2", "z2"],
            ["t"],
            "com.microsoft"),
            N("QLinearConcat", ["s2", "z2", "t", "s2", "z2", "q", "s", "z"], ["step_1"], "com.microsoft", A("axis", 1)));
        Add("QLinear activations and pooling", quantize, N(
            "QLinearLeakyRelu",
            ["q", "s", "z", "s2", "z2"],
            ["l"],
            "com.microsoft",
            A("alpha", 0.1f)), N("QLinearSigmoid", ["l", "s2", "z2", "s", "z"], ["g"], "com.microsoft"),
            N("QLinearGlobalAveragePool", ["g", "s", "z", "s2", "z2"], ["step_1"], "com.microsoft"));
        Add(
            "MaxPool of quantized values",
            quantize,
            N("MaxPool", ["q"], ["p"], "", A("kernel_shape", [2, 2]), A("strides", [2, 2])),
            N("DequantizeLinear", ["p", "s", "z"], ["y"]));
        Add(
            "FusedConv",
            N("DequantizeLinear", ["w", "ws", "wz"], ["v"], "", A("axis", 0)),
            N("FusedConv", ["x", "v", "c4"], ["y"], "com.microsoft", T("activation", "Relu"), A("pads", [1, 1, 1, 1])));
    }

    private static void Nested(Dictionary<string, Func<ModelProto>> cases)
    {
        var zero = F("zero", [], 0);
        cases["If of a computed condition"] = () =>
            With(Model(N("ReduceSum", ["x"], ["sum"], "", A("keepdims", 0)), N("Greater", ["sum", "zero"], ["up"]), N("If", ["up"], ["y"], "",
            G("then_branch", [], ["a"], N("Mul", ["x", "two"], ["a"])), G(
                "else_branch",
                [],
                ["b"],
                N("Constant", [], ["k"], "", A("value_float", 3f)),
                N("Add", ["x", "k"], ["b"])))), zero, F("two", [], 2));
        cases["If of a constant condition, nested"] = () => With(Model(N("If", ["no"], ["y"], "",
            G("then_branch", [], ["a"], N("Relu", ["x"], ["a"])), G(
                "else_branch",
                [],
                ["b"],
                N("If", ["yes"], ["b"], "", G("then_branch", [], ["c"], N("Neg", ["x"], ["c"])), G("else_branch", [], ["d"], N("Abs", ["x"], ["d"])))))),
            I("no", [], DataType.Bool, 0), I("yes", [], DataType.Bool, 1));
        cases["Loop with carried and collected values"] = () => With(Model(N("Loop", ["turns", "", "x"], ["y", "all"], "",
            G(
                "body",
                ["i", "go", "v"],
                ["go2", "v2", "part"],
                N("Identity", ["go"], ["go2"]),
                N("Cast", ["i"], ["f"], "", A("to", 1)),
                N("Add", ["v", "f"], ["v2"]),
                N("Mul", ["v2", "half"], ["part"])))), I("turns", [], DataType.Int64, 3), F("half", [], 0.5f));
        cases["Scan backwards over columns"] = () =>
            With(Model(N("Scan", ["start", "x"], ["last", "y"], "", A("num_scan_inputs", 1), A("scan_input_axes", [3]), A("scan_input_directions", [1]), A("scan_output_axes", [1]),
            G("body", ["sum", "column"], ["sum2", "out"], N("Add", ["sum", "column"], ["sum2"]), N("Identity", ["sum2"], ["out"])))), F("start", [2, 3, 8], new float[48]));
        cases["Function with attributes and an inner function"] = () =>
        {
            var model = Model(N("Outer", ["x"], ["y"], "own", A("slope", 0.2f)));
            var leaky = N("LeakyRelu", ["in"], ["a"]);
            leaky.Attribute.Add(new AttributeProto { Name = "alpha", RefAttrName = "slope", Type = AttributeProto.Types.AttributeType.Float });
            model.Functions.Add(Function("Outer", ["slope"], leaky, N("Inner", ["a"], ["b"], "own"), N("Inner", ["b"], ["out"], "own")));
            model.Functions.Add(Function("Inner", [], N("Constant", [], ["k"], "", A("value_float", 1.5f)), N("Mul", ["in", "k"], ["out"])));
            return model;
        };
    }

    private static void Networks(Dictionary<string, Func<ModelProto>> cases)
    {
        foreach (var direction in new[] { "forward", "reverse", "bidirectional" })
        {
            var d = direction == "bidirectional" ? 2 : 1;
            NodeProto steps = N("Reshape", ["x", "tbi"], ["t"]);
            cases[$"LSTM {direction}"] = () => With(Model(
                steps,
                N("LSTM", ["t", "w", "r", "b", "lengths", "", "", "p"], ["y", "h", "c"], "", A("hidden_size", 5), T("direction", direction))),
                I("tbi", [3], DataType.Int64, 8, 6, 8), R("w", [d, 20, 8]), R("r", [d, 20, 5]),
                    R("b", [d, 40]), I("lengths", [6], DataType.Int32, 8, 3, 1, 8, 5, 7), R("p", [d, 15]));
            foreach (var after in new[] { 0, 1 })
            {
                cases[$"GRU {direction}, reset {(after == 0 ? "first" : "last")}"] = () => With(Model(
                    steps,
                    N("GRU", ["t", "w", "r", "b", "lengths", "h0"], ["y", "h"], "", A("hidden_size", 5), A("linear_before_reset", after), T("direction", direction))),
                    I("tbi", [3], DataType.Int64, 8, 6, 8), R("w", [d, 15, 8]), R("r", [d, 15, 5]),
                        R("b", [d, 30]), I("lengths", [6], DataType.Int32, 8, 3, 1, 8, 5, 7), R("h0", [d, 6, 5]));
            }
        }

        foreach (var mode in new[] { "bilinear", "nearest", "bicubic" })
        {
            foreach (var padding in new[] { "zeros", "border", "reflection" })
            {
                foreach (var corners in new[] { 0, 1 })
                {
                    cases[$"GridSample {mode}, {padding}, align_corners {corners}"] = () =>
                        With(
                            Model(N("GridSample", ["x", "grid"], ["y"], "", A("align_corners", corners), T("mode", mode), T("padding_mode", padding))),
                            R("grid", [2, 5, 7, 2], 1.6f));
                }
            }
        }

        foreach (var shift in new[] { "half_pixel", "output_half_pixel" })
        {
            foreach (var ratio in new[] { 0, 2 })
            {
                cases[$"RoiAlign {shift}, sampling_ratio {ratio}"] = () => With(Model(N(
                    "RoiAlign",
                    ["x", "rois", "frames"],
                    ["y"],
                    "",
                    T("coordinate_transformation_mode", shift),
                    A("sampling_ratio", ratio),
                    A("output_height", 3),
                    A("output_width", 4),
                    A("spatial_scale", 0.5f))),
                    F("rois", [3, 4], 0, 0, 9, 14, 3.3f, 2.1f, 15.7f, 8, 1, 5, 30, 40), I("frames", [3], DataType.Int64, 0, 1, 1));
            }
        }

        cases["NonMaxSuppression"] = () => With(Model(
            N("Reshape", ["x", "boxes"], ["r"]),
            N("Sigmoid", ["r"], ["b"]),
            N("NonMaxSuppression", ["b", "scores", "most", "overlap", "least"], ["y"])),
            I("boxes", [3], DataType.Int64, 2, 48, 4), R("scores", [2, 3, 48]), I("most", [1], DataType.Int64, 6), F("overlap", [1], 0.3f), F("least", [1], 0.1f));
        cases["MeanVarianceNormalization"] = () => Model(N("MeanVarianceNormalization", ["x"], ["y"], "", A("axes", [2, 3])));
        cases["MaxPool with indices, MaxUnpool"] = () => Model(
            N("MaxPool", ["x"], ["p", "i"], "", A("kernel_shape", [2, 2]), A("strides", [2, 2])),
            N("MaxUnpool", ["p", "i"], ["y"], "", A("kernel_shape", [2, 2]), A("strides", [2, 2])));
        cases["MaxPool with indices by columns and pads"] = () => Model(N(
            "MaxPool",
            ["x"],
            ["p", "i"],
            "",
            A("kernel_shape", [3, 2]),
            A("strides", [2, 1]),
            A("pads", [1, 1, 1, 0]),
            A("storage_order", 1)));
        cases["Resize tf_crop_and_resize"] = () => With(Model(N(
            "Resize",
            ["x", "roi", "", "sizes"],
            ["y"],
            "",
            T("mode", "linear"),
            T("coordinate_transformation_mode", "tf_crop_and_resize"),
            A("extrapolation_value", 9f))),
            F("roi", [8], 0, 0, 0.2f, -0.3f, 1, 1, 0.9f, 1.2f), I("sizes", [4], DataType.Int64, 2, 3, 5, 9));
    }

    private static void Indices(Dictionary<string, Func<ModelProto>> cases)
    {
        cases["OneHot"] = () => With(
            Model(N("Cast", ["x"], ["i"], "", A("to", 7)), N("OneHot", ["i", "depth", "values"], ["y"], "", A("axis", 1))),
            I("depth", [], DataType.Int64, 3),
            F("values", [2], -1, 4));
        cases["Compress"] = () => With(
            Model(N("Compress", ["x", "taken"], ["y"], "", A("axis", 3)), N("Compress", ["x", "taken"], ["f"])),
            I("taken", [5], DataType.Bool, 0, 1, 1, 0, 1));
        cases["EyeLike"] = () => With(
            Model(N("Reshape", ["x", "shape"], ["r"]), N("EyeLike", ["r"], ["y"], "", A("k", -3)), N("EyeLike", ["r"], ["i"], "", A("k", 5), A("dtype", 7))),
            I("shape", [2], DataType.Int64, 16, 24));
        cases["ReverseSequence"] = () => With(
            Model(N("Reshape", ["x", "shape"], ["r"]), N("ReverseSequence", ["r", "n"], ["y"], "", A("batch_axis", 0), A("time_axis", 1))),
            I("shape", [3], DataType.Int64, 3, 8, 16),
            I("n", [3], DataType.Int64, 1, 5, 8));
        cases["Unique, sorted and not, of rows"] = () => With(Model(
            N("Round", ["x"], ["r"]),
            N("Unique", ["r"], ["a", "b", "c", "d"]),
            N("Unique", ["r"], ["e", "f", "g", "h"], "", A("sorted", 0)),
            N("Reshape", ["r", "shape"], ["rows"]),
            N("Unique", ["rows"], ["i", "j", "k", "l"], "", A("axis", 0))),
            I("shape", [2], DataType.Int64, 192, 2));
        cases["GatherND with batch_dims"] = () => With(
            Model(N("GatherND", ["x", "at"], ["y"], "", A("batch_dims", 1))),
            I("at", [2, 2, 2], DataType.Int64, 0, 1, 2, -1, 1, 7, -2, 0));
        foreach (var reduction in new[] { "none", "add", "mul", "min", "max" })
        {
            cases[$"ScatterND {reduction}"] = () => With(
                Model(N("ScatterND", ["x", "at", "u"], ["y"], "", T("reduction", reduction))),
                I("at", [3, 2], DataType.Int64, 0, 1, 1, 2, reduction == "none" ? 1 : 0, 1),
                R("u", [3, 8, 8]));
            cases[$"ScatterElements {reduction}"] = () => With(Model(N("ScatterElements", ["x", "at", "u"], ["y"], "", A("axis", 2), T("reduction", reduction))),
                I("at", [1, 2, 3, 1], DataType.Int64, 0, -1, reduction == "none" ? 3 : 0, 2, 5, reduction == "none" ? 7 : 5), R("u", [1, 2, 3, 1]));
        }
    }

    private static ModelProto Model(params NodeProto[] nodes)
    {
        var model = new ModelProto
        {
            IrVersion = 8,
            OpsetImport = { new OperatorSetIdProto { Domain = "", Version = 18 }, new OperatorSetIdProto { Domain = "com.microsoft",
            Version = 1 }, new OperatorSetIdProto { Domain = "own", Version = 1 } },
            Graph = new GraphProto { Name = "g", Node = { nodes } }
        };
        var type = new TypeProto.Types.Tensor { ElemType = (int)DataType.Float, Shape = new TensorShapeProto() };
        type.Shape.Dim.Add(new long[] { 2, 3, 8, 8 }.Select(extent => new TensorShapeProto.Types.Dimension { DimValue = extent }));
        model.Graph.Input.Add(new ValueInfoProto { Name = "x", Type = new TypeProto { TensorType = type } });
        var read = nodes.SelectMany(node => node.Input).ToHashSet();
        model.Graph.Output.Add(nodes.SelectMany(node => node.Output).Where(output => !read.Contains(output)).Select(output => new ValueInfoProto { Name = output }));
        return model;
    }

    private static ModelProto With(ModelProto model, params TensorProto[] constants)
    {
        model.Graph.Initializer.Add(constants);
        return model;
    }

    private static FunctionProto Function(string name, string[] attributes, params NodeProto[] nodes) => new()
    {
        Name = name,
        Domain = "own",
        Input = { "in" },
        Output = { "out" },
        Attribute = { attributes },
        Node = { nodes },
        OpsetImport = { new OperatorSetIdProto { Domain = "", Version = 18 }, new OperatorSetIdProto { Domain = "own", Version = 1 } },
    };

    private static NodeProto N(string op, string[] inputs, string[] outputs, string domain = "", params AttributeProto[] attributes) =>
        new() { OpType = op, Domain = domain, Name = $"{op}_{outputs[0]}", Input = { inputs }, Output = { outputs }, Attribute = { attributes } };

    private static AttributeProto A(string name, long value) => new() { Name = name, I = value, Type = AttributeProto.Types.AttributeType.Int };

    private static AttributeProto A(string name, float value) => new() { Name = name, F = value, Type = AttributeProto.Types.AttributeType.Float };

    private static AttributeProto A(string name, long[] values) => new() { Name = name, Ints = { values }, Type = AttributeProto.Types.AttributeType.Ints };

    private static AttributeProto T(string name, string value) => new() { Name = name, S = ByteString.CopyFromUtf8(value), Type = AttributeProto.Types.AttributeType.String };

    private static AttributeProto G(string name, string[] inputs, string[] outputs, params NodeProto[] nodes)
    {
        var graph = new GraphProto { Name = name, Node = { nodes } };
        // A loop's condition and counter have types that nothing else tells.
        graph.Input.Add(inputs.Select(input => new ValueInfoProto
        {
            Name = input,
            Type = new TypeProto
            {
                TensorType = new TypeProto.Types.Tensor
                {
                    ElemType = (int)(input switch { "go" => DataType.Bool, "i" => DataType.Int64, _ => DataType.Float }),
                    Shape = input is "go" or "i" ? new TensorShapeProto() : null
                }
            },
        }));
        graph.Output.Add(outputs.Select(output => new ValueInfoProto { Name = output }));
        return new AttributeProto { Name = name, G = graph, Type = AttributeProto.Types.AttributeType.Graph };
    }

    private static TensorProto F(string name, long[] shape, params float[] values) => OnnxFiles.Floats(name, shape, values);

    private static TensorProto R(string name, long[] shape, float scale = 1) =>
        F(name, shape, Random(name.Length + (int)shape.Sum(), (int)shape.Aggregate(1L, (a, b) => a * b), scale));

    private static TensorProto I(string name, long[] shape, DataType type, params long[] values)
    {
        var made = new TensorProto { Name = name, Dims = { shape }, DataType = (int)type };
        if (type == DataType.Int64)
        {
            made.Int64Data.Add(values);
        }
        else
        {
            made.Int32Data.Add(values.Select(value => (int)value));
        }

        return made;
    }

    private static TensorProto Bytes(string name, long[] shape, DataType type)
    {
        var random = new Random(name.Length);
        var bytes = new byte[shape.Aggregate(1L, (a, b) => a * b)];
        random.NextBytes(bytes);
        return new TensorProto { Name = name, Dims = { shape }, DataType = (int)type, RawData = ByteString.CopyFrom(bytes) };
    }

    private static float[] Random(int seed, int count, float scale = 1)
    {
        var random = new Random(seed);
        return [.. Enumerable.Range(0, count).Select(_ => (float)((random.NextDouble() - 0.5) * 4 * scale))];
    }

    private static (int[] Shape, double[] Values) Values(DisposableNamedOnnxValue result) => result.Value switch
    {
        Tensor<float> y => (y.Dimensions.ToArray(), [.. y.Select(value => (double)value)]),
        Tensor<long> y => (y.Dimensions.ToArray(), [.. y.Select(value => (double)value)]),
        Tensor<int> y => (y.Dimensions.ToArray(), [.. y.Select(value => (double)value)]),
        Tensor<byte> y => (y.Dimensions.ToArray(), [.. y.Select(value => (double)value)]),
        Tensor<sbyte> y => (y.Dimensions.ToArray(), [.. y.Select(value => (double)value)]),
        var other => throw new NotSupportedException($"{other.GetType()} is not compared"),
    };
}

using System.Globalization;
using Google.Protobuf;
using TorchSharp;
using TtaService.Engine.Onnx.Wire;
using static TorchSharp.torch;

namespace TtaService.Engine.Onnx;

/// <summary>How a conformance test ended.</summary>
internal enum OnnxTestOutcome
{
    /// <summary>All outputs of all data sets agree.</summary>
    Passed,

    /// <summary>The model loads but answers wrongly, or not at all.</summary>
    Failed,

    /// <summary>The model is refused at load, or the data set holds types that are not read.</summary>
    Unsupported,
}

/// <summary>One conformance test.</summary>
/// <param name="Name">The test's folder.</param>
/// <param name="Outcome">How it ended.</param>
/// <param name="Message">Why, unless it passed.</param>
internal sealed record OnnxTestResult(string Name, OnnxTestOutcome Outcome, string Message);

/// <summary>How far an answer may be from what is expected: |a - b| at most Absolute + Relative * |b| + Scale * the largest |b| of the output.</summary>
/// <remarks>Relative and absolute as in ONNX's own test runner, with room for float32 sums near zero. In a large network an element near 0 is a sum of large ones, whose rounding
/// it carries: hence the output's scale.</remarks>
/// <param name="Relative">To the element.</param>
/// <param name="Absolute">In the output's unit.</param>
/// <param name="Scale">To the output's largest element; for floating point only.</param>
internal sealed record OnnxTolerance(double Relative = 1e-3, double Absolute = 1e-6, double Scale = 1e-4);

/// <summary>Runs tests in the layout of ONNX's own node tests: a folder with model.onnx and test_data_set_*/input_*.pb, output_*.pb.</summary>
internal static class OnnxConformance
{
    /// <summary>The test folders in a folder: itself, or those in it.</summary>
    /// <exception cref="DirectoryNotFoundException">The folder does not exist.</exception>
    public static IReadOnlyList<string> Find(string folder) =>
        [.. Directory.EnumerateFiles(folder, "model.onnx", SearchOption.AllDirectories).Select(file => Path.GetDirectoryName(file)!).Order(StringComparer.Ordinal)];

    /// <summary>Runs one test folder.</summary>
    public static OnnxTestResult Run(string folder) => Run(folder, new OnnxTolerance());

    /// <summary>Runs one test folder.</summary>
    public static OnnxTestResult Run(string folder, OnnxTolerance tolerance)
    {
        var name = Path.GetFileName(Path.GetFullPath(folder));
        ModelGraph graph;
        try
        {
            graph = ModelGraph.Load(Path.Combine(folder, "model.onnx"), CPU);
        }
        catch (ModelLoadException refused)
        {
            return new OnnxTestResult(name, OnnxTestOutcome.Unsupported, refused.Message);
        }

        using (graph)
        {
            var sets = Directory.EnumerateDirectories(folder, "test_data_set_*").Order(StringComparer.Ordinal).ToList();
            if (sets.Count == 0)
            {
                return new OnnxTestResult(name, OnnxTestOutcome.Failed, $"{folder} holds no test_data_set_*");
            }

            foreach (var set in sets)
            {
                try
                {
                    if (Differs(graph, set, tolerance) is { } difference)
                    {
                        return new OnnxTestResult(name, OnnxTestOutcome.Failed, $"{Path.GetFileName(set)}: {difference}");
                    }
                }
                catch (ModelLoadException unreadable)
                {
                    return new OnnxTestResult(name, OnnxTestOutcome.Unsupported, $"{Path.GetFileName(set)}: {unreadable.Message}");
                }
            }

            return new OnnxTestResult(name, OnnxTestOutcome.Passed, "");
        }
    }

    private static string? Differs(ModelGraph graph, string set, OnnxTolerance tolerance)
    {
        using var scope = NewDisposeScope();
        using var mode = inference_mode();
        try
        {
            var actual = graph.Run(Read(set, "input", graph.Inputs), sites: null);
            var expected = Read(set, "output", graph.Outputs);
            for (var i = 0; i < expected.Count; i++)
            {
                // It is computed in float32, and published rounded to 8 bits.
                var rounded = graph.Outputs[i].ElementType == "BFLOAT16" ? tolerance with { Relative = Math.Max(tolerance.Relative, 1.0 / 128) } : tolerance;
                if (Difference(actual[i], expected[i], rounded) is { } difference)
                {
                    return $"output {i} {difference}";
                }
            }

            return null;
        }
        catch (Exception failure) when (failure is not (OutOfMemoryException or ModelLoadException))
        {
            return $"{failure.GetType().Name}: {failure.Message.Split('\n')[0]}";
        }
    }

    private static List<Tensor> Read(string set, string kind, IReadOnlyList<GraphValue> declared)
    {
        var tensors = new List<Tensor>();
        var decoder = new TensorDecoder(set);
        while (Path.Combine(set, $"{kind}_{tensors.Count}.pb") is var path && File.Exists(path))
        {
            try
            {
                var proto = TensorProto.Parser.ParseFrom(File.ReadAllBytes(path));
                // NumPy has no bfloat16; the published tests hold its bits.
                if (proto.DataType == (int)TensorProto.Types.DataType.Uint16 && tensors.Count < declared.Count && declared[tensors.Count].ElementType == "BFLOAT16")
                {
                    proto.DataType = (int)TensorProto.Types.DataType.Bfloat16;
                }

                tensors.Add(decoder.Decode(proto));
            }
            catch (InvalidProtocolBufferException broken)
            {
                throw new ModelLoadException($"{path} is not an ONNX tensor", broken);
            }
        }

        return tensors;
    }

    private static string? Difference(Tensor actual, Tensor expected, OnnxTolerance tolerance)
    {
        if (!actual.shape.AsSpan().SequenceEqual(expected.shape))
        {
            return $"has shape [{string.Join(',', actual.shape)}], expected [{string.Join(',', expected.shape)}]";
        }

        var (a, b) = (Values(actual), Values(expected));
        var scale = expected.is_floating_point() ? b.Where(double.IsFinite).Select(Math.Abs).DefaultIfEmpty().Max() : 0;
        for (var i = 0; i < a.Length; i++)
        {
            var same = a[i].Equals(b[i]) || Math.Abs(a[i] - b[i]) <= tolerance.Absolute + (tolerance.Relative * Math.Abs(b[i])) + (tolerance.Scale * scale);
            if (!same)
            {
                return string.Create(CultureInfo.InvariantCulture, $"has {a[i]} at {i}, expected {b[i]}");
            }
        }

        return null;
    }

    private static double[] Values(Tensor tensor) => tensor.numel() == 0 ? [] : tensor.to_type(ScalarType.Float64).cpu().contiguous().data<double>().ToArray();
}

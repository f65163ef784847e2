using System.Globalization;
using Google.Protobuf;
using TorchSharp;
using TtaService.Engine.Onnx.Wire;
using static TorchSharp.torch;

namespace TtaService.Engine.Onnx;

/// <summary>How a conformance test ended.</summary>
public enum OnnxTestOutcome
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
public sealed record OnnxTestResult(string Name, OnnxTestOutcome Outcome, string Message);

/// <summary>Runs tests in the layout of ONNX's own node tests: a folder with model.onnx and test_data_set_*/input_*.pb, output_*.pb.</summary>
public static class OnnxConformance
{
    // Those of ONNX's own test runner, with room for float32 sums near zero.
    private const double RelativeTolerance = 1e-3;
    private const double AbsoluteTolerance = 1e-6;

    /// <summary>The test folders in a folder: itself, or those in it.</summary>
    /// <exception cref="DirectoryNotFoundException">The folder does not exist.</exception>
    public static IReadOnlyList<string> Find(string folder) =>
        [.. Directory.EnumerateFiles(folder, "model.onnx", SearchOption.AllDirectories).Select(file => Path.GetDirectoryName(file)!).Order(StringComparer.Ordinal)];

    /// <summary>Runs one test folder.</summary>
    public static OnnxTestResult Run(string folder)
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
                    if (Differs(graph, set) is { } difference)
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

    private static string? Differs(ModelGraph graph, string set)
    {
        using var scope = NewDisposeScope();
        using var mode = inference_mode();
        try
        {
            var actual = graph.Run(Read(set, "input"), sites: null);
            var expected = Read(set, "output");
            for (var i = 0; i < expected.Count; i++)
            {
                if (Difference(actual[i], expected[i]) is { } difference)
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

    private static List<Tensor> Read(string set, string kind)
    {
        var tensors = new List<Tensor>();
        var decoder = new TensorDecoder(set);
        while (Path.Combine(set, $"{kind}_{tensors.Count}.pb") is var path && File.Exists(path))
        {
            try
            {
                tensors.Add(decoder.Decode(TensorProto.Parser.ParseFrom(File.ReadAllBytes(path))));
            }
            catch (InvalidProtocolBufferException broken)
            {
                throw new ModelLoadException($"{path} is not an ONNX tensor", broken);
            }
        }

        return tensors;
    }

    private static string? Difference(Tensor actual, Tensor expected)
    {
        if (!actual.shape.AsSpan().SequenceEqual(expected.shape))
        {
            return $"has shape [{string.Join(',', actual.shape)}], expected [{string.Join(',', expected.shape)}]";
        }

        var (a, b) = (Values(actual), Values(expected));
        for (var i = 0; i < a.Length; i++)
        {
            var same = a[i].Equals(b[i]) || Math.Abs(a[i] - b[i]) <= AbsoluteTolerance + (RelativeTolerance * Math.Abs(b[i]));
            if (!same)
            {
                return string.Create(CultureInfo.InvariantCulture, $"has {a[i]} at {i}, expected {b[i]}");
            }
        }

        return null;
    }

    private static double[] Values(Tensor tensor) => tensor.numel() == 0 ? [] : tensor.to_type(ScalarType.Float64).cpu().contiguous().data<double>().ToArray();
}

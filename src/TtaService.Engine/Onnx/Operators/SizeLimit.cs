using TorchSharp;
using static TorchSharp.torch;

namespace TtaService.Engine.Onnx.Operators;

/// <summary>How many values a node makes, told from shapes before it runs: a few bytes of a model file can ask for terabytes.</summary>
internal static class SizeLimit
{
    // Half of the memory that the process may use, in float32.
    private static readonly double MostElements = GC.GetGCMemoryInfo().TotalAvailableMemoryBytes / (2.0 * sizeof(float));

    private delegate double Size(Node node, Tensor?[] inputs);

    private static readonly Dictionary<string, Size> ByType = Table();

    /// <summary>The kernel, with a check before it where the operator can make more than it reads.</summary>
    public static Kernel Guard(Node node, Kernel kernel)
    {
        if (!ByType.TryGetValue(node.Type, out var size))
        {
            return kernel;
        }

        return inputs =>
        {
            Check(node, size(node, inputs));
            return kernel(inputs);
        };
    }

    /// <summary>Values that a node makes of these inputs.</summary>
    public static double Elements(Node node, Tensor?[] inputs) =>
        ByType.TryGetValue(node.Type, out var size) ? size(node, inputs) : inputs.Sum(input => (double)(input?.numel() ?? 0));

    private static Dictionary<string, Size> Table()
    {
        var table = new Dictionary<string, Size>(StringComparer.Ordinal)
        {
            ["ConstantOfShape"] = (_, inputs) => Product(inputs[0]!.Longs()),
            ["Expand"] = (_, inputs) => Broadcast([inputs[0]!.shape, inputs[1]!.Longs()]),
            ["Tile"] = (_, inputs) => inputs[0]!.numel() * Product(inputs[1]!.Longs()),
            ["Range"] = (_, inputs) => Math.Abs((Value(inputs[1]!) - Value(inputs[0]!)) / Value(inputs[2]!)),
            ["Pad"] = Padded,
            ["Resize"] = Resized,
            ["Upsample"] = Resized,
            ["MatMul"] = (_, inputs) => Matrix(inputs[0]!.shape, inputs[1]!.shape),
            ["Gather"] = (node, inputs) => (double)inputs[0]!.numel() * inputs[1]!.numel() / Math.Max(
                1,
                inputs[0]!.shape[(int)HostValues.Axis(node.Int("axis", 0), inputs[0]!.dim())]),
            ["GatherND"] = (_, inputs) => (double)inputs[1]!.numel() / Math.Max(1, inputs[1]!.shape[^1]) * Product(inputs[0]!.shape.Skip((int)inputs[1]!.shape[^1])),
            ["Concat"] = (_, inputs) => inputs.Sum(input => (double)(input?.numel() ?? 0)),
            ["Gemm"] = (node, inputs) => (double)inputs[0]!.shape[node.Int("transA", 0) == 0 ? 0 : 1] * inputs[1]!.shape[node.Int("transB", 0) == 0 ? 1 : 0],
            ["Einsum"] = Einsum,
            ["OneHot"] = (_, inputs) => inputs[0]!.numel() * Value(inputs[1]!),
            ["GridSample"] = (_, inputs) => (double)inputs[0]!.shape[0] * inputs[0]!.shape[1] * inputs[1]!.numel() / Math.Max(1, inputs[1]!.shape[^1]),
            ["RoiAlign"] = (node, inputs) => (double)inputs[1]!.shape[0] * inputs[0]!.shape[1] * node.Int("output_height", 1) * node.Int("output_width", 1),
            ["MaxUnpool"] = (node, inputs) => inputs.Length > 2 && inputs[2] is { } shape
                ? Product(shape.Longs())
                : inputs[0]!.numel() * Product((node.Ints("strides") ?? []).Concat(node.Ints("kernel_shape") ?? [])),
            ["LSTM"] = Recurrent,
            ["GRU"] = Recurrent,
            ["RNN"] = Recurrent,
        };
        foreach (var type in new[] { "Conv", "MaxPool", "AveragePool", "LpPool" })
        {
            table[type] = (node, inputs) => Window(node, inputs, type == "Conv" ? inputs[1]!.shape[0] : inputs[0]!.shape[1]);
        }

        table["ConvTranspose"] = Transposed;
        foreach (var type in new[]
        {
            "Add", "Sub", "Mul", "Div", "Pow", "Mod", "Max", "Min", "Sum", "Mean", "Where", "PRelu",
            "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "And", "Or", "Xor",
        })
        {
            table[type] = (_, inputs) => Broadcast([.. inputs.Select(input => input!.shape)]);
        }

        return table;
    }

    /// <summary>Refuses a number of values that no node may make.</summary>
    public static void Check(Node node, double elements)
    {
        if (!(elements <= MostElements))
        {
            throw new PassException($"node '{node.Name}' ({node.Type}) would make {elements:0.##e+0} values; "
                + $"{MostElements:0.##e+0} are half of the memory that the process may use");
        }
    }

    // The gates of all steps are made at once.
    private static double Recurrent(Node node, Tensor?[] inputs) => (double)inputs[0]!.shape[0] * inputs[0]!.shape[1] * inputs[1]!.shape[0] * inputs[1]!.shape[1];

    private static double Product(IEnumerable<long> extents) => extents.Aggregate(1.0, (product, extent) => product * extent);

    private static double Value(Tensor scalar)
    {
        using var wide = scalar.to_type(ScalarType.Float64).cpu();
        return wide.numel() == 1 ? wide.item<double>() : double.NaN;
    }

    private static double Broadcast(IReadOnlyList<long[]> shapes)
    {
        var product = 1.0;
        for (var i = 1; i <= shapes.Max(shape => shape.Length); i++)
        {
            product *= shapes.Max(shape => i <= shape.Length ? shape[^i] : 1);
        }

        return product;
    }

    private static double Matrix(long[] a, long[] b)
    {
        if (a.Length < 2 || b.Length < 2)
        {
            return Math.Max(Product(a), Product(b));
        }

        return Broadcast([a[..^2], b[..^2], [1]]) * a[^2] * b[^1];
    }

    private static double Padded(Node node, Tensor?[] inputs)
    {
        var shape = inputs[0]!.shape;
        var pads = node.Ints("pads") ?? inputs[1]!.Longs();
        var axes = inputs.Length > 3 ? inputs[3]?.Longs() : null;
        var extents = Array.ConvertAll(shape, extent => (double)extent);
        for (var i = 0; i < pads.Length / 2; i++)
        {
            var axis = axes is null ? i : (int)HostValues.Axis(axes[i], shape.Length);
            extents[axis] += (double)pads[i] + pads[i + (pads.Length / 2)];
        }

        return extents.Aggregate(1.0, (product, extent) => product * Math.Max(0, extent));
    }

    private static double Resized(Node node, Tensor?[] inputs)
    {
        var upsample = node.Type == "Upsample" || node.Opset < 11;
        var scalesAt = upsample ? 1 : 2;
        var scales = node.Floats("scales") ?? (inputs.Length > scalesAt && inputs[scalesAt] is { } given && given.numel() > 0 ? given.Singles() : null);
        var sizes = !upsample && inputs.Length > 3 ? inputs[3]?.Longs() : null;
        var axes = node.Ints("axes");
        var extents = Array.ConvertAll(inputs[0]!.shape, extent => (double)extent);
        var weights = 0.0;
        for (var i = 0; i < (sizes?.Length ?? scales?.Length ?? 0); i++)
        {
            var axis = axes is null ? i : (int)HostValues.Axis(axes[i], extents.Length);
            var input = extents[axis];
            extents[axis] = sizes is not null ? sizes[i] : input * scales![i];
            // Interpolation is a product with a matrix of both extents.
            weights = Math.Max(weights, input == extents[axis] ? 0 : input * extents[axis]);
        }

        return Math.Max(weights, extents.Aggregate(1.0, (product, extent) => product * extent));
    }

    private static double Window(Node node, Tensor?[] inputs, long channels)
    {
        var input = inputs[0]!.shape;
        var (pads, strides, rank) = (node.Ints("pads"), node.Ints("strides"), input.Length - 2);
        var size = (double)input[0] * channels;
        for (var i = 0; i < rank; i++)
        {
            var padded = input[i + 2] + (pads is { } given && given.Length == 2 * rank ? (double)given[i] + given[i + rank] : 0);
            size *= Math.Max(1, padded / Math.Max(1, strides is { } steps && steps.Length == rank ? steps[i] : 1));
        }

        return size;
    }

    private static double Transposed(Node node, Tensor?[] inputs)
    {
        var (input, weight) = (inputs[0]!.shape, inputs[1]!.shape);
        var (strides, dilations, rank) = (node.Ints("strides"), node.Ints("dilations"), input.Length - 2);
        var size = (double)input[0] * weight[1] * node.Int("group", 1);
        for (var i = 0; i < rank; i++)
        {
            size *= ((double)input[i + 2] * (strides?[i] ?? 1)) + ((double)weight[i + 2] * (dilations?[i] ?? 1));
        }

        return size;
    }

    private static double Einsum(Node node, Tensor?[] inputs)
    {
        var parts = node.Text("equation", string.Empty).Replace(" ", string.Empty, StringComparison.Ordinal).Split("->");
        var labels = new Dictionary<char, long>();
        var terms = parts[0].Split(',');
        for (var i = 0; i < Math.Min(terms.Length, inputs.Length); i++)
        {
            for (var axis = 0; axis < Math.Min(terms[i].Length, inputs[i]!.shape.Length); axis++)
            {
                labels[terms[i][axis]] = inputs[i]!.shape[axis];
            }
        }

        return Product((parts.Length > 1 ? parts[1] : parts[0]).Distinct().Select(label => labels.GetValueOrDefault(label, 1)));
    }
}

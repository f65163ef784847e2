using TtaService.Engine.Onnx.Wire;
using static TtaService.Engine.Tests.Onnx.OnnxFiles;

namespace TtaService.Engine.Tests.Onnx;

/// <summary>A small graph of what exporters write around BatchNormalization, made from a seed: residuals, views that outlive what they view, tokens and tiles in the first
/// axis, baked batches.</summary>
internal sealed class RandomGraph
{
    public const int Side = 8;
    private const int Steps = 9;

    private readonly Random _random;
    private readonly List<NodeProto> _nodes = [];
    private readonly List<TensorProto> _initializers = [];
    private readonly List<Image> _images = [];
    private int _names;

    public RandomGraph(int seed)
    {
        _random = new Random(seed);
        Batch = Chance(0.6) ? 0 : _random.Next(1, 4);
        _images.Add(new Image("x", 3, Side, Side));
        _images.Add(Convolve(_images[0]));
        for (var i = 0; i < Steps; i++)
        {
            _images.Add(Step());
        }

        // At least one site.
        _images.Add(Norm(_images[^1]));
        Outputs.Add(Head(_images[^1]));
        if (Chance(0.3))
        {
            Outputs.Add(Head(Any()));
        }

        if (Chance(0.3))
        {
            // A value from the middle, which must stay what it was although nodes behind it could overwrite it.
            Outputs.Add(_images[_random.Next(1, _images.Count)].Name);
        }

        if (Batch < 2 && Chance(0.15))
        {
            Outputs.Add(Node("Transpose", [Tokens(Any())], Ints("perm", 1, 0, 2)));
        }
    }

    /// <summary>The batch that is written into the file; 0 for a free one.</summary>
    public int Batch { get; }

    public List<string> Outputs { get; } = [];

    public string Describe() => string.Join(' ', _nodes.Select(node => node.OpType));

    public ModelProto Model()
    {
        var model = OnnxFiles.Model([.. _nodes]);
        model.Graph.Initializer.Add(_initializers);
        model.Graph.Output.Clear();
        model.Graph.Output.Add(Outputs.Distinct().Select(
            name => new ValueInfoProto { Name = name, Type = new TypeProto { TensorType = new TypeProto.Types.Tensor { ElemType = (int)TensorProto.Types.DataType.Float } } }));
        var shape = model.Graph.Input[0].Type.TensorType.Shape;
        shape.Dim.Clear();
        shape.Dim.Add(Batch == 0 ? new TensorShapeProto.Types.Dimension { DimParam = "n" } : new TensorShapeProto.Types.Dimension { DimValue = Batch });
        shape.Dim.Add([.. new long[] { 3, Side, Side }.Select(extent => new TensorShapeProto.Types.Dimension { DimValue = extent })]);
        return model;
    }

    private Image Step()
    {
        var x = Any();
        switch (_random.Next(20))
        {
            case 0 or 1:
                return Convolve(x);
            case 2 or 3 or 4:
                return Norm(x);
            case 5:
                return Chance(0.5) ? Act(x) : Norm(Act(x));
            case 6:
                // A residual over a convolution that others read, too.
                var c = Convolve(x, x.Channels, 1);
                return Add(c, Chance(0.5) ? Norm(c) : Norm(x));
            case 7:
                return Act(Add(Norm(Convolve(x, x.Channels, 1)), x));
            case 8:
                // Broadcast residual, either way round.
                return Act(Add(x, Norm(Pool(x))));
            case 9:
                return new Image(Node("Mul", [x.Name, Node("Sigmoid", [Convolve(Pool(x), x.Channels, 1, 1).Name])]), x.Channels, x.Height, x.Width);
            case 10:
                return View(x);
            case 11:
                // A view that is read behind the site which might overwrite what it views.
                var fresh = Convolve(x);
                var view = View(fresh);
                return Join(Norm(fresh), view);
            case 12:
                return Join(x, Any());
            case 13:
                return MaxPool(x);
            case 14:
                return OverTokens(x);
            case 15:
                return OverRows(x);
            case 16:
                return OverTiles(x);
            case 17:
                return Query(x);
            case 18:
                return Flattened(x);
            default:
                return Baked(x);
        }
    }

    private Image Any() => _images[Math.Max(_random.Next(_images.Count), _random.Next(_images.Count))];

    private Image Convolve(Image x, int? channels = null, int? stride = null, int? size = null)
    {
        var kernel = size ?? (Chance(0.5) ? 3 : 1);
        var outputs = channels ?? 2 * _random.Next(1, 6);
        var steps = stride ?? (x.Height > 2 && Chance(0.2) ? 2 : 1);
        var weight = Weights([outputs, x.Channels, kernel, kernel], x.Channels * kernel * kernel);
        string[] inputs = Chance(0.3) ? [x.Name, weight, Weights([outputs], 4)] : [x.Name, weight];
        var pad = kernel / 2;
        return new Image(
            Node("Conv", inputs, Ints("pads", pad, pad, pad, pad), Ints("strides", steps, steps)),
            outputs,
            ((x.Height - 1) / steps) + 1,
            ((x.Width - 1) / steps) + 1);
    }

    private Image Norm(Image x) => x with { Name = NormOf(x.Name, x.Channels) };

    private string NormOf(string x, int channels) => Node(
        "BatchNormalization",
        [x, Values([channels], () => 0.5f + Unit()), Values([channels], () => Unit() - 0.5f), Values([channels], () => Unit() - 0.5f), Values([channels], () => 0.5f + Unit())]);

    private Image Act(Image x) => x with
    {
        Name = _random.Next(4) switch
        {
            0 => Node("Clip", [x.Name, Values([], () => 0f), Values([], () => 1f)]),
            1 => Node("LeakyRelu", [x.Name]),
            2 => Node("HardSwish", [x.Name]),
            _ => Node("Relu", [x.Name]),
        },
    };

    private Image Add(Image a, Image b) => new(
        Node("Add", Chance(0.5) ? [a.Name, b.Name] : [b.Name, a.Name]), a.Channels, Math.Max(a.Height, b.Height), Math.Max(a.Width, b.Width));

    private Image Pool(Image x) => new(Node("GlobalAveragePool", [x.Name]), x.Channels, 1, 1);

    private Image MaxPool(Image x) => x.Height < 2 || x.Width < 2
        ? Act(x)
        : new Image(Node(Chance(0.5) ? "MaxPool" : "AveragePool", [x.Name], Ints("kernel_shape", 2, 2), Ints("strides", 2, 2)), x.Channels, x.Height / 2, x.Width / 2);

    // Another image over the same memory.
    private Image View(Image x)
    {
        switch (_random.Next(5))
        {
            case 0:
                return x with { Name = Node("Identity", [x.Name]) };
            case 1 when x.Channels > 1:
                return x with { Name = Node("Slice", [x.Name, Longs(0), Longs(x.Channels / 2), Longs(1)]), Channels = x.Channels / 2 };
            case 2:
                return x with { Name = Node("Transpose", [x.Name], Ints("perm", 0, 1, 3, 2)), Height = x.Width, Width = x.Height };
            case 3 when x.Channels % 2 == 0:
                var (first, second) = (Fresh(), Fresh());
                var split = OnnxFiles.Node("Split", [x.Name, Longs(x.Channels / 2, x.Channels / 2)], first, Int("axis", 1));
                split.Output.Add(second);
                _nodes.Add(split);
                return x with { Name = Chance(0.5) ? first : second, Channels = x.Channels / 2 };
            default:
                return x with { Name = Node("Reshape", [Node("Reshape", [x.Name, Longs(0, 0, -1)]), Longs(0, x.Channels, x.Height, x.Width)]) };
        }
    }

    // Side by side where the sizes agree, else at their averages.
    private Image Join(Image a, Image b)
    {
        if ((a.Height, a.Width) != (b.Height, b.Width))
        {
            (a, b) = (Pool(a), Pool(b));
        }

        return a.Channels == b.Channels && Chance(0.5) ? Add(a, b) : new Image(Node("Concat", [a.Name, b.Name], Int("axis", 1)), a.Channels + b.Channels, a.Height, a.Width);
    }

    // [N,C,L].
    private Image OverTokens(Image x) =>
        x with { Name = Node("Reshape", [NormOf(Node("Reshape", [x.Name, Longs(0, 0, -1)]), x.Channels), Longs(0, x.Channels, x.Height, x.Width)]) };

    // [N,L,C].
    private string Tokens(Image x) => Node("Transpose", [Node("Reshape", [x.Name, Longs(0, 0, -1)])], Ints("perm", 0, 2, 1));

    // LeViT's linear layers: [N*L,C].
    private Image OverRows(Image x)
    {
        var channels = 2 * _random.Next(1, 5);
        var product = Node("MatMul", [Tokens(x), Weights([x.Channels, channels], x.Channels)]);
        var rows = NormOf(Node("Reshape", [product, Longs(-1, channels)]), channels);
        var tokens = Node("Reshape", [rows, Longs(-1, x.Height * x.Width, channels)]);
        return new Image(Node("Reshape", [Node("Transpose", [tokens], Ints("perm", 0, 2, 1)), Longs(0, channels, x.Height, x.Width)]), channels, x.Height, x.Width);
    }

    // Tiles in the first axis: frames outermost, or the tiles.
    private Image OverTiles(Image x)
    {
        if (x.Height % 2 != 0 || x.Width % 2 != 0)
        {
            return Norm(x);
        }

        var (h, w) = (x.Height / 2, x.Width / 2);
        var outermost = Chance(0.5);
        var parts = Node("Reshape", [x.Name, Longs(-1, x.Channels, 2, h, 2, w)]);
        var tiles = Node("Reshape", [Node("Transpose", [parts], outermost ? Ints("perm", 0, 2, 4, 1, 3, 5) : Ints("perm", 2, 4, 0, 1, 3, 5)), Longs(-1, x.Channels, h, w)]);
        var normed = Norm(new Image(tiles, x.Channels, h, w)).Name;
        var back = outermost
            ? Node("Transpose", [Node("Reshape", [normed, Longs(-1, 2, 2, x.Channels, h, w)])], Ints("perm", 0, 3, 1, 4, 2, 5))
            : Node("Transpose", [Node("Reshape", [normed, Longs(2, 2, -1, x.Channels, h, w)])], Ints("perm", 2, 3, 0, 4, 1, 5));
        return x with { Name = Node("Reshape", [back, Longs(-1, x.Channels, x.Height, x.Width)]) };
    }

    // A learned query: its rows are 1 whatever the batch is.
    private Image Query(Image x)
    {
        var zero = Node("Mul", [Node("ReduceMean", [x.Name], Int("keepdims", 1)), Values([], () => 0f)]);
        var query = new Image(Node("Add", [Values([1, x.Channels, 2, 2], () => Unit() - 0.5f), zero]), x.Channels, 2, 2);
        return x with { Name = Node("Mul", [x.Name, Pool(Act(Norm(query))).Name]) };
    }

    // Rows of a frame by Flatten: [N,C*H*W] and back.
    private Image Flattened(Image x)
    {
        var size = x.Channels * x.Height * x.Width;
        return x with { Name = Node("Reshape", [NormOf(Node("Flatten", [x.Name]), size), Longs(-1, x.Channels, x.Height, x.Width)]) };
    }

    // The batch of the export as a constant.
    private Image Baked(Image x)
    {
        var batch = Math.Max(1, Batch);
        return _random.Next(3) switch
        {
            0 => x with
            {
                Name = Node(
                "Reshape", [NormOf(Node("Reshape", [x.Name, Longs(batch, x.Channels, -1, x.Width)]), x.Channels), Longs(-1, x.Channels, x.Height, x.Width)])
            },
            1 => new Image(Node("Reshape", [Node("ReduceMean", [Node("Reshape", [Tokens(x), Longs(batch, -1, x.Channels)])], Ints("axes", 1)), Longs(-1, x.Channels, 1, 1)]),
                x.Channels, 1, 1),
            _ => x with { Name = Node("Reshape", [Node("Reshape", [x.Name, Longs(batch, -1)]), Longs(-1, x.Channels, x.Height, x.Width)]) },
        };
    }

    private string Head(Image x)
    {
        var classes = _random.Next(2, 8);
        if (Chance(0.5))
        {
            var pooled = Node("Flatten", [Pool(x).Name]);
            pooled = Chance(0.3) ? NormOf(pooled, x.Channels) : pooled;
            return Node("Gemm", [pooled, Weights([classes, x.Channels], x.Channels), Weights([classes], 4)], Int("transB", 1));
        }

        var mean = Node("ReduceMean", [Tokens(x)], Ints("axes", 1), Int("keepdims", 0));
        return Node("MatMul", [mean, Weights([x.Channels, classes], x.Channels)]);
    }

    private string Node(string op, string[] inputs, params AttributeProto[] attributes)
    {
        var output = Fresh();
        _nodes.Add(OnnxFiles.Node(op, inputs, output, attributes));
        return output;
    }

    private string Weights(long[] shape, int fanIn) => Values(shape, () => (float)((Unit() - 0.5) * 3.4 / Math.Sqrt(fanIn)));

    private string Values(long[] shape, Func<float> next)
    {
        var name = Fresh();
        _initializers.Add(Floats(name, shape, [.. Enumerable.Range(0, (int)shape.Aggregate(1L, (product, extent) => product * extent)).Select(_ => next())]));
        return name;
    }

    private string Longs(params long[] values)
    {
        var name = Fresh();
        _initializers.Add(new TensorProto { Name = name, Dims = { values.Length }, DataType = (int)TensorProto.Types.DataType.Int64, Int64Data = { values } });
        return name;
    }

    private string Fresh() => $"v{_names++}";

    private bool Chance(double probability) => _random.NextDouble() < probability;

    private float Unit() => (float)_random.NextDouble();

    private static AttributeProto Int(string name, long value) => new() { Name = name, I = value, Type = AttributeProto.Types.AttributeType.Int };

    private static AttributeProto Ints(string name, params long[] values) => new() { Name = name, Ints = { values }, Type = AttributeProto.Types.AttributeType.Ints };

    private sealed record Image(string Name, int Channels, int Height, int Width);
}

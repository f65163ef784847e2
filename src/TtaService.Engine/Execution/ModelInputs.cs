using System.Globalization;
using TtaService.Engine.Onnx;
using static TorchSharp.torch;

namespace TtaService.Engine.Execution;

/// <summary>The image among a graph's inputs, and what those beside it are fed: sizes of the image input, or constants.</summary>
/// <remarks>Sizes are the input's and never those of the frame that was sent: so boxes are in the input's pixels, as every other model's, and a frame's answer
/// does not depend on the frames in its pass.</remarks>
internal sealed class ModelInputs
{
    private static readonly InputTerm Height = new(InputQuantity.Height);
    private static readonly InputTerm Width = new(InputQuantity.Width);
    private static readonly InputTerm One = new(InputQuantity.Constant, 1);

    // PaddleDetection's, RT-DETR's and YOLOv3's.
    private static readonly Dictionary<string, InputTerm[]> Known = new(StringComparer.Ordinal)
    {
        ["im_shape"] = [Height, Width],
        ["scale_factor"] = [One],
        ["im_info"] = [Height, Width, One],
        ["image_shape"] = [Height, Width],
        ["orig_target_sizes"] = [Width, Height],
    };

    private readonly IReadOnlyList<GraphValue> _inputs;
    private readonly int _image;
    private readonly InputTerm[][] _terms;

    private ModelInputs(IReadOnlyList<GraphValue> inputs, int image, InputTerm[][] terms) => (_inputs, _image, _terms) = (inputs, image, terms);

    /// <summary>The input that takes the frames.</summary>
    public GraphValue Image => _inputs[_image];

    /// <summary>What the others are fed, a sentence each.</summary>
    public IEnumerable<string> Notices => Enumerable.Range(0, _inputs.Count).Where(input => input != _image).Select(input =>
        $"input '{_inputs[input].Name}' is fed {string.Join(", ", _terms[input].Select(Word))}; 'inputs' of model.json can say otherwise");

    /// <summary>Finds the image, and what each other input is fed.</summary>
    /// <exception cref="ModelLoadException">There is not one image, or it is not known what another input takes.</exception>
    public static ModelInputs Of(string path, IReadOnlyList<GraphValue> inputs, IReadOnlyDictionary<string, IReadOnlyList<InputTerm>> declared)
    {
        var all = string.Join(", ", inputs.Select(input => $"{input.Name} [{string.Join(',', input.Shape)}]"));
        if (inputs.Count(IsImage) != 1)
        {
            throw new ModelLoadException($"{path}: a vision model has one input of images [N,C,H,W], or of clips [N,C,T,H,W]; this one has {all}");
        }

        var image = Enumerable.Range(0, inputs.Count).First(input => IsImage(inputs[input]));
        if (declared.Keys.FirstOrDefault(name => inputs.All(input => input.Name != name) || inputs[image].Name == name) is { } unknown)
        {
            throw new ModelLoadException($"{path}: 'inputs' names '{unknown}', which is no input beside the image; the graph's are {all}");
        }

        return new ModelInputs(inputs, image, [.. inputs.Select((input, index) => index == image ? [] : Terms(path, input, declared))]);
    }

    /// <summary>The tensors of a pass, in the graph's order; they belong to the caller's dispose scope.</summary>
    /// <param name="frames">What the image input takes.</param>
    /// <param name="count">Frames of the pass.</param>
    /// <param name="height">Of each.</param>
    /// <param name="width">Of each.</param>
    public Tensor[] With(Tensor frames, int count, int height, int width)
    {
        var tensors = new Tensor[_inputs.Count];
        for (var input = 0; input < tensors.Length; input++)
        {
            tensors[input] = input == _image ? frames : Filled(_inputs[input], [.. _terms[input].Select(term => term.Of(height, width))], count, frames);
        }

        return tensors;
    }

    private static bool IsImage(GraphValue input) => input.Shape.Count is 4 or 5;

    private static InputTerm[] Terms(string path, GraphValue input, IReadOnlyDictionary<string, IReadOnlyList<InputTerm>> declared)
    {
        var said = declared.TryGetValue(input.Name, out var set);
        InputTerm[]? terms = said ? [.. set!] : Known.GetValueOrDefault(input.Name);
        var shape = $"[{string.Join(',', input.Shape)}]";
        if (terms is null)
        {
            throw new ModelLoadException($"{path}: input {input.Name} {shape} is beside the image, and its name does not tell what it takes; say so in model.json: "
                + $"\"inputs\": [{{ \"name\": \"{input.Name}\", \"values\": [\"height\", \"width\", 1] }}], a number or a size of the image input for each of its values");
        }

        var needed = RowOf(input);
        return terms.Length > 0 && (terms.Length == 1 || needed < 0 || needed == terms.Length)
            ? terms
            : throw new ModelLoadException($"{path}: input {input.Name} {shape} takes {needed} values a frame, {(said ? "'inputs' of model.json gives" : "by its name it has")} "
                + $"{terms.Length}; set {needed}, or one for all, in 'inputs' of model.json");
    }

    // Values of a frame; -1 where the graph leaves it open.
    private static long RowOf(GraphValue input)
    {
        long[] row = input.Shape.Count == 1 ? [.. input.Shape] : [.. input.Shape.Skip(1)];
        return row.Contains(-1) ? -1 : row.Aggregate(1L, (product, extent) => product * extent);
    }

    private static Tensor Filled(GraphValue input, float[] terms, int count, Tensor frames)
    {
        var shape = input.Shape.ToArray();
        if (shape is [-1])
        {
            // A number a frame, or as many as were given.
            shape = [terms.Length == 1 ? count : terms.Length];
        }
        else if (shape.Length > 1)
        {
            var open = Array.LastIndexOf(shape, -1);
            shape = [.. shape.Select((extent, axis) => extent > 0 ? extent : axis == 0 ? count : axis == open ? terms.Length : 1)];
        }

        var values = new float[shape.Aggregate(1L, (product, extent) => checked(product * extent))];
        for (var i = 0; i < values.Length; i++)
        {
            values[i] = terms[i % terms.Length];
        }

        return tensor(values, shape).to_type(ElementType(input, frames)).to(frames.device);
    }

    // As constants are: integers of every width are int64 in a compiled graph, bytes alone stay bytes.
    private static ScalarType ElementType(GraphValue input, Tensor frames) => input.ElementType switch
    {
        "BOOL" => ScalarType.Bool,
        "UINT8" => ScalarType.Byte,
        "FLOAT" or "FLOAT16" or "BFLOAT16" or "DOUBLE" or "UNDEFINED" => frames.is_floating_point() ? frames.dtype : ScalarType.Float32,
        _ => ScalarType.Int64,
    };

    private static string Word(InputTerm term) => term.Quantity switch
    {
        InputQuantity.Height => "the image input's height",
        InputQuantity.Width => "the image input's width",
        _ => term.Value.ToString(CultureInfo.InvariantCulture),
    };
}

using TorchSharp;
using TtaService.Engine.Onnx;
using static TorchSharp.torch;

namespace TtaService.Engine.Execution;

/// <summary>How the axes of an image input lie.</summary>
public enum InputLayout
{
    /// <summary>[N,C,H,W].</summary>
    Nchw,

    /// <summary>[N,H,W,C].</summary>
    Nhwc,

    /// <summary>[N,C,T,H,W]: clips of T frames, as torchvision's video networks take them.</summary>
    Ncthw,

    /// <summary>[N,T,C,H,W]: clips of T frames.</summary>
    Ntchw,
}

/// <summary>How pixels become the tensor that a graph declares: its element type, its layout, the values.</summary>
/// <param name="Normalization">From pixels to values.</param>
/// <param name="Layout">Of the input's axes.</param>
/// <param name="Integer">The integer type that the graph takes; null for floating point, which is computed in the model's precision whatever the graph declares.</param>
internal sealed record InputEncoding(InputNormalization Normalization, InputLayout Layout, ScalarType? Integer)
{
    // A pass holds a clip whole.
    private const int MostClipFrames = 256;

    /// <summary>Frames T that the graph takes together; 1 for images.</summary>
    public int ClipFrames { get; private init; } = 1;

    /// <summary>[N,C,H,W] of the frames of an input, whatever its layout is.</summary>
    public IReadOnlyList<long> ImageShape(IReadOnlyList<long> shape) => Layout switch
    {
        InputLayout.Nhwc => [shape[0], shape[3], shape[1], shape[2]],
        InputLayout.Ncthw => [shape[0], shape[1], shape[3], shape[4]],
        InputLayout.Ntchw => [shape[0], shape[2], shape[3], shape[4]],
        _ => shape,
    };

    /// <summary>The encoding that an input asks for.</summary>
    /// <param name="path">The model, for messages.</param>
    /// <param name="input">Of four axes, or five for clips.</param>
    /// <param name="normalization">As set; null for the default: ImageNet's for floating point, the pixels themselves for integers.</param>
    /// <param name="layout">As set; null to read it from the shape.</param>
    /// <param name="exporters">What the exporter says of floating point inputs; null when it says nothing.</param>
    /// <exception cref="ModelLoadException">The input's type takes no pixels, or not those that the normalization makes.</exception>
    public static InputEncoding For(string path, GraphValue input, InputNormalization? normalization, InputLayout? layout, InputNormalization? exporters = null)
    {
        var lies = layout ?? LayoutOf(input.Shape);
        if (lies is InputLayout.Ncthw or InputLayout.Ntchw != (input.Shape.Count == 5))
        {
            throw new ModelLoadException($"{path}: input {input.Name} [{string.Join(',', input.Shape)}] does not lie as preprocessing.layout says "
                + $"({$"{lies}".ToLowerInvariant()}); nchw and nhwc are of images, ncthw and ntchw of clips; leave it out where the shape tells");
        }

        var encoding = For(path, input, normalization, lies, input.Shape[ChannelsOf(lies)], exporters);
        if (input.Shape.Count == 4)
        {
            return encoding;
        }

        return input.Shape[lies == InputLayout.Ncthw ? 2 : 1] is > 0 and <= MostClipFrames and var frames
            ? encoding with { ClipFrames = (int)frames }
            : throw new ModelLoadException($"{path}: input {input.Name} [{string.Join(',', input.Shape)}] takes clips of a number of frames that is not fixed, or above "
                + $"{MostClipFrames}; export it with the length of a clip");
    }

    private static InputLayout LayoutOf(IReadOnlyList<long> shape) => shape.Count == 5
        ? (shape[1] is not (1 or 3) && shape[2] is 1 or 3 ? InputLayout.Ntchw : InputLayout.Ncthw)
        : shape[1] is not (1 or 3) && shape[3] is 1 or 3 ? InputLayout.Nhwc : InputLayout.Nchw;

    private static int ChannelsOf(InputLayout layout) => layout switch
    {
        InputLayout.Nhwc => 3,
        InputLayout.Ntchw => 2,
        _ => 1,
    };

    private static InputEncoding For(string path, GraphValue input, InputNormalization? normalization, InputLayout lies, long channels, InputNormalization? exporters)
    {
        if (normalization is { Scale: [var factor], Offset: [var term] } && channels == 3)
        {
            normalization = InputNormalization.Scaled([factor, factor, factor], [term, term, term]);
        }

        if (input.ElementType is "FLOAT" or "FLOAT16" or "BFLOAT16" or "DOUBLE" or "UNDEFINED")
        {
            var said = channels == 1 && exporters is { Mean.Length: 3 } colours ? new InputNormalization([colours.Mean[0]], [colours.Std[0]]) : exporters;
            return new InputEncoding(normalization ?? said ?? InputNormalization.ImageNet, lies, null);
        }

        if (Range(input.ElementType) is not { } range)
        {
            throw new ModelLoadException($"{path}: input {input.Name} takes {input.ElementType}, which images can't be fed as; export it with a FLOAT or UINT8 input");
        }

        normalization ??= InputNormalization.Pixels(channels == 1 ? 1 : 3);
        if (normalization.Scale is not { } scale || normalization.Offset is not { } offset)
        {
            throw new ModelLoadException($"{path}: input {input.Name} takes {input.ElementType}, pixels of 0 to 255 as they are, but preprocessing.mean and "
                + "preprocessing.std would make fractions of them; leave both out, the graph normalizes by itself");
        }

        if (Array.Exists(scale, value => value != 1) || Array.Exists(offset, value => value != MathF.Round(value)))
        {
            throw new ModelLoadException($"{path}: input {input.Name} takes {input.ElementType}, but preprocessing.scale and preprocessing.offset make fractions; only "
                + "scale 1 and whole offsets fit");
        }

        if (Array.Exists(offset, value => value < range.Smallest || value + 255 > range.Largest))
        {
            throw new ModelLoadException($"{path}: input {input.Name} takes {input.ElementType}, {range.Smallest} to {range.Largest}, but pixels with preprocessing.offset "
                + $"{string.Join(", ", offset)} are {offset.Min()} to {offset.Max() + 255}; set "
                + $"preprocessing.offset{(input.ElementType == "INT8" ? " to -128, if the graph was made so" : string.Empty)}");
        }

        return new InputEncoding(normalization, lies, input.ElementType == "UINT8" ? ScalarType.Byte : ScalarType.Int64);
    }

    // Constants and casts of every integer type are int64 in a compiled graph; bytes alone stay bytes, an eighth of the memory.
    private static (long Smallest, long Largest)? Range(string type) => type switch
    {
        "UINT8" => (byte.MinValue, byte.MaxValue),
        "INT8" => (sbyte.MinValue, sbyte.MaxValue),
        "UINT16" => (ushort.MinValue, ushort.MaxValue),
        "INT16" => (short.MinValue, short.MaxValue),
        "UINT32" or "UINT64" => (0, uint.MaxValue),
        "INT32" or "INT64" => (int.MinValue, int.MaxValue),
        _ => null,
    };
}

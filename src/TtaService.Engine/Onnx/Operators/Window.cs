namespace TtaService.Engine.Onnx.Operators;

/// <summary>Strides, dilations and pads of a convolution or pooling node, auto_pad included.</summary>
internal sealed class Window
{
    private readonly string _autoPad;
    private readonly long[]? _strides;
    private readonly long[]? _dilations;
    private readonly long[]? _pads;

    public Window(Node node, long[]? kernel)
    {
        _autoPad = node.Text("auto_pad", "NOTSET");
        _strides = node.Ints("strides");
        _dilations = node.Ints("dilations");
        _pads = node.Ints("pads");
        Kernel = node.Ints("kernel_shape") ?? kernel;
        if (_autoPad is not ("NOTSET" or "VALID" or "SAME_UPPER" or "SAME_LOWER"))
        {
            node.Refuse($"auto_pad '{_autoPad}' is not known");
        }

        if (_pads?.Any(pad => pad < 0) == true)
        {
            node.Refuse("negative pads are not supported");
        }
    }

    public long[]? Kernel { get; }

    public long[] Strides(int rank) => _strides ?? Ones(rank);

    public long[] Dilations(int rank) => _dilations ?? Ones(rank);

    /// <summary>ONNX order: all begins, then all ends.</summary>
    public long[] Pads(long[] input, long[] kernel)
    {
        var rank = input.Length;
        var pads = new long[2 * rank];
        if (_autoPad is "NOTSET")
        {
            return _pads ?? pads;
        }

        if (_autoPad is "VALID")
        {
            return pads;
        }

        var (strides, dilations) = (Strides(rank), Dilations(rank));
        for (var i = 0; i < rank; i++)
        {
            var output = (input[i] + strides[i] - 1) / strides[i];
            var total = Math.Max(0, ((output - 1) * strides[i]) + ((kernel[i] - 1) * dilations[i]) + 1 - input[i]);
            pads[i] = _autoPad == "SAME_UPPER" ? total / 2 : total - (total / 2);
            pads[i + rank] = total - pads[i];
        }

        return pads;
    }

    public long TransposedSize(int axis, long input, long full)
    {
        var rank = _strides?.Length ?? _pads?.Length / 2 ?? 2;
        return _autoPad is "SAME_UPPER" or "SAME_LOWER"
            ? input * Strides(rank)[axis]
            : full - (_pads is { } pads ? pads[axis] + pads[axis + (pads.Length / 2)] : 0);
    }

    public long TransposedBegin(int axis, long cut) => _autoPad switch
    {
        "SAME_UPPER" => cut / 2,
        "SAME_LOWER" => cut - (cut / 2),
        _ => _pads is { } pads ? pads[axis] : cut / 2,
    };

    /// <summary>torch order: last axis first, begin and end beside each other.</summary>
    public static long[] TorchPads(long[] pads)
    {
        var rank = pads.Length / 2;
        var torch = new long[2 * rank];
        for (var i = 0; i < rank; i++)
        {
            torch[2 * (rank - 1 - i)] = pads[i];
            torch[(2 * (rank - 1 - i)) + 1] = pads[i + rank];
        }

        return torch;
    }

    private static long[] Ones(int rank) => [.. Enumerable.Repeat(1L, rank)];
}

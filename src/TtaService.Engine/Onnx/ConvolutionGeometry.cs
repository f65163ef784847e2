using TtaService.Engine.Onnx.Operators;

namespace TtaService.Engine.Onnx;

/// <summary>Strides, padding (the same at both ends), dilations and groups of a 2-D convolution.</summary>
internal readonly record struct ConvolutionGeometry(long StrideY, long StrideX, long PadY, long PadX, long DilationY, long DilationX, long Groups)
{
    /// <summary>The geometry of a Conv node; null when it is not 2-D, depends on the input's size, pads its two ends differently, or is none that torch runs.</summary>
    public static ConvolutionGeometry? Of(Node node)
    {
        if (node.Constant(1)?.shape is not { Length: 4 } weight || node.Text("auto_pad", "NOTSET") is not ("NOTSET" or "VALID"))
        {
            return null;
        }

        var window = new Window(node, weight[2..]);
        var (strides, dilations, pads) = (window.Strides(2), window.Dilations(2), window.Pads([0, 0], weight[2..]));
        var groups = node.Int("group", 1);
        // What torch refuses is left to it: oneDNN divides by some of these.
        long[] factors = [.. strides, .. dilations, groups, .. weight];
        return pads[0] == pads[2] && pads[1] == pads[3] && factors.All(factor => factor > 0) && weight[0] % groups == 0
            ? new ConvolutionGeometry(strides[0], strides[1], pads[0], pads[1], dilations[0], dilations[1], groups)
            : null;
    }
}

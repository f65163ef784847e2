using TorchSharp;
using TtaService.Engine.Onnx.Operators;
using static TorchSharp.torch;

namespace TtaService.Engine.Onnx;

/// <summary>A 2-D convolution that owns its weight, in the layout that oneDNN reads. Not thread-safe.</summary>
/// <remarks>torch's conv2d lays the weight anew at every call: a seventh of the time of a ResNet's pass of one frame (Benchmarks, pass).</remarks>
internal sealed class PackedConvolution(PackedConvolutions owner, ConvolutionScript script, Kernel kernel, Tensor weight, Tensor? bias) : IDisposable
{
    // In multiplications a frame. Asking oneDNN directly takes some 30 us more than conv2d, which runs small convolutions otherwise.
    private const long LeastWork = 4_000_000;

    private readonly long[] _shape = weight.shape;
    private Tensor _weight = weight;
    private bool _decided;
    private bool _packed;

    /// <summary>Convolves x [B,C,H,W], float32, C as the weight's.</summary>
    public Tensor Run(Tensor x)
    {
        if (!_decided && !owner.Deferred)
        {
            Decide(x.shape);
        }

        return _packed ? script.Run(x, _weight, bias ?? _weight) : kernel([x, _weight, bias])[0];
    }

    public void Dispose() => _weight.Dispose();

    // The layout depends on the size of the frames, which the first of them shows, not on their number. Other sizes run, too, if slower.
    private void Decide(long[] input)
    {
        var geometry = script.Geometry;
        _decided = true;
        if (input.Length != 4 || input[1] != _shape[1] * geometry.Groups || _weight.numel() * (input[2] / geometry.StrideY) * (input[3] / geometry.StrideX) < LeastWork)
        {
            return;
        }

        var packed = script.Pack(_weight, input).DetachFromDisposeScope();
        _weight.Dispose();
        (_weight, _packed) = (packed, true);
    }
}

using TorchSharp;
using TtaService.Engine.Onnx.Operators;
using static TorchSharp.torch;

namespace TtaService.Engine.Onnx;

/// <summary>The packed convolutions of a model, which share the scripts of their geometries.</summary>
internal sealed class PackedConvolutions : IDisposable
{
    private readonly Dictionary<(ConvolutionGeometry Geometry, bool HasBias), ConvolutionScript> _scripts = [];
    private readonly List<PackedConvolution> _convolutions = [];

    /// <summary>While set, frames do not decide on layouts yet: theirs is not the size of those that will come.</summary>
    public bool Deferred { get; set; }

    /// <summary>A convolution that owns the weight (channels-last) and reads the bias.</summary>
    public PackedConvolution Add(ConvolutionGeometry geometry, Kernel kernel, Tensor weight, Tensor? bias)
    {
        var key = (geometry, bias is not null);
        if (!_scripts.TryGetValue(key, out var script))
        {
            _scripts.Add(key, script = new ConvolutionScript(geometry, bias is not null));
        }

        var convolution = new PackedConvolution(this, script, kernel, weight.DetachFromDisposeScope(), bias);
        _convolutions.Add(convolution);
        return convolution;
    }

    public void Dispose()
    {
        foreach (var convolution in _convolutions)
        {
            convolution.Dispose();
        }

        foreach (var script in _scripts.Values)
        {
            script.Dispose();
        }

        _convolutions.Clear();
        _scripts.Clear();
    }
}

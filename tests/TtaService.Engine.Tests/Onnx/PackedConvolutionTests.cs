using TorchSharp;
using TtaService.Engine.Onnx;
using TtaService.Engine.Onnx.Operators;
using TtaService.Engine.Onnx.Wire;
using static TorchSharp.torch;
using static TtaService.Engine.Tests.Onnx.OnnxFiles;

namespace TtaService.Engine.Tests.Onnx;

/// <summary>Packed convolutions against torch's own.</summary>
public sealed class PackedConvolutionTests : IDisposable
{
    private static readonly Kernel Unreachable = _ => throw new InvalidOperationException("fell back to conv2d");

    private readonly DisposeScope _scope = NewDisposeScope();
    private readonly PackedConvolutions _convolutions = new();

    public static TheoryData<long, long, long, long, long, long> Geometries { get; } = new()
    {
        { 64, 3, 1, 1, 1, 1 },
        { 64, 3, 2, 1, 1, 1 },
        { 64, 3, 1, 2, 2, 1 },
        { 64, 1, 1, 0, 1, 1 },
        { 64, 5, 3, 2, 1, 1 },
        { 64, 3, 1, 1, 1, 4 },
        { 3, 7, 2, 3, 1, 1 },
        { 64, 3, 1, 1, 1, 64 },
    };

    [Theory]
    [MemberData(nameof(Geometries))]
    public void Run_AnySizeAndNumberOfFrames_AgreesWithTorch(long channels, long kernel, long stride, long padding, long dilation, long groups)
    {
        Assert.SkipUnless(ConvolutionScript.Supported, "oneDNN's operators are reached on Linux x64 only");
        var weight = randn(128, channels / groups, kernel, kernel);
        foreach (var bias in new[] { null, randn(128) })
        {
            var geometry = new ConvolutionGeometry(stride, stride, padding, padding, dilation, dilation, groups);
            var convolution = _convolutions.Add(geometry, Unreachable, weight.clone(), bias);

            // The first size decides the layout; the others must run with it.
            foreach (var (frames, height, width) in new[] { (1, 112, 112), (5, 112, 112), (2, 97, 130), (1, 9, 9) })
            {
                var x = randn(frames, channels, height, width);

                var y = convolution.Run(x);

                var expected = nn.functional.conv2d(x, weight, bias, [stride, stride], [padding, padding], [dilation, dilation], groups);
                Assert.Equal(expected.shape, y.shape);
                var difference = ((y - expected).abs().max() / expected.abs().max()).item<float>();
                Assert.True(difference < 1e-5, $"{frames} frames of {height}x{width}: {difference}");
            }
        }
    }

    [Fact]
    public void Run_SmallFrames_LeavesItToTorch()
    {
        var asked = 0;
        var convolution = _convolutions.Add(new ConvolutionGeometry(1, 1, 1, 1, 1, 1, 1), inputs => [inputs[0]! + ++asked], randn(16, 16, 3, 3), null);

        convolution.Run(zeros(1, 16, 28, 28));
        convolution.Run(zeros(4, 16, 28, 28));

        Assert.Equal(2, asked);
    }

    [Fact]
    public void Run_NotANumber_IsPassedOn()
    {
        Assert.SkipUnless(ConvolutionScript.Supported, "oneDNN's operators are reached on Linux x64 only");
        var convolution = _convolutions.Add(new ConvolutionGeometry(1, 1, 1, 1, 1, 1, 1), Unreachable, randn(64, 64, 3, 3), null);
        var x = zeros(2, 64, 56, 56);
        x[1, 3, 5, 5] = float.NaN;

        var y = convolution.Run(x);

        Assert.False(y[0].isnan().any().item<bool>());
        Assert.True(y[1].isnan().any().item<bool>());
    }

    [Theory]
    [InlineData("strides", new long[] { 0, 1 })]
    [InlineData("dilations", new long[] { 1, 0 })]
    [InlineData("pads", new long[] { 0, 1, 2, 1 })]
    [InlineData("group", new long[] { 0 })]
    [InlineData("group", new long[] { 7 })]
    public void Of_WhatTorchMustRefuseOrPad_IsNone(string attribute, long[] values)
    {
        var proto = new AttributeProto { Name = attribute, I = values[0] };
        proto.Ints.Add(values);
        var constants = new Dictionary<string, Tensor> { ["w"] = zeros(4, 4, 3, 3) };

        Assert.Null(ConvolutionGeometry.Of(new Node(Node("Conv", ["x", "w"], "y", proto), 17, constants, [])));
        Assert.NotNull(ConvolutionGeometry.Of(new Node(Node("Conv", ["x", "w"], "y"), 17, constants, [])));
    }

    public void Dispose()
    {
        _convolutions.Dispose();
        _scope.Dispose();
    }
}

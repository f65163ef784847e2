using TtaService.Engine.Tensors;
using static TorchSharp.torch;

namespace TtaService.Engine.Tests.Tensors;

/// <summary>What torch would end the process for is an exception.</summary>
public sealed class MatrixProductTests
{
    [Theory]
    [InlineData(new long[] { 64, 8 }, new long[] { 1, 1 })]
    [InlineData(new long[] { 2, 3 }, new long[] { 2 })]
    [InlineData(new long[] { 3 }, new long[] { 2, 4 })]
    [InlineData(new long[] { 2, 3, 4 }, new long[] { 3, 4, 5 })]
    [InlineData(new long[] { }, new long[] { 2, 2 })]
    public void Of_ShapesThatDoNotFit_AreRefused(long[] left, long[] right)
    {
        using var a = ones(left);
        using var b = ones(right);

        Assert.Throws<ArgumentException>(() => MatrixProduct.Of(a, b));
    }

    [Fact]
    public void Of_TypesThatDiffer_AreRefused()
    {
        using var a = ones(2, 2);
        using var b = ones(2, 2, dtype: ScalarType.Float64);

        Assert.Throws<ArgumentException>(() => MatrixProduct.Of(a, b));
    }

    [Theory]
    [InlineData(new long[] { 2, 3 }, new long[] { 3, 4 }, new long[] { 2, 4 })]
    [InlineData(new long[] { 5, 1, 2, 3 }, new long[] { 7, 3, 4 }, new long[] { 5, 7, 2, 4 })]
    [InlineData(new long[] { 3 }, new long[] { 3 }, new long[] { })]
    [InlineData(new long[] { 2, 3 }, new long[] { 3 }, new long[] { 2 })]
    [InlineData(new long[] { 3 }, new long[] { 6, 3, 2 }, new long[] { 6, 2 })]
    public void Of_ShapesThatFit_AreMultiplied(long[] left, long[] right, long[] expected)
    {
        using var a = ones(left);
        using var b = ones(right);

        using var product = MatrixProduct.Of(a, b);

        Assert.Equal(expected, product.shape);
        Assert.All(product.data<float>().ToArray(), value => Assert.Equal(3, value));
    }
}

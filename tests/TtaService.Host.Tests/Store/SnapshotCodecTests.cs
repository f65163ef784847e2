using TtaService.Engine.Normalization;
using TtaService.Engine.Streams;
using TtaService.Serving.Store;

namespace TtaService.Host.Tests.Store;

public sealed class SnapshotCodecTests
{
    private const string Model = "digest";
    private static readonly NormalizationSite Site = new(0, "bn", 1e-5f, 0.1f, [1, 1, 1, 1], [0, 0, 0, 0], [0.5f, -2, 0, 10], [1, 0.5f, 2, 4]);

    private static SnapshotCodec Codec { get; } = new(SnapshotEncoding.Float16Delta, model => model == Model ? [Site] : null);

    [Theory]
    [InlineData("bn.observed_mean", 1e-4)]
    [InlineData("bn.observed_mean", 1e4)]
    [InlineData("bn.observed_var", 1.0)]
    [InlineData("bn.observed_var", 1e-6)]
    [InlineData("bn.observed_var", 1e6)]
    [InlineData("bn.observed_std", 1e-3)]
    [InlineData("bn.of_no_site", 3.0)]
    public void Decode_WhatWasEncoded_IsWithinTheHalfPrecisionOfTheValues(string name, double scale)
    {
        var random = new Random(1);
        float[] values = [.. Enumerable.Range(0, 400).Select(_ => (float)(scale * (0.5 + random.NextDouble())))];

        var back = RoundTrip(name, values);

        Assert.All(values.Zip(back), pair => Assert.InRange(pair.Second / pair.First, 1 - (1.01f / 2048), 1 + (1.01f / 2048)));
    }

    [Fact]
    public void Decode_VariancesFarBelowTheSource_KeepTheirRelativePrecision()
    {
        float[] values = [1e-4f, 3e-5f, 2e-4f, 7e-5f, 1.1f, 0.4f, 1.9f, 4.2f];

        var back = RoundTrip("bn.feature_var", values);

        Assert.All(values.Zip(back), pair => Assert.InRange(pair.Second / pair.First, 1 - (1 / 2048f), 1 + (1 / 2048f)));
    }

    [Fact]
    public void Decode_SourceItself_IsExact() => Assert.Equal(Site.Variance, RoundTrip("bn.component_var", Site.Variance));

    private static float[] RoundTrip(string name, float[] values)
    {
        var plain = Safetensors.Write(new Dictionary<string, string> { ["model"] = Model }, [(name, [values.Length / 4, 4], values)]);
        var encoded = Codec.Encode(plain);
        Assert.NotEqual(plain, encoded);
        var decoded = Codec.Decode(encoded);
        var back = new float[values.Length];
        Safetensors.Read(decoded).CopyTo(decoded, name, back);
        return back;
    }
}

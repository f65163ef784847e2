using System.Text.Json.Nodes;
using TtaService.Engine.Normalization;

namespace TtaService.Engine.Tests.Normalization;

/// <summary>The small worked example of two frames, two channels and 2x2 pixels: float64 results of the published formulas.</summary>
/// <summary>The SIMD path of the CPU.</summary>
public sealed class HostMethodFormulaTests() : MethodFormulaTests(onDevice: false);

/// <summary>The path of other devices, in torch operators, on the CPU.</summary>
public sealed class DeviceMethodFormulaTests() : MethodFormulaTests(onDevice: true);

public abstract class MethodFormulaTests(bool onDevice)
{
    private static readonly NormalizationSite Site = new(0, "site", 1e-5f, 0.1f, [2, 0.5f], [0, 1], [1, -1], [4, 1]);
    private static readonly long[] Shape = [2, 2, 2, 2];
    private static readonly float[] X = [0, 1, 2, 3, -2, -2, 0, 2, 4, 4, 6, 2, 1, 3, 1, -1];

    [Theory]
    [InlineData("source", "{}", -0.9999987500, 0.5000025000)]
    [InlineData("tbn", """{"min_frames":2}""", -3.0806113525, 0.3436086555)]
    [InlineData("alpha_bn", "{}", -1.1802794368, 0.4939869285)]
    [InlineData("alpha_bn", """{"variance":"biased"}""", -1.1871170130, 0.4851697992)]
    [InlineData("prior", "{}", -1.2081544106, 0.4834506788)]
    public void Output_WorkedExample_EqualsPublishedFormula(string method, string hyperparameters, double first, double second)
    {
        using var runner = new SiteRunner(Site, method, (JsonObject)JsonNode.Parse(hyperparameters)!) { OnDevice = onDevice };
        var y = runner.Step(X, Shape);
        Assert.Equal(first, y[0], 1e-5);
        Assert.Equal(second, y[4], 1e-5);
    }

    [Fact]
    public void Ema_OneStepAtFixedRate_HoldsPublishedStatistics()
    {
        using var runner = new SiteRunner(Site, "ema", new JsonObject { ["reference_frames"] = 0 }) { OnDevice = onDevice };
        runner.Step(X, Shape);
        Close.Assert([1.0875f, -0.9375f], runner.State("ema_mean"), 1e-6, "mean");
        Close.Assert([3.959375f, 1.096875f], runner.State("ema_var"), 1e-6, "variance");
    }

    [Fact]
    public void Tbr_FirstStep_EqualsTbnAndSeedsTheState()
    {
        using var tbr = new SiteRunner(Site, "tbr") { OnDevice = onDevice };
        using var tbn = new SiteRunner(Site, "tbn", new JsonObject { ["min_frames"] = 2 }) { OnDevice = onDevice };
        Close.Assert(tbn.Step(X, Shape), tbr.Step(X, Shape), 1e-5, "output");
        Close.Assert([2.75f, 0.25f], tbr.State("tbr_mean"), 1e-6, "mean");
        Close.Assert([1.7853599077f, 1.7139165674f], tbr.State("tbr_std"), 1e-6, "standard deviation");
    }

    [Fact]
    public void Tbr_SecondStep_UsesTheStateBeforeItsOwnFrames()
    {
        using var runner = new SiteRunner(Site, "tbr", new JsonObject { ["reference_frames"] = 0 }) { OnDevice = onDevice };
        runner.Step(X, Shape);
        float[] shifted = [.. X.Select(value => value + 10)];
        var y = runner.Step(shifted, Shape);
        Assert.Equal((10 - 2.75) / 1.7853599077 * 2, y[0], 1e-4);
        Close.Assert([(0.95f * 2.75f) + (0.05f * 12.75f), (0.95f * 0.25f) + (0.05f * 10.25f)], runner.State("tbr_mean"), 1e-5, "mean");
    }

    [Theory]
    [InlineData(1, 1, -1, 4, 2.8501619208, 2.9999987501, 0.4999975000, 4, 1.8501619208)]
    [InlineData(4, 1, -1, 4, 1, 1, -1, 4, 1)]
    public void Iabn_WorkedExample_CorrectsBeyondTheThreshold(int k, double m00, double m01, double v00, double v01, double m10, double m11, double v10, double v11)
    {
        using var runner = new SiteRunner(Site, "iabn", new JsonObject { ["threshold"] = k }) { OnDevice = onDevice };
        var y = runner.Step(X, Shape);
        Assert.Equal((0 - m00) / Math.Sqrt(v00 + 1e-5) * 2, y[0], 1e-4);
        Assert.Equal(((-2 - m01) / Math.Sqrt(v01 + 1e-5) * 0.5) + 1, y[4], 1e-4);
        Assert.Equal((4 - m10) / Math.Sqrt(v10 + 1e-5) * 2, y[8], 1e-4);
        Assert.Equal(((1 - m11) / Math.Sqrt(v11 + 1e-5) * 0.5) + 1, y[12], 1e-4);
    }

    [Fact]
    public void UnmixTns_WorkedExample_EqualsReference()
    {
        // lam 0.1: two frames, counted as the reference batch.
        using var runner = new SiteRunner(Site, "unmix_tns", new JsonObject { ["components"] = 2, ["batch_size"] = 64 }) { OnDevice = onDevice };
        new float[] { 2, -2, 0, 0.5f }.CopyTo(runner.State("component_mean"));
        new float[] { 2, 0.5f, 2, 0.5f }.CopyTo(runner.State("component_var"));
        var y = runner.Step(X, Shape);
        Close.Assert([-1.0141828346f, 0.3380608893f, 1.6903046132f, 3.0425483370f], y.AsSpan(0, 4), 2e-5, "row 0");
        Close.Assert([1.6495924740f, 1.6495924740f, 3.3159579677f, -0.0167730197f], y.AsSpan(8, 4), 2e-5, "row 1");
        Close.Assert([2.0729868746f, -1.7780196915f, 0.0040262546f, 0.5005032800f], runner.State("component_mean"), 1e-6, "means");
        Close.Assert([1.9625000012f, 0.6859901519f, 1.9999999988f, 0.5015098481f], runner.State("component_var"), 1e-6, "variances");
        // From even shares, two frames of a window of 128.
        Assert.Equal(1, runner.State("component_occupancy").ToArray().Sum(), 1e-5);
        Assert.InRange(runner.State("component_occupancy")[0], 0.5f, 0.5f + (0.5f * 2 / 128));
    }

    [Theory]
    [InlineData(2)]
    [InlineData(16)]
    [InlineData(128)]
    public void UnmixTns_MatchedInitial_MixtureEqualsTheSource(int k)
    {
        using var runner = new SiteRunner(Site, "unmix_tns", new JsonObject { ["components"] = k }, seed: 7) { OnDevice = onDevice };
        var means = runner.State("component_mean").ToArray();
        var variances = runner.State("component_var").ToArray();
        for (var c = 0; c < 2; c++)
        {
            double[] own = [.. Enumerable.Range(0, k).Select(i => (double)means[(2 * i) + c])];
            var mean = own.Average();
            var variance = Enumerable.Range(0, k).Average(i => variances[(2 * i) + c]) + own.Average(value => (value - mean) * (value - mean));
            Assert.Equal(Site.Mean[c], mean, 1e-5);
            Assert.Equal(Site.Variance[c], variance, 1e-4);
        }
    }

    [Fact]
    public void UnmixTns_Initial_DependsOnSeedAlone()
    {
        using var one = new SiteRunner(Site, "unmix_tns", seed: 1) { OnDevice = onDevice };
        using var again = new SiteRunner(Site, "unmix_tns", seed: 1) { OnDevice = onDevice };
        using var two = new SiteRunner(Site, "unmix_tns", seed: 2) { OnDevice = onDevice };
        Assert.Equal(one.State("component_mean").ToArray(), again.State("component_mean").ToArray());
        Assert.NotEqual(one.State("component_mean").ToArray(), two.State("component_mean").ToArray());
    }

    [Theory]
    [InlineData(0.4, 1, 0.3981)]
    [InlineData(0.4, 10, 0.1067)]
    [InlineData(0.4, 100, 0.0418)]
    [InlineData(0.7, 1, 0.1995)]
    [InlineData(0.7, 10, 0.1063)]
    [InlineData(0.7, 100, 0.0711)]
    [InlineData(0.0, 8, 0.125)]
    [InlineData(1.0, 50, 0.1)]
    public void Adaptive_ClockOfWholeTicks_EqualsTheRecursion(double kappa, int tick, double eta)
    {
        var method = new Adaptive(MethodSettings.Create("adaptive", new JsonObject { ["kappa"] = kappa, ["floor"] = 0, ["prior_frames"] = 0 }));
        Assert.Equal(eta, method.Eta(64L * (tick - 1)), 1e-4);
    }

    [Theory]
    [InlineData("alpha_bn")]
    [InlineData("unmix_tns")]
    [InlineData("iabn")]
    public void Method_SiteOverVectors_KeepsTheSource(string method)
    {
        using var runner = new SiteRunner(Site, method) { OnDevice = onDevice };
        using var source = new SiteRunner(Site, "source") { OnDevice = onDevice };
        float[] x = [0.5f, 2, -3, 1];
        Close.Assert(source.Step(x, [2, 2]), runner.Step(x, [2, 2]), 1e-6, method);
    }

    [Theory]
    [InlineData("tbn")]
    [InlineData("alpha_bn")]
    [InlineData("prior")]
    [InlineData("ema")]
    [InlineData("tbr")]
    [InlineData("adaptive")]
    [InlineData("unmix_tns")]
    [InlineData("iabn")]
    public void Method_OneFrameOfOnePixel_StaysFinite(string method)
    {
        using var runner = new SiteRunner(Site, method, method == "tbn" ? new JsonObject { ["min_frames"] = 1 } : null) { OnDevice = onDevice };
        for (var step = 0; step < 5; step++)
        {
            Assert.All(runner.Step([step, 1 - step], [1, 2, 1, 1]), value => Assert.True(float.IsFinite(value) && MathF.Abs(value) < 1e4f, $"{value}"));
        }
    }
}

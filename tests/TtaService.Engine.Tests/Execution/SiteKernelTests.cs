using System.Globalization;
using TtaService.Engine.Execution;
using TtaService.Engine.Normalization;
using TtaService.Engine.Onnx;
using TtaService.Evaluation;

namespace TtaService.Engine.Tests.Execution;

public sealed unsafe class SiteKernelTests
{
    public static TheoryData<int, int> Shapes => new MatrixTheoryData<int, int>([1, 3, 49, 300], [1, 3, 4, 8, 15, 16, 31, 33, 64, 100]);

    [Theory]
    [MemberData(nameof(Shapes))]
    public void Lanes_EveryWidth_GivesTheSameSums(int pixels, int channels)
    {
        var x = Random(pixels * channels, 1);
        var expected = Sums<SingleLane>(x, pixels, channels);
        Assert.Equal(expected, Sums<Lanes128>(x, pixels, channels));
        Assert.Equal(expected, Sums<Lanes256>(x, pixels, channels));
        Assert.Equal(expected, Sums<Lanes512>(x, pixels, channels));
    }

    [Theory]
    [MemberData(nameof(Shapes))]
    public void Lanes_EveryWidth_AppliesTheSame(int pixels, int channels)
    {
        var x = Random(pixels * channels, 2);
        var residual = Random(pixels * channels, 3);
        foreach (var epilogue in new[] { Epilogue.None, Epilogue.Relu, new Epilogue(0, 0.5f) })
        {
            var expected = Apply<SingleLane>(x, residual, pixels, channels, epilogue);
            Assert.Equal(expected, Apply<Lanes128>(x, residual, pixels, channels, epilogue));
            Assert.Equal(expected, Apply<Lanes256>(x, residual, pixels, channels, epilogue));
            Assert.Equal(expected, Apply<Lanes512>(x, residual, pixels, channels, epilogue));
        }
    }

    [Theory]
    [MemberData(nameof(Shapes))]
    public void Statistics_BothLayouts_AgreeWithDoublePrecision(int pixels, int channels)
    {
        var x = Random(pixels * channels, 4, offset: 30, spread: 0.2f);
        var transposed = new float[x.Length];
        var (mean, variance) = (new float[channels], new float[channels]);
        var (mean2, variance2) = (new float[channels], new float[channels]);
        for (var p = 0; p < pixels; p++)
        {
            for (var c = 0; c < channels; c++)
            {
                transposed[(c * pixels) + p] = x[(p * channels) + c];
            }
        }

        fixed (float* px = x, pt = transposed, pm = mean, pv = variance, pm2 = mean2, pv2 = variance2)
        {
            SiteKernels.StatisticsChannelsLast(px, pixels, channels, pm, pv);
            SiteKernels.StatisticsChannelsFirst(pt, pixels, channels, pm2, pv2);
        }

        for (var c = 0; c < channels; c++)
        {
            double[] values = [.. Enumerable.Range(0, pixels).Select(p => (double)x[(p * channels) + c])];
            var expected = values.Average();
            Assert.Equal(expected, mean[c], 1e-5);
            Assert.Equal(expected, mean2[c], 1e-5);
            Assert.Equal(values.Average(v => (v - expected) * (v - expected)), variance[c], 1e-6);
            Assert.Equal(values.Average(v => (v - expected) * (v - expected)), variance2[c], 1e-6);
        }
    }

    /// <summary>Large maps, odd channel counts (every vector width and its tail), and pictures in which a running sum loses its digits: far means, outliers first, bright
    /// corners, steps and ramps.
    /// TTA_LARGEST_MAP=3840x2160 goes further than the default.</summary>
    [Theory]
    [InlineData("noise")]
    [InlineData("first pixel 300 deviations off")]
    [InlineData("first pixels 300 deviations off")]
    [InlineData("even, 200 with noise of 1")]
    [InlineData("dark with a white corner")]
    [InlineData("half dark, half bright")]
    [InlineData("ramp")]
    [InlineData("last pixel 300 deviations off")]
    public void Statistics_LargeMapsOfEveryKind_AgreeWithDoublePrecision(string picture)
    {
        string[] largest = (Environment.GetEnvironmentVariable("TTA_LARGEST_MAP") is { Length: > 0 } given ? given : "640x480").Split('x');
        var (width, height) = (int.Parse(largest[0], CultureInfo.InvariantCulture), int.Parse(largest[1], CultureInfo.InvariantCulture));
        foreach (var (w, h, channels) in new[] { (4, 4, 31), (16, 16, 31), (17, 16, 31), (64, 64, 31), (112, 112, 63), (512, 512, 3), (1024, 1024, 1), (width, height, 7) })
        {
            var x = Paint(picture, w, h, channels);
            var (mean, variance, mean2, variance2) = (new float[channels], new float[channels], new float[channels], new float[channels]);
            var transposed = new float[x.Length];
            var pixels = w * h;
            for (var c = 0; c < channels; c++)
            {
                for (var p = 0; p < pixels; p++)
                {
                    transposed[(c * pixels) + p] = x[(p * channels) + c];
                }
            }

            fixed (float* px = x, pt = transposed, pm = mean, pv = variance, pm2 = mean2, pv2 = variance2)
            {
                SiteKernels.StatisticsChannelsLast(px, pixels, channels, pm, pv);
                SiteKernels.StatisticsChannelsFirst(pt, pixels, channels, pm2, pv2);
            }

            using var scope = TorchSharp.torch.NewDisposeScope();
            var (variance3, mean3) = TorchSharp.torch.tensor(x, [pixels, channels]).transpose(0, 1).var_mean([1L], unbiased: false);
            for (var c = 0; c < channels; c++)
            {
                double sum = 0, squares = 0;
                for (var p = 0; p < pixels; p++)
                {
                    sum += transposed[(c * pixels) + p];
                }

                sum /= pixels;
                for (var p = 0; p < pixels; p++)
                {
                    squares += (transposed[(c * pixels) + p] - sum) * (transposed[(c * pixels) + p] - sum);
                }

                squares /= pixels;
                var what = $"{w}x{h}, {channels} channels, channel {c}";
                // A float32 mean of 200 has a resolution of 1.5e-5 itself.
                var meanLimit = (1e-4 * Math.Sqrt(squares)) + (Math.Abs(sum) * 1.2e-7);
                Within(what + " channels last", mean[c], variance[c]);
                Within(what + " channels first", mean2[c], variance2[c]);
                Within(what + " torch operators", mean3.data<float>()[c], variance3.data<float>()[c]);

                void Within(string kernel, float m, float v) => Assert.True(
                    Math.Abs(v - squares) <= 1e-4 * squares && Math.Abs(m - sum) <= meanLimit,
                    FormattableString.Invariant($"{kernel}: mean {m:R} for {sum:R}, variance {v:R} for {squares:R}, off by {Math.Abs(v - squares) / squares:0.0e+0}"));
            }
        }
    }

    private static float[] Paint(string picture, int width, int height, int channels)
    {
        var random = new Random(3);
        var x = new float[width * height * channels];
        for (var p = 0; p < width * height; p++)
        {
            for (var c = 0; c < channels; c++)
            {
                var noise = (float)random.NextNormal();
                x[(p * channels) + c] = picture switch
                {
                    "first pixel 300 deviations off" => p == 0 ? 300 : noise,
                    "first pixels 300 deviations off" => p < 8 ? 300 : noise,
                    "last pixel 300 deviations off" => p == (width * height) - 1 ? -300 : noise,
                    "even, 200 with noise of 1" => 200 + noise,
                    "dark with a white corner" => p % width < 8 && p / width < 8 ? 255 : 20 + noise,
                    "half dark, half bright" => (p < width * height / 2 ? 0 : 300) + noise,
                    "ramp" => (100f * p / (width * height)) + (noise / 10),
                    _ => noise,
                };
            }
        }

        return x;
    }

    [Theory]
    [InlineData(true, false)]
    [InlineData(false, false)]
    [InlineData(true, true)]
    public void Normalize_ResidualAndClampInAnyLayout_EqualPlainArithmetic(bool channelsLast, bool onDevice)
    {
        var site = new NormalizationSite(0, "s", 1e-5f, 0.1f, [2, -1, 0.5f], [0, 1, 2], [1, -1, 0], [4, 1, 2]);
        var x = Random(2 * 3 * 20, 5);
        var residual = Random(x.Length, 6);
        foreach (var threads in new[] { 1, 2, 3 })
        {
            using var runner = new SiteRunner(site, "source") { Threads = threads, OnDevice = onDevice };
            var y = runner.Step(x, [2, 3, 4, 5], channelsLast, residual, new Epilogue(0, 3));
            for (var i = 0; i < x.Length; i++)
            {
                var c = i / 20 % 3;
                var value = ((x[i] - site.Mean[c]) / Math.Sqrt(site.Variance[c] + 1e-5) * site.Weight[c]) + site.Bias[c] + residual[i];
                Assert.Equal(Math.Clamp(value, 0, 3), y[i], 1e-5);
            }
        }
    }

    [Theory]
    [InlineData("tbn")]
    [InlineData("ema")]
    [InlineData("tbr")]
    [InlineData("adaptive")]
    [InlineData("unmix_tns")]
    [InlineData("iabn")]
    public void Normalize_ThreadsLayoutsAndDevicePath_Agree(string method)
    {
        const int Channels = 37;
        var site = new NormalizationSite(0, "s", 1e-5f, 0.1f, Random(Channels, 7), Random(Channels, 8), Random(Channels, 9), [.. Random(Channels, 10).Select(v => (v * v) + 0.1f)]);
        using var plain = new SiteRunner(site, method);
        using var first = new SiteRunner(site, method);
        using var threaded = new SiteRunner(site, method) { Threads = 2 };
        using var device = new SiteRunner(site, method) { OnDevice = true };
        for (var step = 0; step < 3; step++)
        {
            var x = Random(6 * Channels * 14 * 14, 11 + step, offset: 0.3f);
            long[] shape = [6, Channels, 14, 14];
            var expected = plain.Step(x, shape);
            Close.Assert(expected, first.Step(x, shape, channelsLast: false), 1e-4, "channels first");
            Close.Assert(expected, threaded.Step(x, shape), 1e-5, "two threads");
            Close.Assert(expected, device.Step(x, shape), 1e-4, "torch operators");
        }
    }

    private static float[] Sums<T>(float[] x, int pixels, int channels)
        where T : struct, ILanes<T>
    {
        var (sums, squares) = (new float[channels], new float[channels]);
        fixed (float* px = x, ps = sums, pq = squares)
        {
            var left = SiteKernels.Sum<T>(px, px, pixels, channels, 0, ps, pq);
            Assert.Equal(channels / T.Width * T.Width, left);
            SiteKernels.Sum<SingleLane>(px, px, pixels, channels, left, ps, pq);
        }

        return [.. sums, .. squares];
    }

    private static float[] Apply<T>(float[] x, float[] residual, int pixels, int channels, Epilogue epilogue)
        where T : struct, ILanes<T>
    {
        var y = new float[x.Length];
        var (mean, scale, bias) = (Random(channels, 12), Random(channels, 13), Random(channels, 14));
        fixed (float* px = x, py = y, pr = residual, pm = mean, ps = scale, pb = bias)
        {
            var left = SiteKernels.Apply<T>(px, py, pr, pixels, channels, 0, pm, ps, pb, epilogue);
            SiteKernels.Apply<SingleLane>(px, py, pr, pixels, channels, left, pm, ps, pb, epilogue);
        }

        return y;
    }

    private static float[] Random(int length, int seed, float offset = 0, float spread = 1)
    {
        var random = new Random(seed);
        return [.. Enumerable.Range(0, length).Select(_ => offset + (spread * (float)((random.NextDouble() * 2) - 1)))];
    }
}

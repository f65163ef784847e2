using TtaService.Engine.Drift;
using TtaService.Engine.Execution;
using TtaService.Engine.Normalization;
using TtaService.Engine.Streams;

namespace TtaService.Engine.Tests.Execution;

/// <summary>The torch operators of other devices against the SIMD kernels of the CPU, on the CPU.</summary>
public sealed class DevicePathTests : IDisposable
{
    private const int Side = 32;

    private static readonly string Folder = Path.Combine(AppContext.BaseDirectory, "Data", "onnx");
    private static readonly string[] Methods = [.. MethodRegistry.BuiltIn.All.Select(method => method.Name)];

    private readonly AdaptiveModel _host = Load(new AdaptiveModelOptions());
    private readonly AdaptiveModel _device = Load(new AdaptiveModelOptions { UsesTorchOperators = true });

    [Fact]
    public void Run_EveryMethodMixedInBatches_AgreesWithTheKernels()
    {
        // More streams than the arena's first rows, so that it grows while they hold state.
        var streams = Enumerable.Range(0, 40).Select(i => (Host: Create(_host, i), Device: Create(_device, i))).ToList();
        var random = new Random(1);
        for (var round = 0; round < 5; round++)
        {
            var due = streams.Where(_ => random.Next(3) > 0).ToList();
            var frames = due.ConvertAll(_ => Frames(random, 4 + random.Next(3)));
            var frozen = due.ConvertAll(_ => random.Next(5) == 0);
            var expected = _host.Run([.. due.Select((stream, i) => new StreamStep(stream.Host, frames[i], frozen[i]))]);
            var actual = _device.Run([.. due.Select((stream, i) => new StreamStep(stream.Device, frames[i], frozen[i]))]);
            for (var i = 0; i < due.Count; i++)
            {
                Assert.Equal(StepStatus.Ok, actual[i].Status);
                Assert.Equal((expected[i].Steps, expected[i].Frames), (actual[i].Steps, actual[i].Frames));
                Close.Assert(expected[i].Outputs[0].Values, actual[i].Outputs[0].Values, 1e-3, $"{due[i].Host.Method.Name} round {round}");
            }
        }

        foreach (var (host, device) in streams)
        {
            var (expected, actual) = (Safetensors.Read(_host.Export(host, default)), Safetensors.Read(_device.Export(device, default)));
            Assert.Equal(expected.Names, actual.Names);
            foreach (var name in expected.Names)
            {
                Close.Assert(Values(_host.Export(host, default), expected, name), Values(_device.Export(device, default), actual, name), 1e-3, $"{host.Method.Name} {name}");
            }

            Assert.Equal(host.ObservedFrames, device.ObservedFrames);
        }
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Run_WhenTheDeviceFailsOnceRowsAreWritten_LeavesEveryStateAsItWas(bool atTheObservations)
    {
        // The rows are of several sizes, so that there are several writes.
        StreamState[] states = [.. new[] { "adaptive", "ema", "unmix_tns" }.Select(method => _device.CreateState(MethodSettings.Create(method)))];
        var (random, failing) = (new Random(5), (DeviceArena)(atTheObservations ? _device.Pass.Observed!.Arena : states[^1].Runtime!.Arena));
        StreamStep[] Steps(Random frames) => [.. states.Select(state => new StreamStep(state, Frames(frames, 4)))];
        _device.Run(Steps(random));
        byte[][] before = [.. states.Select(state => _device.Export(state, default))];
        var written = 0;
        foreach (var arena in states.Select(state => (DeviceArena)state.Runtime!.Arena).Append((DeviceArena)_device.Pass.Observed!.Arena).Distinct())
        {
            arena.Scattering = () => written++;
        }

        // A device that fails at this write, and at the undoing of it.
        failing.Scattering = () => throw new IOException($"after {written} writes");
        var thrown = Assert.Throws<IOException>(() => _device.Run(Steps(new Random(6))));
        failing.Scattering = null;

        Assert.NotEqual("after 0 writes", thrown.Message);
        Assert.Equal(before, states.Select(state => _device.Export(state, default)));
        Assert.All(states, state => Assert.Equal((1, 4), (state.Steps, state.Frames)));
        Assert.All(_device.Run(Steps(new Random(6))), result => Assert.Equal((StepStatus.Ok, 2), (result.Status, result.Steps)));
    }

    [Fact]
    public void Export_FromOnePath_ContinuesOnTheOther()
    {
        var random = new Random(2);
        foreach (var i in Enumerable.Range(0, Methods.Length))
        {
            var (host, device) = (Create(_host, i), Create(_device, i));
            var first = Frames(random, 4);
            _host.Run([new StreamStep(host, first)]);
            _device.Run([new StreamStep(device, first)]);
            var (moved, back) = (_device.Import(_host.Export(host, default)), _host.Import(_device.Export(device, default)));
            var next = Frames(random, 4);
            var expected = _host.Run([new StreamStep(host, next)])[0].Outputs[0].Values;
            Close.Assert(expected, _device.Run([new StreamStep(moved, next)])[0].Outputs[0].Values, 1e-3, $"{Methods[i]} on the device");
            Close.Assert(expected, _host.Run([new StreamStep(back, next)])[0].Outputs[0].Values, 1e-3, $"{Methods[i]} on the host");
        }
    }

    [Fact]
    public void Bf16_KeepsStatisticsInFloat32AndAnswersNearFloat32()
    {
        using var bf16 = Load(new AdaptiveModelOptions { Precision = Precision.Bf16 });
        var random = new Random(3);
        foreach (var i in Enumerable.Range(0, Methods.Length))
        {
            var (host, half) = (Create(_host, i), Create(bf16, i));
            for (var step = 0; step < 3; step++)
            {
                var frames = Frames(random, 4);
                var expected = _host.Run([new StreamStep(host, frames)])[0].Outputs[0].Values;
                var actual = bf16.Run([new StreamStep(half, frames)])[0].Outputs[0].Values;
                // Eight bits of mantissa: half a percent a layer, of the largest output.
                Close.Assert(expected, actual, 0.05 * expected.Max(Math.Abs), $"{Methods[i]} step {step}");
                Assert.NotEqual(expected, actual);
            }

            var snapshot = bf16.Export(half, default);
            var content = Safetensors.Read(snapshot);
            // What a stream keeps besides its sites' are counts in part, which are whole numbers.
            foreach (var name in content.Names.Where(name => !name.StartsWith("stream.", StringComparison.Ordinal)))
            {
                var values = Values(snapshot, content, name);
                if (Methods[i] == "eta" && values.AsSpan().IndexOfAnyExcept(0f) < 0)
                {
                    // It learns from sure predictions only, and this network is sure of nothing.
                    continue;
                }

                // bfloat16 values have 16 zero bits at their end.
                Assert.Contains(values, value => (BitConverter.SingleToUInt32Bits(value) & 0xFFFF) != 0);
            }
        }
    }

    public void Dispose()
    {
        _host.Dispose();
        _device.Dispose();
    }

    private static AdaptiveModel Load(AdaptiveModelOptions options) =>
        AdaptiveModel.Load(Path.Combine(Folder, "bottleneck_opset17.onnx"), options with { Observation = new ObservationOptions { Tau = 8, SourceInterval = 1 } });

    private static StreamState Create(AdaptiveModel model, int i) => model.CreateState(MethodSettings.Create(Methods[i % Methods.Length]), (ulong)i);

    private static FrameBlock Frames(Random random, int count)
    {
        var pixels = new byte[count * 3 * Side * Side];
        random.NextBytes(pixels);
        return FrameBlock.FromPixels(pixels, count, 3, Side, Side);
    }

    private static float[] Values(byte[] snapshot, Safetensors content, string name)
    {
        var values = new float[content.Shape(name).Aggregate(1, (product, extent) => product * extent)];
        content.CopyTo(snapshot, name, values);
        return values;
    }
}

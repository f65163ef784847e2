using TorchSharp;
using TtaService.Engine.Drift;
using TtaService.Engine.Execution;
using TtaService.Engine.Normalization;

namespace TtaService.Engine.Tests.Execution;

/// <summary>Counts live tensors of the whole process, so nothing else may run beside it.</summary>
[Collection(nameof(LeakTests))]
[CollectionDefinition(nameof(LeakTests), DisableParallelization = true)]
public sealed class LeakTests
{
    [Theory]
    [InlineData("bottleneck_opset17.onnx", false)]
    [InlineData("bottleneck_opset17.onnx", true)]
    [InlineData("segmenter_opset17.onnx", false)]
    [InlineData("detector_opset11.onnx", false)]
    public void Run_ManySteps_LeavesNoTensorAndNoRowBehind(string name, bool usesTorchOperators)
    {
        var options = new AdaptiveModelOptions { UsesTorchOperators = usesTorchOperators, Observation = new ObservationOptions() };
        using var model = AdaptiveModel.Load(Path.Combine(AppContext.BaseDirectory, "Data", "onnx", name), options);
        var frames = FrameBlock.FromValues(new float[4 * 3 * 32 * 32], 4, 3, 32, 32);
        var methods = MethodRegistry.BuiltIn.All.Select(method => MethodSettings.Create(method.Name)).Where(method => model.WhyUnavailable(method) is null);
        var states = methods.Select(method => model.CreateState(method)).ToList();
        List<StreamStep> batch = [.. states.Select(state => new StreamStep(state, frames))];
        // Until source has been watched enough and its folded graph is compiled.
        for (var i = 0; i < 50; i++)
        {
            model.Run(batch);
        }

        CollectGarbage();
        var (tensors, resident) = (torch.Tensor.TotalCount, model.ResidentBytes);
        for (var i = 0; i < 100; i++)
        {
            model.Run(batch);
        }

        // Fewer, when what an earlier test left is finalized only now.
        Assert.InRange(torch.Tensor.TotalCount, 0, tensors);
        Assert.Equal(resident, model.ResidentBytes);
        foreach (var state in states)
        {
            model.Release(state);
        }

        Assert.Equal(0, model.ResidentBytes);
        Assert.Equal(0, model.ResidentStreams);
    }

    [Fact]
    public void Run_TenThousandSteps_KeepsTheProcessesMemoryFlat()
    {
        Assert.SkipUnless(OperatingSystem.IsLinux(), "resident memory is read from /proc");
        using var model = AdaptiveModel.Load(Path.Combine(AppContext.BaseDirectory, "Data", "onnx", "bottleneck_opset17.onnx"));
        var state = model.CreateState(MethodSettings.Create("unmix_tns"));
        StreamStep[] batch = [new(state, FrameBlock.FromValues(new float[3 * 32 * 32], 1, 3, 32, 32))];
        Run(2000);
        var before = ResidentMebibytes();

        Run(10_000);

        Assert.InRange(ResidentMebibytes() - before, double.NegativeInfinity, 24);

        void Run(int steps)
        {
            for (var i = 0; i < steps; i++)
            {
                model.Run(batch);
            }
        }
    }

    // What other tests left to the finalizer must not count.
    private static void CollectGarbage()
    {
        GC.Collect(GC.MaxGeneration, GCCollectionMode.Aggressive);
        GC.WaitForPendingFinalizers();
        GC.Collect(GC.MaxGeneration, GCCollectionMode.Aggressive);
    }

    // Without what the collector may fill before its next collection: some MiB, by the size of the processor's cache.
    private static double ResidentMebibytes()
    {
        CollectGarbage();
        return double.Parse(File.ReadAllText("/proc/self/statm").Split(' ')[1], System.Globalization.CultureInfo.InvariantCulture) * Environment.SystemPageSize / (1 << 20);
    }
}

using TtaService.Engine.Calibration;
using TtaService.Engine.Execution;
using TtaService.Engine.Normalization;
using TtaService.Engine.Tests.Evaluation;
using TtaService.Evaluation;

namespace TtaService.Engine.Tests.Normalization.Auto;

/// <summary>Clean frames are answered no worse than by the source, in whatever order they come: on the demo's network, on which the rules were tuned, and on one with
/// depthwise convolutions and ReLU6
/// (Data/fashion-mobile), and on three without BatchNormalization (Data/without-batchnorm). TTA_CLEAN=all runs three seeds of longer streams and every step size.</summary>
public sealed class CleanOrderTests
{
    private static readonly bool All = Environment.GetEnvironmentVariable("TTA_CLEAN") == "all";
    private static readonly int[] Sizes = All ? [1, 4, 16, 64] : [4, 16];
    private static readonly int Seeds = All ? 3 : 1;
    private static readonly int Frames = All ? 1500 : 256;

    // A frame more or less is 0.4 % of the short streams.
    private static readonly double Allowed = All ? 0.5 : 1.2;

    private static readonly (string Name, StreamOrder Order, double Delta)[] Orders =
    [
        ("iid", StreamOrder.Iid, 0), ("correlated 0.1", StreamOrder.Correlated, 0.1), ("correlated 0.01", StreamOrder.Correlated, 0.01),
        ("sorted", StreamOrder.Sorted, 0), ("one class", StreamOrder.OneClass, 0), ("imbalanced", StreamOrder.Imbalanced, 0),
    ];

    [Theory]
    [InlineData("fashion-mnist")]
    [InlineData("fashion-mobile")]
    [InlineData("convnext")]
    [InlineData("vit")]
    [InlineData("groupnorm")]
    public void Run_CleanFramesInAnyOrder_AreAnsweredNoWorseThanBySource(string network)
    {
        using var model = Load(network);
        var images = LabelledImages.Open(Repository.Sample, path => throw new InvalidOperationException(path));
        var evaluator = new Evaluator(model, new EvaluationFrames(images, [new EvaluationDomain(null, 1)], 0, image => image));
        string[] methods = ["source", "auto"];
        var cells = (from order in Orders from size in Sizes select (order, size)).ToList();
        var runs = from cell in cells
                   from method in methods
                   from seed in Enumerable.Range(0, Seeds)
                   select new EvaluationRun
                   {
                       Method = MethodSettings.Create(method),
                       Samples = EvaluationPlan.Streams(images.Labels, 1, DomainSetting.Single, cell.order.Order, seed, cell.order.Delta, Frames)[0],
                       BatchSize = cell.size,
                   };
        var errors = evaluator.Run([.. runs], cancel: TestContext.Current.CancellationToken).Chunk(Seeds).Select(seeds => seeds.Average(result => result.ErrorPercent)).ToList();
        var problems = new List<string>();
        for (var i = 0; i < cells.Count; i++)
        {
            var (source, own) = (errors[2 * i], errors[(2 * i) + 1]);
            TestContext.Current.TestOutputHelper?.WriteLine($"{network}, {cells[i].order.Name}, {cells[i].size} a step: source {source:0.0} %, auto {own:0.0} %");
            if (own > source + Allowed)
            {
                problems.Add($"{cells[i].order.Name}, {cells[i].size} a step: {own:0.0} % where the source errs {source:0.0} %");
            }
        }

        Assert.True(problems.Count == 0, string.Join('\n', problems));
    }

    /// <summary>A network by its name, calibrated.</summary>
    public static AdaptiveModel Load(string network, AdaptiveModelOptions? options = null)
    {
        var data = Path.Combine(AppContext.BaseDirectory, "Data");
        return network == "fashion-mnist"
            ? Prototype.Load()
            : Calibrated(
                network == "fashion-mobile" ? Path.Combine(data, network, "model.onnx") : Path.Combine(data, "without-batchnorm", $"{network}.onnx"),
                options ?? new AdaptiveModelOptions { InputNormalization = Prototype.Input });
    }

    // On frames of its own training set's kind, without their labels.
    private static AdaptiveModel Calibrated(string path, AdaptiveModelOptions options)
    {
        using var plain = AdaptiveModel.Load(path, options with { ForCalibration = true });
        var images = LabelledImages.Open(Repository.Sample, unread => throw new InvalidOperationException(unread));
        var calibrator = new Calibrator(plain);
        for (var at = 0; at < 1024; at += 64)
        {
            byte[] pixels = [.. Enumerable.Range(at, 64).SelectMany(i => images.Read(i).Pixels)];
            calibrator.Observe(FrameBlock.FromPixels(pixels, 64, 1, Prototype.Side, Prototype.Side));
        }

        return AdaptiveModel.Load(path, options with { Calibration = calibrator.Complete(default) });
    }
}

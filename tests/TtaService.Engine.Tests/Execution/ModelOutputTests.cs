using TtaService.Engine.Drift;
using TtaService.Engine.Execution;
using TtaService.Engine.Onnx;
using TtaService.Engine.Onnx.Wire;
using TtaService.Engine.Tests.Onnx;

namespace TtaService.Engine.Tests.Execution;

/// <summary>What an output is, by how the graph ends, and what is made of its numbers.</summary>
public sealed class ModelOutputTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("tta-outputs-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Theory]
    [InlineData("Softmax", OutputKind.Probabilities)]
    [InlineData("LogSoftmax", OutputKind.LogProbabilities)]
    [InlineData("Sigmoid", OutputKind.MultiLabelProbabilities)]
    [InlineData("HardSigmoid", OutputKind.MultiLabelProbabilities)]
    [InlineData("Softmax,Identity,Reshape", OutputKind.Probabilities)]
    [InlineData("LogSoftmax,Exp", OutputKind.Probabilities)]
    [InlineData("Softmax,Log", OutputKind.LogProbabilities)]
    [InlineData("Softmax,Neg", OutputKind.Logits)]
    [InlineData("Relu", OutputKind.Logits)]
    [InlineData("ArgMax", OutputKind.Raw)]
    public void Kind_IsReadFromTheEndOfTheGraph(string ending, OutputKind expected)
    {
        using var model = AdaptiveModel.Load(Classifier(ending.Split(',')));

        model.Settle(Frames());

        Assert.Equal(expected, model.Outputs[0].Kind);
        Assert.Equal(expected == OutputKind.Raw ? null : 4, model.Scores?.Classes);
    }

    [Fact]
    public void Kind_OfASoftmaxInPieces_IsReadFromTheNodes()
    {
        var path = Classifier(["Exp"], nodes =>
        {
            nodes.Add(OnnxFiles.Node("ReduceSum", [nodes[^1].Output[0], "axes"], "sum"));
            nodes.Add(OnnxFiles.Node("Div", [nodes[^2].Output[0], "sum"], "ended"));
        });
        using var model = AdaptiveModel.Load(path);

        Assert.Equal((OutputKind.Probabilities, "the graph ends in Softmax"), (model.Outputs[0].Kind, model.Outputs[0].Reason));
    }

    [Fact]
    public void Kind_OfProbabilitiesThatNoNodeTells_IsReadFromTheNumbers()
    {
        // x^2 / sum(x^2)
        var path = Classifier(["Abs"], nodes =>
        {
            nodes.Add(OnnxFiles.Node("ReduceSum", [nodes[^1].Output[0], "axes"], "sum"));
            nodes.Add(OnnxFiles.Node("Div", [nodes[^2].Output[0], "sum"], "ended"));
        });
        using var model = AdaptiveModel.Load(path);
        Assert.Equal(OutputKind.Logits, model.Outputs[0].Kind);

        model.Settle(Frames());

        Assert.Equal(OutputKind.Probabilities, model.Scores!.Kind);
    }

    [Fact]
    public void Kind_OfAMap_IsRaw()
    {
        using var model = AdaptiveModel.Load(OnnxFiles.Write(_folder, OnnxFiles.Model(OnnxFiles.Node("Relu", ["x"], "y"))));

        model.Settle(Frames());

        Assert.Equal(OutputKind.Raw, model.Outputs[0].Kind);
        Assert.Null(model.Scores);
    }

    [Theory]
    [InlineData(3)]
    [InlineData(5)]
    public void Settle_AnotherNumberOfLabels_NamesBothSides(int labels)
    {
        using var model = AdaptiveModel.Load(Classifier(["Relu"]), new AdaptiveModelOptions { Labels = labels });

        var refused = Assert.Throws<ModelLoadException>(() => model.Settle(Frames())).Message;

        Assert.Contains($"{labels} labels", refused, StringComparison.Ordinal);
        Assert.Contains("[N,4]", refused, StringComparison.Ordinal);
    }

    [Fact]
    public void Load_KindThatTheGraphContradicts_IsRefused()
    {
        var path = Classifier(["Softmax"]);

        var refused = Assert.Throws<ModelLoadException>(
            () => AdaptiveModel.Load(path, new AdaptiveModelOptions { OutputKinds = new Dictionary<string, OutputKind> { ["ended"] = OutputKind.Logits } })).Message;

        Assert.Contains("ends in Softmax", refused, StringComparison.Ordinal);
    }

    [Fact]
    public void ToProbabilities_OfEveryKind_IsItsDefinition()
    {
        float[] logits = [1000, 1001, 999];
        double[] softmax = [.. logits.Select(x => Math.Exp(x - 1001) / logits.Sum(y => Math.Exp(y - 1001)))];

        AssertClose(softmax, Probabilities(OutputKind.Logits, logits));
        AssertClose(softmax, Probabilities(OutputKind.LogProbabilities, [.. softmax.Select(p => (float)Math.Log(p))]));
        AssertClose(softmax, Probabilities(OutputKind.Probabilities, [.. softmax.Select(p => (float)p)]));
        AssertClose([1 / (1 + Math.Exp(2)), 0.5, 1], Probabilities(OutputKind.MultiLabelLogits, [-2, 0, 200]));
        AssertClose([0.9, 0.8, 0], Probabilities(OutputKind.MultiLabelProbabilities, [0.9f, 0.8f, 0]));
        Assert.Throws<InvalidOperationException>(() => Probabilities(OutputKind.Raw, [1]));
    }

    [Fact]
    public void Entropy_OfSeveralLabels_IsTheMeanOfTheirOwn()
    {
        Assert.Equal(1, ModelOutput.Entropy(OutputKind.MultiLabelLogits, [0.5f, 0.5f]), 1e-6);
        Assert.Equal(0, ModelOutput.Entropy(OutputKind.MultiLabelProbabilities, [1, 1, 0]), 1e-6);
        Assert.Equal((-(0.25 * Math.Log2(0.25)) - (0.75 * Math.Log2(0.75))) / 2, ModelOutput.Entropy(OutputKind.MultiLabelProbabilities, [0.25f, 1]), 1e-6);
    }

    [Fact]
    public void Predictions_OfProbabilities_HaveTheFiguresOfTheirLogits()
    {
        var (logits, probabilities) = (new PredictionStatistics(16), new PredictionStatistics(16, OutputKind.Probabilities));
        var random = new Random(4);
        for (var frame = 0; frame < 50; frame++)
        {
            float[] scores = [.. Enumerable.Range(0, 5).Select(_ => 4 * random.NextSingle())];
            Assert.Equal(logits.Observe(scores), probabilities.Observe(Probabilities(OutputKind.Logits, scores)), 1e-5);
        }

        Assert.Equal(logits.Diversity, probabilities.Diversity, 1e-5);
        Assert.Equal(logits.LabelShift([0.2, 0.2, 0.2, 0.2, 0.2])!.Value, probabilities.LabelShift([0.2, 0.2, 0.2, 0.2, 0.2])!.Value, 1e-5);
    }

    [Fact]
    public void Predictions_OfSeveralLabels_ShiftByLabel()
    {
        var predictions = new PredictionStatistics(16, OutputKind.MultiLabelProbabilities);
        predictions.Observe([1, 1, 0, 0]);

        Assert.Equal(0, predictions.LabelShift([1, 1, 0, 0])!.Value, 1e-6);
        Assert.Equal(1, predictions.LabelShift([0, 0, 1, 1])!.Value, 1e-6);
        Assert.Equal(Math.Sqrt(0.25), predictions.LabelShift([1, 0, 0, 0])!.Value, 1e-6);
        Assert.Equal(0.5, predictions.Diversity, 1e-6);
    }

    private static float[] Probabilities(OutputKind kind, float[] scores)
    {
        var probabilities = new float[scores.Length];
        ModelOutput.ToProbabilities(kind, scores, probabilities);
        return probabilities;
    }

    private static void AssertClose(double[] expected, float[] actual) => Assert.All(expected.Zip(actual), pair => Assert.Equal(pair.First, pair.Second, 1e-5));

    private static FrameBlock Frames()
    {
        var random = new Random(1);
        return FrameBlock.FromValues(Enumerable.Range(0, 8).Select(_ => random.NextSingle() + 0.1f).ToArray(), 2, 1, 2, 2);
    }

    // The four values of a frame, flattened, then these operators.
    private string Classifier(string[] ending, Action<List<NodeProto>>? more = null)
    {
        var nodes = new List<NodeProto> { OnnxFiles.Node("Flatten", ["x"], "flat") };
        foreach (var operation in ending)
        {
            string[] inputs = operation == "Reshape" ? [nodes[^1].Output[0], "shape"] : [nodes[^1].Output[0]];
            nodes.Add(OnnxFiles.Node(operation, inputs, $"{operation}_{nodes.Count}".ToLowerInvariant()));
        }

        if (more is null)
        {
            nodes[^1].Output[0] = "ended";
        }
        else
        {
            more(nodes);
        }

        var model = OnnxFiles.Model([.. nodes]);
        model.Graph.Initializer.Add(Longs("shape", -1, 4));
        model.Graph.Initializer.Add(Longs("axes", 1));
        return OnnxFiles.Write(_folder, model);
    }

    private static TensorProto Longs(string name, params long[] values) =>
        new() { Name = name, Dims = { values.Length }, DataType = (int)TensorProto.Types.DataType.Int64, Int64Data = { values } };
}

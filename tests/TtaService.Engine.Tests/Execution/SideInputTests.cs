using TtaService.Engine.Execution;
using TtaService.Engine.Normalization;
using TtaService.Engine.Onnx;
using TtaService.Engine.Onnx.Wire;
using static TtaService.Engine.Tests.Onnx.OnnxFiles;

namespace TtaService.Engine.Tests.Execution;

/// <summary>Graphs that take more than an image: its size, a scale, a threshold.</summary>
public sealed class SideInputTests : IDisposable
{
    private const int Height = 6;
    private const int Width = 4;

    private readonly string _folder = Directory.CreateTempSubdirectory("tta-inputs-").FullName;

    [Fact]
    public void Inputs_ByTheNamesOfPaddleDetection_AreTheImagesSizeAndOne()
    {
        using var model = AdaptiveModel.Load(Graph(("im_shape", [-1, 2], 1), ("scale_factor", [-1, 2], 1)));

        Assert.Equal("x", model.InputName);
        Assert.Null(model.FramesPerPass);
        Assert.Contains(model.Notices, notice => notice.Contains("'im_shape' is fed the image input's height, the image input's width", StringComparison.Ordinal));
        var answer = model.Run([new StreamStep(model.CreateState(MethodSettings.Create("ema")), Frames(3))])[0];
        Assert.Equal(StepStatus.Ok, answer.Status);
        Assert.Equal([3, 3 + 4], answer.Outputs[0].Shape);
        for (var frame = 0; frame < 3; frame++)
        {
            Assert.Equal([Height, Width, 1, 1], answer.Outputs[0].OfFrame(frame)[3..].ToArray());
        }
    }

    [Fact]
    public void Inputs_ThatModelJsonFills_AreFedThat()
    {
        var options = new AdaptiveModelOptions
        {
            SideInputs = new Dictionary<string, IReadOnlyList<InputTerm>>
            {
                ["where"] = [new(InputQuantity.Width), new(InputQuantity.Constant, 0.5f), new(InputQuantity.Height)],
                ["level"] = [new(InputQuantity.Constant, 7)],
            },
        };

        using var model = AdaptiveModel.Load(Graph(("where", [-1, 3], 1), ("level", [-1, 2], 7)), options);

        var answer = model.RunSource([Frames(2)])[0];
        Assert.Equal([Width, 0.5f, Height, 7, 7], answer.OfFrame(1)[3..].ToArray());
    }

    [Fact]
    public void Input_OfAFixedBatch_IsFedAlone()
    {
        // The image's batch is free, the other's is not: a pass takes the one frame that both have.
        using var model = AdaptiveModel.Load(Graph(("orig_target_sizes", [1, 2], 7)));

        Assert.Equal(1, model.FramesPerPass);
        Assert.Equal([Width, Height], model.RunSource([Frames(3)])[0].OfFrame(2)[3..].ToArray());
    }

    [Fact]
    public void Input_OfAnUnknownName_IsRefusedWithTheSettingThatHelps()
    {
        var refusal = Assert.Throws<ModelLoadException>(() => AdaptiveModel.Load(Graph(("threshold", [-1, 1], 1)))).Message;

        Assert.Contains("input threshold [-1,1]", refusal, StringComparison.Ordinal);
        Assert.Contains("\"inputs\": [{ \"name\": \"threshold\"", refusal, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("scale_factor", 3, "takes 2 values a frame")]
    [InlineData("x", 1, "'inputs' names 'x', which is no input beside the image")]
    [InlineData("size", 1, "'inputs' names 'size'")]
    public void Values_ThatDoNotFitTheGraph_AreRefused(string name, int values, string said)
    {
        InputTerm[] terms = [.. Enumerable.Repeat(new InputTerm(InputQuantity.Height), values)];
        var options = new AdaptiveModelOptions { SideInputs = new Dictionary<string, IReadOnlyList<InputTerm>> { [name] = terms } };

        var refusal = Assert.Throws<ModelLoadException>(() => AdaptiveModel.Load(Graph(("scale_factor", [-1, 2], 1)), options)).Message;

        Assert.Contains(said, refusal, StringComparison.Ordinal);
    }

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    private static FrameBlock Frames(int count) =>
        FrameBlock.FromValues(Enumerable.Range(0, count * 3 * Height * Width).Select(i => MathF.Sin(i)).ToArray(), count, 3, Height, Width);

    // The channels' means behind a normalization, then what the other inputs, which lie before the image, are given.
    private string Graph(params (string Name, long[] Shape, int Type)[] inputs)
    {
        var means = Node("ReduceMean", ["n"], "m", new AttributeProto { Name = "axes", Ints = { 2, 3 } }, new AttributeProto { Name = "keepdims", I = 0 });
        var model = Model(
        [
            Node("BatchNormalization", ["x", "one", "zero", "zero", "one"], "n"), means,
            .. inputs.Select(input => Node("Cast", [input.Name], $"{input.Name}_f", new AttributeProto { Name = "to", I = 1 })),
            Node("Concat", ["m", .. inputs.Select(input => $"{input.Name}_f")], "y", new AttributeProto { Name = "axis", I = 1 }),
        ]);
        model.Graph.Initializer.Add([Floats("one", [3], 1, 1, 1), Floats("zero", [3], 0, 0, 0)]);
        var image = model.Graph.Input[0];
        image.Type.TensorType.Shape.Dim.Clear();
        image.Type.TensorType.Shape.Dim.Add([.. Dims([-1, 3, Height, Width])]);
        model.Graph.Input.Clear();
        foreach (var (name, shape, type) in inputs)
        {
            var other = image.Clone();
            other.Name = name;
            other.Type.TensorType.ElemType = type;
            other.Type.TensorType.Shape.Dim.Clear();
            other.Type.TensorType.Shape.Dim.Add([.. Dims(shape)]);
            model.Graph.Input.Add(other);
        }

        model.Graph.Input.Add(image);
        return Write(_folder, model);
    }

    private static IEnumerable<TensorShapeProto.Types.Dimension> Dims(long[] shape) =>
        shape.Select(extent => extent < 0 ? new TensorShapeProto.Types.Dimension { DimParam = "n" } : new TensorShapeProto.Types.Dimension { DimValue = extent });
}

using TtaService.Engine.Execution;
using TtaService.Engine.Normalization;
using TtaService.Engine.Onnx;
using TtaService.Engine.Onnx.Wire;
using static TtaService.Engine.Tests.Onnx.OnnxFiles;

namespace TtaService.Engine.Tests.Onnx;

/// <summary>Model files that can't be served: one error each, which says all that is wrong.</summary>
public sealed class BadModelTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("tta-model-").FullName;

    [Fact]
    public void Load_CutShortAnywhere_IsRefused()
    {
        var whole = File.ReadAllBytes(Path.Combine(AppContext.BaseDirectory, "Data", "onnx", "folded.onnx"));
        for (var length = 0; length < whole.Length; length += Math.Max(1, whole.Length / 97))
        {
            File.WriteAllBytes(Path.Combine(_folder, "model.onnx"), whole[..length]);
            Assert.Throws<ModelLoadException>(() => AdaptiveModel.Load(Path.Combine(_folder, "model.onnx")));
        }
    }

    [Fact]
    public void Load_FlippedBytes_LoadsOrIsRefused()
    {
        var whole = File.ReadAllBytes(Path.Combine(AppContext.BaseDirectory, "Data", "onnx", "folded.onnx"));
        var random = new Random(7);
        for (var trial = 0; trial < 200; trial++)
        {
            var bytes = whole.ToArray();
            for (var flips = 0; flips < 4; flips++)
            {
                bytes[random.Next(bytes.Length)] = (byte)random.Next(256);
            }

            File.WriteAllBytes(Path.Combine(_folder, "model.onnx"), bytes);
            try
            {
                AdaptiveModel.Load(Path.Combine(_folder, "model.onnx")).Dispose();
            }
            catch (ModelLoadException refused)
            {
                Assert.NotEmpty(refused.Message);
            }
        }
    }

    [Fact]
    public void Load_SeveralProblems_NamesAllWithTheirNodes()
    {
        var message = Refusal(Model(
            Node("StringNormalizer", ["x"], "a"),
            Node("Conv", ["a", "w"], "b", new AttributeProto { Name = "speed", I = 1 }),
            Node("Relu", ["nowhere"], "c")));

        Assert.Contains("node 'StringNormalizer_a'", message, StringComparison.Ordinal);
        Assert.Contains("attribute 'speed'", message, StringComparison.Ordinal);
        Assert.Contains("reads 'nowhere'", message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(5)]
    [InlineData(22)]
    [InlineData(0)]
    public void Load_OpsetOutOfRange_NamesTheRange(long opset)
    {
        var model = Model(Node("Relu", ["x"], "y"));
        model.OpsetImport[0].Version = opset;

        Assert.Contains("opsets 7 to 21 are supported", Refusal(model), StringComparison.Ordinal);
    }

    [Fact]
    public void Load_CyclicGraph_IsRefused()
    {
        var message = Refusal(Model(Node("Add", ["x", "b"], "a"), Node("Relu", ["a"], "b")));

        Assert.Contains("cyclic", message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(new long[] { 1L << 40, 1L << 40 })]
    [InlineData(new long[] { -1 })]
    [InlineData(new long[] { 1L << 31, 2 })]
    [InlineData(new long[] { 1000 })]
    public void Load_DimensionsThatDoNotFitTheData_AreRefused(long[] shape)
    {
        var model = Model(Node("Add", ["x", "w"], "y"));
        model.Graph.Initializer.Add(Floats("w", shape, 1, 2, 3));

        Assert.Contains("tensor 'w'", Refusal(model), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("../outside.bin")]
    [InlineData("/etc/passwd")]
    [InlineData("sub/../../outside.bin")]
    [InlineData("link.bin")]
    [InlineData("linked/inside.bin")]
    [InlineData("missing.bin")]
    [InlineData("")]
    public void Load_ExternalDataOutsideTheFolder_IsRefused(string location)
    {
        var outside = Directory.CreateTempSubdirectory("tta-outside-").FullName;
        File.WriteAllBytes(Path.Combine(outside, "inside.bin"), new byte[16]);
        File.CreateSymbolicLink(Path.Combine(_folder, "link.bin"), Path.Combine(outside, "inside.bin"));
        Directory.CreateSymbolicLink(Path.Combine(_folder, "linked"), outside);
        var model = Model(Node("Add", ["x", "w"], "y"));
        model.Graph.Initializer.Add(External("w", [4], location));

        Assert.Contains("tensor 'w'", Refusal(model), StringComparison.Ordinal);
        Directory.Delete(outside, recursive: true);
    }

    [Theory]
    [InlineData("0", "1000000")]
    [InlineData("8", null)]
    [InlineData("-4", null)]
    [InlineData("99999999999999999999", null)]
    public void Load_ExternalDataPastItsFile_IsRefused(string offset, string? length)
    {
        File.WriteAllBytes(Path.Combine(_folder, "weights.bin"), new byte[16]);
        var model = Model(Node("Add", ["x", "w"], "y"));
        model.Graph.Initializer.Add(External("w", [4], "weights.bin", offset, length));

        Assert.Contains("tensor 'w'", Refusal(model), StringComparison.Ordinal);
    }

    [Fact]
    public void Load_ExternalDataInTheFolder_IsRead()
    {
        File.WriteAllBytes(Path.Combine(_folder, "weights.bin"), new byte[16]);
        var model = Model(Node("Add", ["x", "w"], "y"));
        model.Graph.Initializer.Add(External("w", [1, 1, 2, 2], "weights.bin", length: "16"));
        using var loaded = AdaptiveModel.Load(Write(_folder, model));
        var state = loaded.CreateState(MethodSettings.Create("source"));

        var result = loaded.Run([new StreamStep(state, FrameBlock.FromValues(new float[] { 1, 2, 3, 4 }, 1, 1, 2, 2))])[0];

        Assert.Equal([1, 2, 3, 4], result.Outputs[0].Values);
    }

    [Fact]
    public void Load_BatchNormalizationInTrainingMode_SaysHowToExport()
    {
        var model = Model(Node("BatchNormalization", ["x", "one", "one", "one", "one"], "y", new AttributeProto { Name = "training_mode", I = 1 }));
        model.Graph.Initializer.Add(Floats("one", [1], 1));

        Assert.Contains("TrainingMode.PRESERVE", Refusal(model), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(float.NaN)]
    [InlineData(-1f)]
    public void Load_BatchNormalizationWithUnusableVariance_IsRefused(float variance)
    {
        var model = Model(Node("BatchNormalization", ["x", "one", "one", "one", "v"], "y"));
        model.Graph.Initializer.Add(Floats("one", [1], 1));
        model.Graph.Initializer.Add(Floats("v", [1], variance));

        Assert.Contains("BatchNormalization_y", Refusal(model), StringComparison.Ordinal);
    }

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    private string Refusal(ModelProto model) => Assert.Throws<ModelLoadException>(() => AdaptiveModel.Load(Write(_folder, model))).Message;
}

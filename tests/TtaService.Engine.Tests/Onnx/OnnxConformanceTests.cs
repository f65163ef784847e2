using Google.Protobuf;
using TtaService.Engine.Onnx;
using TtaService.Engine.Onnx.Wire;

namespace TtaService.Engine.Tests.Onnx;

/// <summary>The runner of ONNX's node tests. TTA_ONNX_NODE_TESTS names a folder of them to run as well.</summary>
public sealed class OnnxConformanceTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("tta-onnx-").FullName;

    [Fact]
    public void Run_AnswersAsExpected_Passes() => Assert.Equal(OnnxTestOutcome.Passed, OnnxConformance.Run(WriteTest("Relu", expected: 2f)).Outcome);

    [Fact]
    public void Run_AnswersOtherwise_FailsAndSaysWhere()
    {
        var result = OnnxConformance.Run(WriteTest("Relu", expected: 2.1f));

        Assert.Equal(OnnxTestOutcome.Failed, result.Outcome);
        Assert.Equal("test_data_set_0: output 0 has 2 at 1, expected 2.0999999046325684", result.Message);
    }

    [Theory]
    [InlineData(1e4f, 1e-4f, true)]
    [InlineData(1e4f, 2f, false)]
    [InlineData(1f, 1e-3f, false)]
    public void Run_SmallElementBesideLargeOnes_IsHeldToTheOutputsScale(float largest, float off, bool passes) =>
        Assert.Equal(passes ? OnnxTestOutcome.Passed : OnnxTestOutcome.Failed, OnnxConformance.Run(WriteTest("Relu", expected: largest, input: largest, small: off)).Outcome);

    [Fact]
    public void Run_TighterTolerance_IsKept() =>
        Assert.Equal(OnnxTestOutcome.Failed,
            OnnxConformance.Run(WriteTest("Relu", expected: 1e4f, input: 1e4f, small: 1e-4f), new OnnxTolerance(Relative: 1e-3, Absolute: 1e-6, Scale: 0)).Outcome);

    [Fact]
    public void Run_UnknownOperator_IsUnsupported()
    {
        var result = OnnxConformance.Run(WriteTest("Frobnicate", expected: 2f));

        Assert.Equal(OnnxTestOutcome.Unsupported, result.Outcome);
        Assert.Contains("Frobnicate", result.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Run_NodeTestsOfTheUser_NoneFails()
    {
        var folder = Environment.GetEnvironmentVariable("TTA_ONNX_NODE_TESTS");
        Assert.SkipWhen(folder is null, "TTA_ONNX_NODE_TESTS names no folder");

        var results = OnnxConformance.Find(folder!).Select(OnnxConformance.Run).ToList();

        foreach (var group in results.GroupBy(result => result.Outcome))
        {
            TestContext.Current.TestOutputHelper?.WriteLine($"{group.Key}: {group.Count()}");
        }

        foreach (var result in results.Where(result => result.Outcome != OnnxTestOutcome.Passed))
        {
            TestContext.Current.TestOutputHelper?.WriteLine($"{result.Name} {result.Outcome}: {result.Message}");
        }

        Assert.DoesNotContain(results, result => result.Outcome == OnnxTestOutcome.Failed);
    }

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    private string WriteTest(string op, float expected, float input = 2, float small = 0)
    {
        var model = new ModelProto
        {
            IrVersion = 8,
            OpsetImport = { new OperatorSetIdProto { Domain = "", Version = 17 } },
            Graph = new GraphProto
            {
                Node = { new NodeProto { OpType = op, Name = "only", Input = { "x" }, Output = { "y" } } },
                Input = { new ValueInfoProto { Name = "x" } },
                Output = { new ValueInfoProto { Name = "y" } },
            },
        };
        File.WriteAllBytes(Path.Combine(_folder, "model.onnx"), model.ToByteArray());
        var set = Directory.CreateDirectory(Path.Combine(_folder, "test_data_set_0")).FullName;
        File.WriteAllBytes(Path.Combine(set, "input_0.pb"), Values(-1, input).ToByteArray());
        File.WriteAllBytes(Path.Combine(set, "output_0.pb"), Values(small, expected).ToByteArray());
        return _folder;
    }

    private static TensorProto Values(params float[] values) => new() { Dims = { values.Length }, DataType = (int)TensorProto.Types.DataType.Float, FloatData = { values } };
}

using Google.Protobuf;
using TtaService.Engine.Onnx.Wire;

namespace TtaService.Engine.Tests.Onnx;

/// <summary>Small ONNX models, written as the tests need them.</summary>
internal static class OnnxFiles
{
    public static ModelProto Model(params NodeProto[] nodes)
    {
        var model = new ModelProto { IrVersion = 8, OpsetImport = { new OperatorSetIdProto { Domain = "", Version = 17 } }, Graph = new GraphProto { Node = { nodes } } };
        model.Graph.Input.Add(Image("x"));
        model.Graph.Output.Add(new ValueInfoProto { Name = nodes[^1].Output[0] });
        return model;
    }

    public static NodeProto Node(string op, string[] inputs, string output, params AttributeProto[] attributes) =>
        new() { OpType = op, Name = $"{op}_{output}", Input = { inputs }, Output = { output }, Attribute = { attributes } };

    public static TensorProto Floats(string name, long[] shape, params float[] values) =>
        new() { Name = name, Dims = { shape }, DataType = (int)TensorProto.Types.DataType.Float, FloatData = { values } };

    public static TensorProto External(string name, long[] shape, string location, string offset = "0", string? length = null)
    {
        var tensor = new TensorProto { Name = name, Dims = { shape }, DataType = (int)TensorProto.Types.DataType.Float, DataLocation = TensorProto.Types.DataLocation.External };
        tensor.ExternalData.Add(new StringStringEntryProto { Key = "location", Value = location });
        tensor.ExternalData.Add(new StringStringEntryProto { Key = "offset", Value = offset });
        if (length is not null)
        {
            tensor.ExternalData.Add(new StringStringEntryProto { Key = "length", Value = length });
        }

        return tensor;
    }

    public static string Write(string folder, ModelProto model)
    {
        var path = Path.Combine(folder, "model.onnx");
        File.WriteAllBytes(path, model.ToByteArray());
        return path;
    }

    private static ValueInfoProto Image(string name)
    {
        var type = new TypeProto.Types.Tensor { ElemType = (int)TensorProto.Types.DataType.Float, Shape = new TensorShapeProto() };
        foreach (var extent in new long[] { 0, 1, 2, 2 })
        {
            type.Shape.Dim.Add(extent == 0 ? new TensorShapeProto.Types.Dimension { DimParam = "n" } : new TensorShapeProto.Types.Dimension { DimValue = extent });
        }

        return new ValueInfoProto { Name = name, Type = new TypeProto { TensorType = type } };
    }
}

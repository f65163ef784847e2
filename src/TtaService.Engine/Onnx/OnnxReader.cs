using System.Security.Cryptography;
using Google.Protobuf;
using TtaService.Engine.Onnx.Wire;

namespace TtaService.Engine.Onnx;

/// <summary>Reads and checks a model file: that it is ONNX, of an opset that is known, and small enough.</summary>
internal static class OnnxReader
{
    /// <summary>Opsets of the ai.onnx domain that the operators are written for.</summary>
    public const long FirstOpset = 7;

    public const long LastOpset = 21;

    private const long MaxFileBytes = 2L << 30;

    /// <summary>The model, its ai.onnx opset, and the SHA-256 of the file.</summary>
    /// <exception cref="ModelLoadException">Not a readable ONNX model.</exception>
    public static (ModelProto Model, long Opset, string Digest) Read(string path)
    {
        if (!File.Exists(path))
        {
            throw new ModelLoadException($"{path} does not exist");
        }

        if (new FileInfo(path).Length is var length && length > MaxFileBytes)
        {
            throw new ModelLoadException($"{path} has {length} bytes, the limit is {MaxFileBytes}; store large weights as external data");
        }

        var bytes = File.ReadAllBytes(path);
        ModelProto model;
        try
        {
            model = ModelProto.Parser.ParseFrom(bytes);
        }
        catch (InvalidProtocolBufferException e)
        {
            throw new ModelLoadException($"{path} is not an ONNX model, or it is cut short", e);
        }

        if (model.Graph is not { Node.Count: > 0 })
        {
            throw new ModelLoadException($"{path} holds no graph; it is not an ONNX model, or it is cut short");
        }

        if (model.Graph.SparseInitializer.Count > 0)
        {
            throw new ModelLoadException($"{path} holds sparse initializers, which are not supported");
        }

        var opset = model.OpsetImport.FirstOrDefault(import => import.Domain is "" or "ai.onnx")?.Version ?? 0;
        return opset <= LastOpset && (opset >= FirstOpset || EarlyOpsets.CanRead(model.Graph, opset))
            ? (model, opset, Convert.ToHexStringLower(SHA256.HashData(bytes)))
            : throw new ModelLoadException($"{path} uses opset {opset}; opsets {FirstOpset} to {LastOpset} are supported: export with opset_version=17");
    }
}

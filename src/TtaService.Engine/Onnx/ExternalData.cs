using System.Globalization;
using TtaService.Engine.Onnx.Wire;

namespace TtaService.Engine.Onnx;

/// <summary>Reads tensor data that lies beside the model file; only plain files inside the model's own folder.</summary>
internal sealed class ExternalData(string modelFolder)
{
    /// <summary>The tensor's bytes.</summary>
    /// <exception cref="ModelLoadException">The location leaves the folder, is a link, or the file is too short.</exception>
    public byte[] Read(TensorProto proto, long length)
    {
        var location = Entry(proto, "location") ?? throw Problem(proto, "names no external file");
        var offset = Number(proto, "offset", 0);
        var stated = Number(proto, "length", length);
        if (Path.IsPathRooted(location) || location.Split('/', '\\').Any(part => part is "" or "." or ".."))
        {
            throw Problem(proto, $"refers to '{location}'; external data must be a plain path inside the model's folder");
        }

        var root = Path.GetFullPath(modelFolder);
        var path = root;
        foreach (var part in location.Split('/', '\\'))
        {
            path = Path.Combine(path, part);
            if (new FileInfo(path).LinkTarget is not null)
            {
                throw Problem(proto, $"refers to '{location}', which is a link; copy the file into the model's folder");
            }
        }

        var file = new FileInfo(path);
        if (!file.Exists)
        {
            throw Problem(proto, $"refers to '{location}', which does not exist beside the model");
        }

        if (stated != length || offset < 0 || offset > file.Length - length)
        {
            throw Problem(proto, $"needs {length} bytes at {offset} of '{location}' (stated {stated}); the file has {file.Length}");
        }

        using var stream = new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.Read);
        stream.Position = offset;
        var data = new byte[length];
        stream.ReadExactly(data);
        return data;
    }

    private static string? Entry(TensorProto proto, string key) => proto.ExternalData.FirstOrDefault(entry => entry.Key == key)?.Value;

    private static long Number(TensorProto proto, string key, long missing) => Entry(proto, key) is not { } text
        ? missing
        : long.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out var number)
            ? number
            : throw Problem(proto, $"has external {key} '{text}', which is not a number");

    private static ModelLoadException Problem(TensorProto proto, string problem) => new($"tensor '{proto.Name}' {problem}");
}

using TtaService.Engine.Onnx;

namespace TtaService.Host.Models;

/// <summary>A file of a model's folder: a file of its own, never a link to somewhere else.</summary>
internal static class ModelFile
{
    /// <summary>Whether there is such a file.</summary>
    /// <exception cref="ModelLoadException">It is a symbolic link.</exception>
    public static bool Exists(string path)
    {
        var file = new FileInfo(path);
        // A link that leads nowhere does not exist for .NET, but it is there.
        return file.LinkTarget is { } target
            ? throw new ModelLoadException($"{path} is a link to {target}; a model's files must lie in its folder, copy the file there")
            : file.Exists;
    }
}

using TtaService.Engine.Onnx;

namespace TtaService.Serving.Models;

/// <summary>A file of a model's folder: it lies there, or is a link to a file that lies there (how Kubernetes mounts a ConfigMap).</summary>
internal static class ModelFile
{
    /// <summary>Whether there is such a file.</summary>
    /// <exception cref="ModelLoadException">It is a symbolic link that leads out of its folder.</exception>
    public static bool Exists(string path)
    {
        var file = new FileInfo(path);
        // A link that leads nowhere does not exist for .NET, but it is there.
        if (file.LinkTarget is not { } target)
        {
            return file.Exists;
        }

        return file.ResolveLinkTarget(returnFinalTarget: true) is FileInfo { Exists: true } final && LiesIn(final, file.DirectoryName!)
            ? true
            : throw new ModelLoadException($"{path} is a link to {target}; a model's files must lie in its folder, copy the file there");
    }

    private static bool LiesIn(FileInfo file, string folder)
    {
        var parent = file.Directory;
        while (parent is not null && parent.FullName.Length > folder.Length)
        {
            // A folder on the way may itself be a link, to a neighbour only: '..data' of a ConfigMap.
            if (parent.LinkTarget is { } target && (target != Path.GetFileName(target) || target is "." or ".."))
            {
                return false;
            }

            parent = parent.Parent;
        }

        return parent?.FullName == folder;
    }
}

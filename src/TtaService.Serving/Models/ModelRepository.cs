using System.Text.RegularExpressions;
using TtaService.Engine.Onnx;

namespace TtaService.Serving.Models;

/// <summary>The model repository: a folder with a folder a model.</summary>
internal static partial class ModelRepository
{
    /// <summary>What lies in a repository.</summary>
    /// <param name="Models">The folders that can be read, in the order of their names.</param>
    /// <param name="Broken">The others: no model, a link, an odd name, a mistake in model.json.</param>
    public sealed record Content(IReadOnlyList<ModelFolder> Models, IReadOnlyList<BrokenModel> Broken);

    /// <summary>Reads every model folder. Hidden folders and a volume's lost+found are left out.</summary>
    /// <exception cref="ModelLoadException">No such folder, or no folder in it.</exception>
    public static Content Load(string path)
    {
        if (!Directory.Exists(path))
        {
            throw new ModelLoadException($"the model repository {path} does not exist; set Models:Path to a folder that holds a folder a model");
        }

        var models = new List<ModelFolder>();
        var broken = new List<BrokenModel>();
        foreach (var folder in Folders(path))
        {
            try
            {
                models.Add(ReadFolder(folder));
            }
            catch (ModelLoadException wrong)
            {
                broken.Add(BrokenModel.From(Path.GetFileName(folder), wrong));
            }
        }

        return models.Count + broken.Count > 0
            ? new Content(models, broken)
            : throw new ModelLoadException($"the model repository {path} holds no model; put a folder with model.onnx and model.json into it");
    }

    /// <summary>The folders that hold a model each, in the order of their names.</summary>
    public static IEnumerable<string> Folders(string path) => Directory.EnumerateDirectories(path)
        .Where(folder => Path.GetFileName(folder) is var name && name[0] != '.' && name != "lost+found")
        .Order(StringComparer.Ordinal);

    /// <summary>The folder of a model, as it is now.</summary>
    /// <param name="path">The repository.</param>
    /// <param name="name">The model's name.</param>
    /// <returns>Null when the repository has no such folder.</returns>
    /// <exception cref="ModelLoadException">No model, a link, or a mistake in model.json.</exception>
    public static ModelFolder? Read(string path, string name) =>
        ModelName().IsMatch(name) && Path.Combine(path, name) is var folder && Directory.Exists(folder) ? ReadFolder(folder) : null;

    private static ModelFolder ReadFolder(string folder)
    {
        if (!ModelName().IsMatch(Path.GetFileName(folder)))
        {
            throw new ModelLoadException($"{folder}: a model's name has 1 to 128 characters of A-Z a-z 0-9 _ . -");
        }

        return new DirectoryInfo(folder).LinkTarget is { } target
            ? throw new ModelLoadException($"{folder} is a link to {target}; a model must lie in the repository, copy the folder there")
            : ModelFolder.Read(folder);
    }

    [GeneratedRegex("^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$")]
    private static partial Regex ModelName();
}

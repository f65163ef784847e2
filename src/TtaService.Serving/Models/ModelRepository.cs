using System.Text.RegularExpressions;
using TtaService.Engine.Onnx;

namespace TtaService.Serving.Models;

/// <summary>The model repository: a folder with a folder a model.</summary>
internal static partial class ModelRepository
{
    /// <summary>Reads every model folder, in the order of their names. Hidden folders and a volume's lost+found are left out.</summary>
    /// <exception cref="ModelLoadException">No such folder, no model in it, or a folder that is no model, is a link or has an odd name; all problems in one message.</exception>
    public static IReadOnlyList<ModelFolder> Load(string path)
    {
        if (!Directory.Exists(path))
        {
            throw new ModelLoadException($"the model repository {path} does not exist; set Models:Path to a folder that holds a folder a model");
        }

        var models = new List<ModelFolder>();
        var problems = new List<string>();
        foreach (var folder in Directory.EnumerateDirectories(path).Where(folder => Path.GetFileName(folder) is var name && name[0] != '.' && name != "lost+found").Order(StringComparer.Ordinal))
        {
            try
            {
                if (!ModelName().IsMatch(Path.GetFileName(folder)))
                {
                    throw new ModelLoadException($"{folder}: a model's name has 1 to 128 characters of A-Z a-z 0-9 _ . -");
                }

                if (new DirectoryInfo(folder).LinkTarget is { } target)
                {
                    throw new ModelLoadException($"{folder} is a link to {target}; a model must lie in the repository, copy the folder there");
                }

                models.Add(ModelFolder.Read(folder));
            }
            catch (ModelLoadException wrong)
            {
                problems.Add(wrong.Message);
            }
        }

        if (models.Count == 0 && problems.Count == 0)
        {
            problems.Add($"the model repository {path} holds no model; put a folder with model.onnx and model.json into it");
        }

        return problems.Count == 0 ? models : throw new ModelLoadException(string.Join('\n', problems));
    }

    [GeneratedRegex("^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$")]
    private static partial Regex ModelName();
}

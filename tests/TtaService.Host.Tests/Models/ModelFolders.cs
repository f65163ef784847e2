using TtaService.Host.Tests.Infrastructure;

namespace TtaService.Host.Tests.Models;

/// <summary>A model repository of its own in a temporary folder, deleted with it.</summary>
internal sealed class ModelFolders : IDisposable
{
    public string Root { get; } = Directory.CreateTempSubdirectory("tta-models-").FullName;

    /// <summary>Adds a model with the tiny model's graph.</summary>
    public string Add(string name, string? manifest = null) => Add(name, manifest, Path.Combine(TestHost.ModelsPath, TestHost.Model));

    /// <summary>Adds a version of a model with the tiny model's graph.</summary>
    public string AddVersion(string name, int version, string? manifest = null) => Add(Path.Combine(name, $"{version}"), manifest);

    /// <summary>A path in the repository.</summary>
    public string In(params string[] parts) => Path.Combine([Root, .. parts]);

    /// <summary>Adds a model with a graph of Data/odd, by default the one of its name.</summary>
    public string AddOdd(string name, string? manifest = null, string? graph = null) => Add(name, manifest, Path.Combine(AppContext.BaseDirectory, "Data", "odd", graph ?? name));

    /// <summary>Adds a model of Data/answers.</summary>
    public string AddAnswering(string name, string? manifest = null, string? graph = null) =>
        Add(name, manifest, Path.Combine(AppContext.BaseDirectory, "Data", "answers", graph ?? name));

    private string Add(string name, string? manifest, string from)
    {
        var folder = Directory.CreateDirectory(Path.Combine(Root, name)).FullName;
        File.Copy(Path.Combine(from, "model.onnx"), Path.Combine(folder, "model.onnx"));
        if (manifest is not null)
        {
            File.WriteAllText(Path.Combine(folder, "model.json"), manifest);
        }

        return folder;
    }

    public void Dispose() => Directory.Delete(Root, recursive: true);
}

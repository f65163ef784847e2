using TtaService.Host.Tests.Infrastructure;

namespace TtaService.Host.Tests.Models;

/// <summary>A model repository of its own in a temporary folder, deleted with it.</summary>
internal sealed class ModelFolders : IDisposable
{
    public string Root { get; } = Directory.CreateTempSubdirectory("tta-models-").FullName;

    /// <summary>Adds a model with the tiny model's graph.</summary>
    public string Add(string name, string? manifest = null)
    {
        var folder = Directory.CreateDirectory(Path.Combine(Root, name)).FullName;
        File.Copy(Path.Combine(TestHost.ModelsPath, TestHost.Model, "model.onnx"), Path.Combine(folder, "model.onnx"));
        if (manifest is not null)
        {
            File.WriteAllText(Path.Combine(folder, "model.json"), manifest);
        }

        return folder;
    }

    public void Dispose() => Directory.Delete(Root, recursive: true);
}

using TtaService.Engine.Onnx;
using TtaService.Serving.Models;

namespace TtaService.Host.Tests.Models;

/// <summary>What can be read of a repository is, and of the rest it says which folder is wrong and why.</summary>
public sealed class ModelRepositoryTests : IDisposable
{
    private readonly ModelFolders _folders = new();

    public void Dispose() => _folders.Dispose();

    [Fact]
    public void Load_SeveralModels_AreInTheOrderOfTheirNames()
    {
        _folders.Add("b");
        _folders.Add("a.2", """{ "labels": ["x"] }""");
        Directory.CreateDirectory(Path.Combine(_folders.Root, ".hidden"));
        File.WriteAllText(Path.Combine(_folders.Root, "notes.txt"), "no model");

        var models = ModelRepository.Load(_folders.Root).Models;

        Assert.Equal(["a.2", "b"], models.Select(model => model.Name));
        Assert.Equal(["x"], models[0].Labels);
        Assert.Empty(models[1].Labels);
    }

    [Fact]
    public void Load_NoRepository_NamesTheSetting() => Assert.Contains("Models:Path", Refusal(Path.Combine(_folders.Root, "missing")), StringComparison.Ordinal);

    [Fact]
    public void Load_EmptyRepository_SaysWhatAModelIs() => Assert.Contains("model.onnx", Refusal(_folders.Root), StringComparison.Ordinal);

    [Fact]
    public void Load_FolderWithoutAGraph_NamesTheFolder()
    {
        _folders.Add("good");
        var empty = Directory.CreateDirectory(Path.Combine(_folders.Root, "empty")).FullName;

        Assert.Contains($"{empty} holds no model.onnx", Refusal(_folders.Root), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("with space")]
    [InlineData("-dash")]
    [InlineData("smörgås")]
    [InlineData("a:b")]
    public void Load_OddName_IsRefused(string name)
    {
        _folders.Add(name);

        Assert.Contains(name, Refusal(_folders.Root), StringComparison.Ordinal);
    }

    [Fact]
    public void Load_SeveralProblems_AreAllNamed()
    {
        _folders.Add("one", "{");
        _folders.Add("two", """{ "limits": { "max_frames_per_step": 0 } }""");

        var message = Refusal(_folders.Root);

        Assert.Contains(Path.Combine("one", "model.json"), message, StringComparison.Ordinal);
        Assert.Contains(Path.Combine("two", "model.json"), message, StringComparison.Ordinal);
    }

    [Fact]
    public void Load_LinkedFolder_IsRefused()
    {
        using var elsewhere = new ModelFolders();
        Directory.CreateSymbolicLink(Path.Combine(_folders.Root, "linked"), elsewhere.Add("real"));

        Assert.Contains("is a link", Refusal(_folders.Root), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("model.onnx", true)]
    [InlineData("model.onnx", false)]
    [InlineData("model.json", true)]
    [InlineData("model.json", false)]
    [InlineData("names.txt", true)]
    public void Load_LinkedFile_IsRefused(string file, bool leadsSomewhere)
    {
        using var elsewhere = new ModelFolders();
        var outside = elsewhere.Add("real", "{}");
        File.WriteAllText(Path.Combine(outside, "names.txt"), "a\nb");
        var folder = _folders.Add("model", file == "names.txt" ? """{ "labels_file": "names.txt" }""" : null);
        File.Delete(Path.Combine(folder, file));
        File.CreateSymbolicLink(Path.Combine(folder, file), Path.Combine(outside, leadsSomewhere ? file : "nothing"));

        Assert.Contains($"{Path.Combine(folder, file)} is a link", Refusal(_folders.Root), StringComparison.Ordinal);
    }

    [Fact]
    public void Load_FilesLinkedWithinTheirFolder_AreRead()
    {
        // The layout of a mounted ConfigMap: model.json -> ..data/model.json, ..data -> ..2026.
        var folder = _folders.Add("model", "{}");
        var version = Directory.CreateDirectory(Path.Combine(folder, "..2026")).FullName;
        Directory.CreateSymbolicLink(Path.Combine(folder, "..data"), "..2026");
        foreach (var file in (string[])["model.json", "model.onnx"])
        {
            File.Move(Path.Combine(folder, file), Path.Combine(version, file));
            File.CreateSymbolicLink(Path.Combine(folder, file), Path.Combine("..data", file));
        }

        Directory.CreateDirectory(Path.Combine(_folders.Root, "lost+found"));

        Assert.Equal(["model"], ModelRepository.Load(_folders.Root).Models.Select(model => model.Name));
    }

    [Fact]
    public void Load_FolderLinkedElsewhereOnTheWay_IsRefused()
    {
        using var elsewhere = new ModelFolders();
        var outside = elsewhere.Add("real", "{}");
        var folder = _folders.Add("model");
        Directory.CreateSymbolicLink(Path.Combine(folder, "..data"), outside);
        File.Delete(Path.Combine(folder, "model.json"));
        File.CreateSymbolicLink(Path.Combine(folder, "model.json"), Path.Combine("..data", "model.json"));

        Assert.Contains("is a link", Refusal(_folders.Root), StringComparison.Ordinal);
    }

    private static string Refusal(string path)
    {
        try
        {
            return string.Join('\n', ModelRepository.Load(path).Broken.Select(broken => broken.Reason));
        }
        catch (ModelLoadException nothing)
        {
            return nothing.Message;
        }
    }
}

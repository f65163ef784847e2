using TtaService.Host.Tests.Infrastructure;

namespace TtaService.Host.Tests.Models;

/// <summary>A server with the tiny model, models that end or begin otherwise (Data/make_odd.py), and some that can't be served.</summary>
public sealed class OddModels : IAsyncLifetime
{
    // Those that take bytes normalize by dividing by 255; these do the same outside.
    private const string Unit = """{ "preprocessing": { "mean": [0, 0, 0], "std": [1, 1, 1] } }""";

    private readonly ModelFolders _folders = new();

    internal TestHost Host { get; private set; } = null!;

    public async ValueTask InitializeAsync()
    {
        _folders.Add("tiny", """{ "labels": ["ant", "bee", "cat", "dog", "eel"], "preprocessing": { "mean": [0, 0, 0], "std": [1, 1, 1] } }""");
        foreach (var name in (string[])["softmax", "log-softmax", "sigmoid", "double", "wrong-reshape", "frames-lost", "clips", "clips-frames-first"])
        {
            _folders.AddOdd(name, Unit);
        }

        foreach (var name in (string[])["bytes", "ints", "nhwc", "signed", "flags"])
        {
            _folders.AddOdd(name);
        }

        _folders.AddOdd("offset", """{ "preprocessing": { "offset": -128 } }""", "signed");
        _folders.AddOdd("normalized-bytes", Unit, "bytes");
        _folders.Add("one-label-too-few", """{ "labels": ["ant", "bee", "cat", "dog"] }""");
        _folders.Add("one-label-too-many", """{ "labels": ["ant", "bee", "cat", "dog", "eel", "fox"] }""");
        _folders.Add("no-such-output", """{ "outputs": [{ "name": "logits", "kind": "logits" }] }""");
        _folders.Add("no-probabilities", """{ "outputs": [{ "name": "scores", "kind": "probabilities" }] }""");
        _folders.AddOdd("softmax-twice", """{ "outputs": [{ "name": "ended", "kind": "logits" }] }""", "softmax");
        _folders.Add("declared", """{ "outputs": [{ "name": "scores", "kind": "multi_label_logits" }], "preprocessing": { "mean": [0, 0, 0], "std": [1, 1, 1] } }""");
        _folders.Add("raw", """{ "outputs": [{ "name": "scores", "kind": "raw" }] }""");
        await File.WriteAllTextAsync(Path.Combine(_folders.Add("torn"), "model.onnx"), "no graph");
        Host = await TestHost.StartAsync($"--Models:Path={_folders.Root}");
    }

    public async ValueTask DisposeAsync()
    {
        await Host.DisposeAsync();
        _folders.Dispose();
    }
}

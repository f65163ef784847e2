using TtaService.Host.Tests.Infrastructure;

namespace TtaService.Host.Tests.Models;

/// <summary>A server with a model of each kind of answer (Data/make_answers.py).</summary>
public sealed class AnsweringModels : IAsyncLifetime
{
    private const string Stretched = """ "preprocessing": { "fit": "stretch", "resize": [64, 64], "mean": [0, 0, 0], "std": [1, 1, 1] } """;

    private readonly ModelFolders _folders = new();

    internal TestHost Host { get; private set; } = null!;

    public async ValueTask InitializeAsync()
    {
        // Their metadata say all.
        foreach (var name in (string[])["yolo-v8", "yolo-v5", "yolo-v10", "yolo-pose"])
        {
            _folders.AddAnswering(name);
        }

        foreach (var name in (string[])["boxes-scores", "deeplab", "embedder", "ssdlite", "keypoint-rcnn"])
        {
            _folders.AddAnswering(name, $"{{ {Stretched} }}");
        }

        _folders.AddAnswering("turned", """{ "preprocessing": { "fit": "letterbox", "resize": [64, 64], "mean": [0, 0, 0], "std": [1, 1, 1], "apply_exif": true } }""", "yolo-v8");
        _folders.AddAnswering("turned-map", $"{{ {Stretched.Replace("\"std\"", "\"apply_exif\": true, \"std\"", StringComparison.Ordinal)} }}", "deeplab");
        _folders.AddAnswering("centre-map", """{ "preprocessing": { "resize": 64, "crop": 64, "mean": [0, 0, 0], "std": [1, 1, 1] } }""", "deeplab");
        _folders.AddAnswering("few", """{ "detection": { "score_threshold": 0.5, "max_boxes": 3 } }""", "yolo-v8");
        _folders.AddAnswering("two-labels", """{ "labels": ["a", "b"] }""", "yolo-v8");
        _folders.AddAnswering("four-labels", $"{{ \"labels\": [\"a\", \"b\", \"c\", \"d\"], {Stretched} }}", "deeplab");
        _folders.AddAnswering("mistaken", """{ "outputs": [{ "name": "output0", "kind": "segmentation_logits" }] }""", "yolo-v8");
        _folders.AddAnswering("lonely", """{ "outputs": [{ "name": "boxes", "kind": "boxes" }] }""", "boxes-scores");
        Host = await TestHost.StartAsync($"--Models:Path={_folders.Root}");
    }

    public async ValueTask DisposeAsync()
    {
        await Host.DisposeAsync();
        _folders.Dispose();
    }
}

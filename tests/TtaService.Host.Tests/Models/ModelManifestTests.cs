using TtaService.Engine.Onnx;
using TtaService.Serving.Frames;
using TtaService.Serving.Models;

namespace TtaService.Host.Tests.Models;

/// <summary>model.json: what it may say, and how a mistake in it is told.</summary>
public sealed class ModelManifestTests : IDisposable
{
    private static readonly long[] Free = [-1, 3, -1, -1];

    private readonly ModelFolders _folders = new();

    public void Dispose() => _folders.Dispose();

    [Theory]
    [InlineData("""{ "colour": 1 }""", "line 1", "'colour' is not a key")]
    [InlineData("{\n \"preprocessing\": {\n  \"size\": 3 } }", "line 3", "'size' is not a key")]
    [InlineData("{\n \"labels\": [\"a\"],\n", "line 3", "not JSON")]
    [InlineData("", "line 1", "not JSON")]
    [InlineData("null", "holds null", "object")]
    [InlineData("[]", "line 1", "wrong kind")]
    [InlineData("""{ "labels": null }""", "labels", "wrong kind")]
    [InlineData("""{ "limits": null }""", "limits", "wrong kind")]
    [InlineData("""{ "labels": "a" }""", "labels", "wrong kind")]
    [InlineData("""{ "labels": ["a", null] }""", "labels[1]", "empty")]
    [InlineData("""{ "labels": ["a", " "] }""", "labels[1]", "empty")]
    [InlineData("""{ "labels": ["a"], "labels": ["b"] }""", "'labels'", "twice")]
    [InlineData("""{ "default_method": { "name": "ema", "hyperparameters": { "momentum": 0.1, "momentum": 0.2 } } }""", "Key: momentum", "twice")]
    [InlineData("""{ "preprocessing": { "resize": { "side": 1, "side": 2 } } }""", "Key: side", "twice")]
    [InlineData("""{ "default_method": {} }""", "default_method", "default_method.name")]
    [InlineData("""{ "default_method": { "name": null } }""", "default_method.name", "wrong kind")]
    [InlineData("""{ "preprocessing": { "mean": ["x"], "std": [1] } }""", "preprocessing.mean[0]", "wrong kind")]
    [InlineData("""{ "preprocessing": { "mean": [123.675, 116.28, 103.53], "std": [0.2, 0.2, 0.2] } }""", "preprocessing.mean has 123.675", "255")]
    [InlineData("""{ "preprocessing": { "mean": [0, 0, 0], "std": [58.395, 57.12, 57.375] } }""", "preprocessing.std has 58.395", "255")]
    [InlineData("""{ "preprocessing": { "mean": [0, 0, 0], "std": [1, 0, 1] } }""", "preprocessing.std has 0", "to 1")]
    [InlineData("""{ "preprocessing": { "mean": [-0.5], "std": [1] } }""", "preprocessing.mean has -0.5", "0 to 1")]
    [InlineData("""{ "preprocessing": { "mean": [0, 0, 0], "std": [1] } }""", "preprocessing.mean", "preprocessing.std")]
    [InlineData("""{ "preprocessing": { "channels": "grey", "mean": [0, 0, 0], "std": [1, 1, 1] } }""", "preprocessing.mean", "grey")]
    [InlineData("""{ "preprocessing": { "channels": "cmyk" } }""", "cmyk", "rgb, bgr, grey")]
    [InlineData("""{ "preprocessing": { "channels": "RGB" } }""", "RGB", "rgb, bgr, grey")]
    [InlineData("""{ "preprocessing": { "resize": [1, 2, 3] } }""", "preprocessing.resize", "[height, width]")]
    [InlineData("""{ "preprocessing": { "resize": 2.5 } }""", "preprocessing.resize is 2.5", "whole number")]
    [InlineData("""{ "preprocessing": { "crop": [224, null] } }""", "preprocessing.crop", "[height, width]")]
    [InlineData("""{ "preprocessing": { "crop": 8193 } }""", "preprocessing.crop is 8193", "8192")]
    [InlineData("""{ "preprocessing": { "fit": "cover" } }""", "preprocessing.fit is 'cover'", "crop, stretch, letterbox")]
    [InlineData("""{ "preprocessing": { "fit": "crop", "resize": [20, 30] } }""", "preprocessing.resize is [height, width]", "shorter side")]
    [InlineData("""{ "preprocessing": { "padding": 114 } }""", "preprocessing.padding", "letterbox")]
    [InlineData("""{ "preprocessing": { "fit": "letterbox", "padding": 256 } }""", "preprocessing.padding is 256", "0 to 255")]
    [InlineData("""{ "preprocessing": { "fit": "letterbox", "padding": [1, 2] } }""", "preprocessing.padding is [1,2]", "1 or 3")]
    [InlineData("""{ "preprocessing": { "fit": "letterbox", "align": "left" } }""", "preprocessing.align is 'left'", "center or top_left")]
    [InlineData("""{ "preprocessing": { "layout": "nwhc" } }""", "preprocessing.layout is 'nwhc'", "nchw, nhwc")]
    [InlineData("""{ "preprocessing": { "scale": 0 } }""", "preprocessing.scale is 0", "alike")]
    [InlineData("""{ "preprocessing": { "scale": "small" } }""", "preprocessing.scale", "number")]
    [InlineData("""{ "preprocessing": { "offset": [1, 2, 3], "mean": [0, 0, 0], "std": [1, 1, 1] } }""", "preprocessing has scale or offset", "one pair")]
    [InlineData("""{ "inputs": [{ "name": "im_shape" }] }""", "inputs[0]", "inputs[0].values")]
    [InlineData("""{ "inputs": [{ "name": "im_shape", "values": ["depth"] }] }""", "'im_shape'", "height")]
    [InlineData("""{ "inputs": [{ "name": "im_shape", "values": [] }] }""", "'im_shape'", "height")]
    [InlineData("""{ "inputs": [{ "name": "a", "values": [1] }, { "name": "a", "values": [2] }] }""", "'a'", "twice")]
    [InlineData("""{ "outputs": [{ "name": "scores" }] }""", "outputs[0]", "outputs[0].kind")]
    [InlineData("""{ "outputs": [{ "name": "scores", "kind": "polygons" }] }""", "'polygons'", "multi_label_logits")]
    [InlineData("""{ "detection": { "score_threshold": 1.5 } }""", "detection.score_threshold is 1.5", "0 to 1")]
    [InlineData("""{ "detection": { "max_boxes": 0 } }""", "detection.max_boxes is 0", "1 to 1000")]
    [InlineData("""{ "detection": { "max_candidates": 30001 } }""", "detection.max_candidates is 30001", "30000")]
    [InlineData("""{ "detection": { "box_form": "polar" } }""", "detection.box_form is 'polar'", "corners_y_first")]
    [InlineData("""{ "detection": { "keypoints": [17, 4] } }""", "detection.keypoints is [17, 4]", "2 (x, y)")]
    [InlineData("""{ "outputs": [{ "name": "scores", "kind": "raw" }, { "name": "scores", "kind": "logits" }] }""", "'scores'", "twice")]
    [InlineData("""{ "limits": { "max_frames_per_step": 4097 } }""", "max_frames_per_step is 4097", "4096")]
    [InlineData("""{ "labels_file": "/etc/passwd" }""", "labels_file", "model's folder")]
    [InlineData("""{ "labels_file": "missing.txt" }""", "labels_file", "missing.txt")]
    [InlineData("""{ "labels_file": "" }""", "labels_file", "model's folder")]
    public void Read_Mistake_NamesTheFileThePlaceAndWhatIsAllowed(string json, string place, string allowed)
    {
        var folder = _folders.Add("model", json);

        var message = Assert.Throws<ModelLoadException>(() => ModelFolder.Read(folder)).Message;

        Assert.StartsWith(Path.Combine(folder, "model.json"), message, StringComparison.Ordinal);
        Assert.Contains(place, message, StringComparison.Ordinal);
        Assert.Contains(allowed, message, StringComparison.Ordinal);
        Assert.DoesNotContain("TtaService.", message, StringComparison.Ordinal);
        Assert.DoesNotContain("System.", message, StringComparison.Ordinal);
    }

    [Fact]
    public void Read_LabelsFile_IsALabelALine()
    {
        var folder = _folders.Add("model", """{ "labels_file": "names.txt" }""");
        File.WriteAllText(Path.Combine(folder, "names.txt"), "tench\r\n goldfish \nwhite shark\n\n");

        Assert.Equal(["tench", "goldfish", "white shark"], ModelFolder.Read(folder).Labels);
    }

    [Fact]
    public void Read_LabelsFileWithAGap_NamesTheLine()
    {
        var folder = _folders.Add("model", """{ "labels_file": "names.txt" }""");
        File.WriteAllText(Path.Combine(folder, "names.txt"), "tench\n\nwhite shark\n");

        Assert.Contains("line 2 of names.txt", Assert.Throws<ModelLoadException>(() => ModelFolder.Read(folder)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Read_Everything_ReachesItsPlace()
    {
        var model = ModelFolder.Read(_folders.Add("model", """
            {
              // Comments and trailing commas are welcome.
              "labels": ["a", "b"],
              "preprocessing": { "resize": [40, 60], "crop": [32, 48], "interpolation": "bicubic", "channels": "bgr",
                "mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 1], "apply_exif": true },
              "limits": { "max_frames_per_step": 7 },
            }
            """));

        Assert.Equal(["a", "b"], model.Labels);
        Assert.Equal(7, model.MaxFramesPerStep);
        Assert.Equal([0.1f, 0.2f, 0.3f], model.InputNormalization.Mean);
        Assert.Equal([0.4f, 0.5f, 1f], model.InputNormalization.Std);
        Assert.Equal(
            new Preprocessing { ExactSize = (40, 60), Crop = (32, 48), Interpolation = Interpolation.Bicubic, Channels = ColorChannels.Bgr, ApplyExif = true },
            model.Preprocessing(Free));
    }

    [Theory]
    [InlineData(-1, 256, 224)]
    [InlineData(224, 256, 224)]
    [InlineData(96, null, 96)]
    public void Preprocessing_WithoutAManifest_FollowsTheModelsInput(int side, int? shorter, int crop)
    {
        var model = ModelFolder.Read(_folders.Add("model"));

        var preprocessing = model.Preprocessing([-1, 3, side, side]);

        Assert.Equal(new Preprocessing { ShorterSide = shorter, ExactSize = shorter is null ? (side, side) : null, Crop = (crop, crop) }, preprocessing);
        Assert.Equal([0.485f, 0.456f, 0.406f], model.InputNormalization.Mean);
        Assert.Equal([0.229f, 0.224f, 0.225f], model.InputNormalization.Std);
    }

    [Theory]
    [InlineData("""{ "preprocessing": { "mean": [0.5], "std": [0.5] } }""", -1)]
    [InlineData("""{ "preprocessing": { "mean": [0.5], "std": [0.5] } }""", 1)]
    public void Preprocessing_OneChannel_IsGrey(string json, int channels) =>
        Assert.Equal(ColorChannels.Grey, ModelFolder.Read(_folders.Add("model", json)).Preprocessing([1, channels, 28, 28]).Channels);

    [Theory]
    [InlineData("""{ "preprocessing": { "resize": 256, "crop": 200 } }""", 3, 224, 224, "200x200")]
    [InlineData("""{ "preprocessing": { "resize": 256, "crop": 200 } }""", 3, 224, -1, "224xany")]
    [InlineData("""{ "preprocessing": { "resize": 256 } }""", 3, -1, -1, "preprocessing.crop")]
    [InlineData("""{ "preprocessing": { "resize": [100, 300], "crop": [224, 224] } }""", 3, -1, -1, "larger than")]
    [InlineData("{}", 4, 224, 224, "4 channels")]
    [InlineData("{}", 1, 28, 28, "preprocessing.mean")]
    [InlineData("""{ "preprocessing": { "channels": "grey" } }""", 3, 28, 28, "3 channels")]
    public void Preprocessing_AgainstTheModelsInput_IsRefused(string json, int channels, int height, int width, string said)
    {
        var model = ModelFolder.Read(_folders.Add("model", json));

        var message = Assert.Throws<ModelLoadException>(() => model.Preprocessing([-1, channels, height, width])).Message;

        Assert.Contains("model.json", message, StringComparison.Ordinal);
        Assert.Contains(said, message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("""{ "fit": "letterbox" }""", 48, 64)]
    [InlineData("""{ "fit": "letterbox", "resize": [48, 64] }""", -1, -1)]
    [InlineData("""{ "fit": "letterbox", "crop": [48, 64], "padding": 114 }""", -1, -1)]
    public void Preprocessing_Letterbox_ShowsAllOfThePictureInItsShape(string json, int height, int width)
    {
        var preprocessing = ModelFolder.Read(_folders.Add("model", $"{{ \"preprocessing\": {json} }}")).Preprocessing([-1, 3, height, width]);

        Assert.Equal(new Preprocessing { Crop = (48, 64), Letterbox = new Letterbox(114, 114, 114, TopLeft: false) }, preprocessing);
        Assert.Equal((36, 64), preprocessing.Resized(1080, 1920));
        Assert.Equal((48, 27), preprocessing.Resized(1920, 1080));
    }

    [Theory]
    [InlineData("""{ "fit": "stretch" }""")]
    [InlineData("""{ "fit": "stretch", "resize": 224 }""")]
    [InlineData("""{ "fit": "stretch", "crop": 224 }""")]
    public void Preprocessing_Stretch_ShowsAllOfThePictureInTheModelsShape(string json) => Assert.Equal(
        new Preprocessing { ExactSize = (224, 224), Crop = (224, 224) },
        ModelFolder.Read(_folders.Add("model", $"{{ \"preprocessing\": {json} }}")).Preprocessing([-1, 3, 224, 224]));

    [Fact]
    public void InputNormalization_OfScaleAndOffset_IsComputedSo()
    {
        var caffe = ModelFolder.Read(_folders.Add("caffe", """{ "preprocessing": { "channels": "bgr", "offset": [-103.5, -116.25, -123.75] } }""")).InputNormalization;
        var unit = ModelFolder.Read(_folders.Add("unit", """{ "preprocessing": { "channels": "grey", "scale": 0.0078125, "offset": -1 } }""")).InputNormalization;

        Assert.Equal([151.5f, 138.75f, 131.25f], Enumerable.Range(0, 3).Select(channel => caffe.Apply(255, channel)));
        Assert.Equal([-1f, 0f], new[] { 0, 128 }.Select(level => unit.Apply(level, 0)));
        // The same in the other notation, for who computes with that.
        Assert.Equal(unit.Apply(77, 0), ((77 / 255f) - unit.Mean[0]) / unit.Std[0], 1e-6);
    }

    [Fact]
    public void Preprocessing_WideCropOfAShorterSide_IsForWideFrames()
    {
        var preprocessing = ModelFolder.Read(_folders.Add("model", """{ "preprocessing": { "resize": 256, "crop": [224, 400] } }""")).Preprocessing(Free);

        Assert.Equal((256, 455), preprocessing.Resized(720, 1280));
        Assert.Equal((224, 400), preprocessing.Crop);
    }
}

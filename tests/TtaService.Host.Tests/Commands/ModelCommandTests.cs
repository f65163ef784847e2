using System.Text.Json;
using TtaService.Host.Commands;
using TtaService.Host.Tests.Infrastructure;
using TtaService.Host.Tests.Models;
using TtaService.Serving.Frames;
using TtaService.Serving.Models;

namespace TtaService.Host.Tests.Commands;

/// <summary><c>tta model new</c> and what <c>tta inspect</c> says of a model.</summary>
public sealed class ModelCommandTests : IDisposable
{
    private readonly ModelFolders _folders = new();

    public void Dispose() => _folders.Dispose();

    [Fact]
    public async Task New_PlainGraph_WritesAManifestThatServes()
    {
        var folder = _folders.Add("plain");

        var run = await TtaRun.Of("model", "new", folder);

        Assert.Equal((0, string.Empty), (run.ExitCode, run.Error));
        Assert.Contains(run.Lines, line => line.StartsWith("- labels: not known", StringComparison.Ordinal));
        Assert.Contains(run.Lines, line => line.StartsWith("Adapts: all 3 normalization sites", StringComparison.Ordinal));
        var read = ModelFolder.Read(folder);
        Assert.Equal(new Preprocessing { ExactSize = (16, 16), Crop = (16, 16) }, read.Preprocessing([-1, 3, 16, 16]));
        using var manifest = JsonDocument.Parse(await File.ReadAllTextAsync(Path.Combine(folder, "model.json"), TestContext.Current.CancellationToken));
        Assert.Equal("source", manifest.RootElement.GetProperty("default_method").GetProperty("name").GetString());
        Assert.Equal("logits", manifest.RootElement.GetProperty("outputs")[0].GetProperty("kind").GetString());
    }

    [Fact]
    public async Task New_UltralyticsExport_TakesLabelsAndLetterboxFromItsMetadata()
    {
        var folder = _folders.AddOdd("ultralytics");

        var run = await TtaRun.Of("model", "new", folder);

        Assert.Equal((0, string.Empty), (run.ExitCode, run.Error));
        var read = ModelFolder.Read(folder);
        Assert.Equal(["person", "traffic light", "it's", "say \"a\"", "caf\u00e9"], read.Labels);
        Assert.Equal(new Preprocessing { Crop = (16, 16), Letterbox = new Letterbox(114, 114, 114, TopLeft: false) }, read.Preprocessing([-1, 3, 16, 16]));
        Assert.Equal(1, read.InputNormalization.Apply(255, 0));
    }

    [Fact]
    public async Task New_TimmConfigBeside_TakesItsPreprocessing()
    {
        var folder = _folders.Add("timm");
        const string Config = """
            { "architecture": "resnet18", "label_names": ["a", "b", "c", "d", "e"], "pretrained_cfg": { "input_size": [3, 16, 16], "interpolation": "bicubic",
              "crop_pct": 0.95, "crop_mode": "center", "mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25] } }
            """;
        await File.WriteAllTextAsync(Path.Combine(folder, "config.json"), Config, TestContext.Current.CancellationToken);

        Assert.Equal(0, (await TtaRun.Of("model", "new", folder)).ExitCode);

        var read = ModelFolder.Read(folder);
        Assert.Equal(["a", "b", "c", "d", "e"], read.Labels);
        Assert.Equal(
            new Preprocessing { ShorterSide = 16, Crop = (16, 16), Interpolation = Interpolation.Bicubic, Channels = ColorChannels.Rgb }, read.Preprocessing([-1, 3, 16, 16]));
        Assert.Equal(2, read.InputNormalization.Apply(255, 2), 1e-6);
    }

    [Fact]
    public async Task New_GraphThatTakesBytes_WritesAManifestThatServes()
    {
        var folder = _folders.AddOdd("nhwc");

        var run = await TtaRun.Of("model", "new", folder);

        Assert.Equal((0, string.Empty), (run.ExitCode, run.Error));
        Assert.Equal(255, ModelFolder.Read(folder).InputNormalization.Apply(255, 0));
    }

    [Fact]
    public async Task New_FileOfAnotherName_GetsAFolderOfItsOwn()
    {
        var file = Path.Combine(_folders.Root, "net-5.onnx");
        File.Copy(Path.Combine(TestHost.ModelsPath, TestHost.Model, "model.onnx"), file);

        var run = await TtaRun.Of("model", "new", file);

        Assert.Equal((0, string.Empty), (run.ExitCode, run.Error));
        Assert.Equal("net-5", Assert.Single(ModelRepository.Load(_folders.Root).Models).Name);
    }

    [Fact]
    public async Task New_ManifestThatIsThere_StaysUnlessForced()
    {
        var folder = _folders.Add("mine", """{ "labels": ["a", "b", "c", "d", "e"] }""");

        (await TtaRun.Of("model", "new", folder)).AssertRefused(CommandException.Usage, "model.json is there already", "--force");

        Assert.Equal("a", ModelFolder.Read(folder).Labels[0]);
        Assert.Equal(0, (await TtaRun.Of("model", "new", folder, "--force")).ExitCode);
        Assert.Empty(ModelFolder.Read(folder).Labels);
    }

    [Theory]
    [InlineData("tiny", "logits, the graph ends in no activation; predictions are read from it", "Adapts: all 3 normalization sites")]
    [InlineData("softmax", "probabilities, the graph ends in Softmax", "they go out as they are")]
    [InlineData("sigmoid", "multi_label_probabilities", "labels may hold together")]
    [InlineData("nhwc", "as nhwc, UINT8", "\"scale\":[1,1,1]")]
    [InlineData("signed", "INT8", "preprocessing.offset to -128")]
    public async Task Inspect_Model_ShowsWhatWasDecidedAndSaysWhatToDo(string graph, params string[] said)
    {
        var folder = graph == "tiny" ? _folders.Add(graph) : _folders.AddOdd(graph);

        var run = await TtaRun.Of("inspect", folder);

        Assert.All(said, words => Assert.Contains(words, run.Output + run.Error, StringComparison.Ordinal));
    }

    [Fact]
    public async Task Inspect_LabelsThatDoNotFit_SaysThatItCantBeServed()
    {
        var run = await TtaRun.Of("inspect", _folders.Add("four", """{ "labels": ["a", "b", "c", "d"] }"""));

        Assert.Equal(0, run.ExitCode);
        Assert.Contains(run.Lines, line => line.StartsWith("Can't be served: ", StringComparison.Ordinal) && line.Contains("4 labels", StringComparison.Ordinal));
    }

    [Fact]
    public async Task Inspect_FoldedGraph_SaysThatNothingAdaptsAndHowToExport()
    {
        var run = await TtaRun.Of("inspect", "plain", "--models", Path.Combine(AppContext.BaseDirectory, "Data", "two-models"));

        Assert.Contains(run.Lines, line => line.StartsWith("Nothing adapts: ", StringComparison.Ordinal) && line.Contains("TrainingMode.PRESERVE", StringComparison.Ordinal));
    }
}

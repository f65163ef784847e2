using System.Text.Json;
using SkiaSharp;
using TtaService.Evaluation;
using TtaService.Host.Commands;
using TtaService.Host.Commands.Evaluation;
using TtaService.Host.Tests.Infrastructure;

namespace TtaService.Host.Tests.Commands;

/// <summary>A folder a class is scored as the classes that the folders name, whatever their order.</summary>
public sealed class EvaluateFoldersTests : IDisposable
{
    private const int Images = 60;
    private readonly TestFolder _folder = new();
    private readonly ModelLocation _location = ModelLocation.Resolve("fashion-mnist", null);

    public void Dispose() => _folder.Dispose();

    [Fact]
    public async Task Evaluate_FoldersByLabelOrByIndex_ScoreAsTheSameImagesInOtherLayouts()
    {
        var labels = _location.Folder!.Labels;
        Write("labels", label => labels[label].Replace('/', '_'));
        Write("indexes", label => $"{label:00}");

        var expected = await ErrorAsync(EvaluationData.Sample(_location), out _);

        Assert.Equal(expected, await ErrorAsync(_folder.In("labels"), out var mapping));
        Assert.Equal(expected, await ErrorAsync(_folder.In("indexes"), out _));
        Assert.Contains(await mapping, line => line.Contains("T-shirt_top", StringComparison.Ordinal) && line.Contains("T-shirt/top", StringComparison.Ordinal));
    }

    [Fact]
    public async Task Evaluate_FolderThatIsNoClass_IsRefusedWithWhatToDo()
    {
        Write("data", label => label == 3 ? "frocks" : _location.Folder!.Labels[label].Replace('/', '_'));

        var run = await TtaRun.Of("evaluate", "--model", "fashion-mnist", "--data", _folder.In("data"), "--method", "source", "--corruptions", "none");

        run.AssertRefused(CommandException.Failure, "frocks", "name every folder by its label");
    }

    [Fact]
    public async Task Evaluate_MissingClass_IsRefusedUntilItsFolderIsThere()
    {
        Write("data", label => $"{label}");
        Directory.Delete(Path.Combine(_folder.In("data"), "4"), recursive: true);
        string[] arguments = ["evaluate", "--model", "fashion-mnist", "--data", _folder.In("data"), "--method", "source", "--corruptions", "none"];

        (await TtaRun.Of(arguments)).AssertRefused(CommandException.Failure, "4 (Coat)", "empty folder");
        Directory.CreateDirectory(Path.Combine(_folder.In("data"), "4"));

        Assert.Equal(0, (await TtaRun.Of(arguments)).ExitCode);
    }

    private Task<double> ErrorAsync(string data, out Task<string[]> lines)
    {
        var json = _folder.In($"{Guid.NewGuid():N}.json");
        var run = TtaRun.Of("evaluate", "--model", "fashion-mnist", "--data", data, "--method", "source",
            "--corruptions", "none", "--order", "as-is", "--batch-size", "20", "--limit", $"{Images}", "--json", json);
        lines = LinesAsync();
        return ReadAsync();

        async Task<string[]> LinesAsync() => (await run).Lines;

        async Task<double> ReadAsync()
        {
            Assert.Equal(string.Empty, (await run).Error);
            using var report = JsonDocument.Parse(await File.ReadAllTextAsync(json));
            return report.RootElement[0].GetProperty("error_percent").GetDouble();
        }
    }

    private void Write(string data, Func<int, string> name)
    {
        var images = LabelledImages.Open(EvaluationData.Sample(_location), _ => throw new InvalidOperationException("the sample is no folder of files"));
        for (var label = 0; label < 10; label++)
        {
            Directory.CreateDirectory(Path.Combine(_folder.In(data), name(label)));
        }

        for (var i = 0; i < Images; i++)
        {
            var image = images.Read(i);
            using var bitmap = new SKBitmap(image.Width, image.Height, SKColorType.Gray8, SKAlphaType.Opaque);
            image.Pixels.CopyTo(bitmap.GetPixelSpan());
            using var png = bitmap.Encode(SKEncodedImageFormat.Png, 100);
            using var file = File.Create(Path.Combine(_folder.In(data), name(images.Labels[i]), $"{i:000}.png"));
            png.SaveTo(file);
        }
    }
}

using System.Text.Json;
using TtaService.Client;
using TtaService.Host.Tests.Infrastructure;
using TtaService.V1;

namespace TtaService.Host.Tests.Models;

/// <summary>Networks at full size answer as torch does: boxes, points and maps of a frame of 1280x720.</summary>
/// <remarks>By hand, since the models take a gigabyte: python3 Data/make_full_answers.py FOLDER; TTA_ANSWER_MODELS=FOLDER.</remarks>
public sealed class FullSizeAnswerTests
{
    private static readonly string? Folder = Environment.GetEnvironmentVariable("TTA_ANSWER_MODELS");

    public static TheoryData<string> Models { get; } = Folder is null ? [] : new(Directory.GetDirectories(Folder)
        .Where(folder => File.Exists(Path.Combine(folder, "model.onnx"))).Select(folder => Path.GetFileName(folder)).Order(StringComparer.Ordinal));

    [Theory(SkipTestWithoutData = true)]
    [MemberData(nameof(Models))]
    public async Task Answer_OfANetworkAtFullSize_IsTorchs(string model)
    {
        using var alone = new TestFolder();
        var copy = Directory.CreateDirectory(alone.In(model)).FullName;
        foreach (var file in (string[])["model.onnx", "model.json"])
        {
            File.Copy(Path.Combine(Folder!, model, file), Path.Combine(copy, file));
        }

        await using var host = await TestHost.StartAsync($"--Models:Path={alone.Path}");
        var frame = TestFrames.Encoded(await File.ReadAllBytesAsync(Path.Combine(Folder!, "frame.png"), TestContext.Current.CancellationToken));

        var reply = await host.Adaptation.InferAsync(new InferRequest { Open = new OpenStream { Model = model }, Step = new StepRequest { Frames = { frame, frame } } });

        Assert.All(reply.Step.Predictions, found => AssertSame(model, found));
    }

    private static void AssertSame(string model, FramePrediction found)
    {
        var output = TestContext.Current.TestOutputHelper;
        Assert.Equal((1280, 720), (found.Width, found.Height));
        if (found.Segmentation is null)
        {
            using var file = JsonDocument.Parse(File.ReadAllText(Path.Combine(Folder!, model, "expected.json")));
            var expected = ExpectedAnswers.Boxes(file.RootElement);
            Assert.NotEmpty(expected);
            output?.WriteLine($"{model}: {found.Boxes.Count} boxes of {expected.Length}");
            ExpectedAnswers.AssertBoxes(expected, [.. found.Boxes]);
            return;
        }

        var (map, reference) = (found.ClassMap().Classes, ExpectedAnswers.Map(Path.Combine(Folder!, model, "map.png")));
        var same = map.Zip(reference).Count(pair => pair.First == pair.Second) / (double)reference.Length;
        output?.WriteLine(FormattableString.Invariant($"{model}: {100 * same:0.000} % of the pixels"));
        Assert.InRange(same, 0.999, 1);
    }
}

using System.Diagnostics;
using System.Globalization;
using System.IO.Compression;
using System.Text.RegularExpressions;
using TtaService.Evaluation;
using TtaService.Host.Tests.Deployment;
using TtaService.Host.Tests.Infrastructure;

namespace TtaService.Host.Tests.Packages;

/// <summary>The NuGet packages, packed from the build that is tested, and programs outside the repository that use them.</summary>
[Trait("Speed", "slow")]
public sealed partial class PackageTests(PackedProjects packed) : IClassFixture<PackedProjects>
{
    private const int Frames = 60;

    [Theory]
    [InlineData("Engine")]
    [InlineData("Evaluation")]
    [InlineData("Serving")]
    [InlineData("Client")]
    public void Package_HoldsReadmeDocstringsAndSymbols(string project)
    {
        using var package = ZipFile.OpenRead(packed.PackageOf(project, "nupkg"));
        var files = package.Entries.Select(entry => entry.FullName).ToList();
        Assert.Contains("README.md", files);
        Assert.Contains($"lib/net10.0/TtaService.{project}.dll", files);
        Assert.Contains($"lib/net10.0/TtaService.{project}.xml", files);
        Assert.Equal(project == "Engine", files.Contains("buildTransitive/TtaService.Engine.targets"));
        using var symbols = ZipFile.OpenRead(packed.PackageOf(project, "snupkg"));
        Assert.Contains(symbols.Entries, entry => entry.FullName == $"lib/net10.0/TtaService.{project}.pdb");
    }

    [Fact]
    public async Task EngineReadme_ProgramOutsideTheRepository_RestoresBuildsAndAdapts()
    {
        Assert.SkipUnless(OperatingSystem.IsLinux(), "the native step is Linux's");
        using var folder = new TestFolder();
        var program = packed.Write(folder, "Engine", "", CodeOf("src/TtaService.Engine/README.md"));
        File.Copy(Repository.In("deploy/models/fashion-mnist/model.onnx"), folder.In("model.onnx"));

        await AssertAnswersAsync(program, folder, "Engine");

        Assert.True(new FileInfo(folder.In("camera.safetensors")).Length > 1000);
    }

    // Serving brings the Engine and its build step along; with a runtime identifier the natives lie elsewhere. The host comes with ASP.NET here, as with its own package elsewhere.
    [Fact]
    public async Task ServingReadme_ProgramOutsideTheRepository_ServesAStreamThroughTheDoor()
    {
        Assert.SkipUnless(OperatingSystem.IsLinux(), "the native step is Linux's");
        using var folder = new TestFolder();
        const string Properties = "<RuntimeIdentifier>linux-x64</RuntimeIdentifier><SelfContained>false</SelfContained>";
        var program = packed.Write(folder, "Serving", Properties, CodeOf("src/TtaService.Serving/README.md"), "<FrameworkReference Include=\"Microsoft.AspNetCore.App\" />");
        Directory.CreateDirectory(folder.In("models/fashion-mnist"));
        foreach (var file in new[] { "model.onnx", "model.json" })
        {
            File.Copy(Repository.In($"deploy/models/fashion-mnist/{file}"), folder.In($"models/fashion-mnist/{file}"));
        }

        await AssertAnswersAsync(program, folder, "Serving");

        Assert.Contains(Directory.EnumerateFiles(folder.In("states"), "*", SearchOption.AllDirectories), file => new FileInfo(file).Length > 1000);
    }

    // Runs a program that answers the sample's first frames.
    private static async Task AssertAnswersAsync(string program, TestFolder folder, string reference)
    {
        var sample = LabelledImages.Open(Repository.In("deploy/models/fashion-mnist/sample"), path => throw new NotSupportedException(path));
        Directory.CreateDirectory(folder.In("frames"));
        for (var frame = 0; frame < Frames; frame++)
        {
            await File.WriteAllBytesAsync(folder.In($"frames/{frame:000}.raw"), sample.Read(frame).Pixels.ToArray(), TestContext.Current.CancellationToken);
        }

        var began = Stopwatch.GetTimestamp();
        var printed = await PackedProjects.RunAsync(program, folder.Path);

        var answers = Answer().Matches(printed)
            .Select(match => (Frame: int.Parse(match.Groups[1].Value), Class: int.Parse(match.Groups[2].Value), Step: int.Parse(match.Groups[3].Value)))
            .ToList();
        Assert.Equal(Enumerable.Range(0, Frames).Select(frame => (frame, frame + 1)), answers.Select(answer => (answer.Frame, answer.Step)));
        Assert.InRange(answers.Count(answer => answer.Class == sample.Labels[answer.Frame]), Frames * 3 / 4, Frames);
        TestContext.Current.TestOutputHelper!.WriteLine($"figure: restore, build and run with TtaService.{reference} in {Stopwatch.GetElapsedTime(began).TotalSeconds:0.0} s");
    }

    [Fact]
    public async Task EvaluationReadme_ProgramOutsideTheRepository_MeasuresThatAdaptingHelps()
    {
        Assert.SkipUnless(OperatingSystem.IsLinux(), "the native step is Linux's");
        using var folder = new TestFolder();
        var program = packed.Write(folder, "Evaluation", "", CodeOf("src/TtaService.Evaluation/README.md"));
        File.Copy(Repository.In("deploy/models/fashion-mnist/model.onnx"), folder.In("model.onnx"));
        Directory.CreateDirectory(folder.In("sample"));
        foreach (var file in Directory.EnumerateFiles(Repository.In("deploy/models/fashion-mnist/sample")))
        {
            File.Copy(file, Path.Combine(folder.In("sample"), Path.GetFileName(file)));
        }

        var printed = await PackedProjects.RunAsync(program, folder.Path);

        var errors = ErrorOfMethod().Matches(printed).ToDictionary(match => match.Groups[1].Value, match => double.Parse(match.Groups[2].Value, CultureInfo.InvariantCulture));
        Assert.Equal(["source", "adaptive"], errors.Keys);
        Assert.InRange(errors["adaptive"], 1, errors["source"] - 1);
    }

    [Fact]
    public async Task ClientReadme_ProgramOutsideTheRepository_StreamsAFolder()
    {
        await using var host = await TestHost.StartAsync();
        using var folder = new TestFolder();
        var program = packed.Write(
            folder, "Client", "", CodeOf("src/TtaService.Client/README.md").Replace("http://127.0.0.1:8001", host.Grpc.AbsoluteUri, StringComparison.Ordinal));
        Directory.CreateDirectory(folder.In("frames"));
        for (var frame = 0; frame < 3; frame++)
        {
            await File.WriteAllBytesAsync(folder.In($"frames/{frame}.png"), TestFrames.File(frame, SkiaSharp.SKEncodedImageFormat.Png), TestContext.Current.CancellationToken);
        }

        var printed = await PackedProjects.RunAsync(program, folder.Path);

        Assert.Equal(3, printed.Split('\n').Count(line => line.StartsWith("frames/", StringComparison.Ordinal) && line.Contains(": ", StringComparison.Ordinal)));
        Assert.Equal(3, (await host.GetAsync("gate-7")).Age.Steps);
    }

    private static string CodeOf(string readme) => CSharpBlock().Match(Repository.Read(readme)).Groups[1].Value;

    [GeneratedRegex("```csharp\n(.*?)```", RegexOptions.Singleline)]
    private static partial Regex CSharpBlock();

    [GeneratedRegex(@"^(\w+): ([\d.]+) % wrong", RegexOptions.Multiline)]
    private static partial Regex ErrorOfMethod();

    [GeneratedRegex(@"^(\d+)\.raw: class (\d+), step (\d+)", RegexOptions.Multiline)]
    private static partial Regex Answer();
}

using System.Text.RegularExpressions;
using Google.Protobuf;
using SkiaSharp;
using TtaService.Host.Tests.Commands;
using TtaService.Host.Tests.Deployment;
using TtaService.Host.Tests.Infrastructure;
using TtaService.V1;

namespace TtaService.Host.Tests.Readme;

/// <summary>Recipes of README.md, run as they stand there.</summary>
public sealed partial class ReadmeRecipeTests : IDisposable
{
    private readonly TestFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    // Debian 12's grpc_tools brings a protoc of 2018, before proto3 knew 'optional'.
    [Fact]
    public async Task PythonClient_StubsByDebiansOldProtoc_SendsFramesAndPrintsReplies()
    {
        var python = await DebianPython.RequireAsync(("grpc_tools", "python3-grpc-tools"), ("grpc", "python3-grpcio"));
        var (_, version) = await Repository.RunAsync(python, "-m", "grpc_tools.protoc", "--version");
        var includes = Directory.Exists("/usr/include/google/protobuf") ? "/usr/include" : WellKnownTypes();
        var (made, said) = await Repository.RunAsync(
            python, ["-m", "grpc_tools.protoc", "-I", "protos", "-I", includes, $"--python_out={_folder.Path}", $"--grpc_python_out={_folder.Path}", .. Protos()]);
        Assert.True(made == 0, $"{version}: {said}");
        await using var host = await TestHost.StartAsync();
        await File.WriteAllTextAsync(_folder.In("client.py"), Block("import grpc").Replace("127.0.0.1:8001", $"127.0.0.1:{host.Grpc.Port}", StringComparison.Ordinal)
            .Replace("fashion-mnist", TestHost.Model, StringComparison.Ordinal), TestContext.Current.CancellationToken);
        await File.WriteAllBytesAsync(_folder.In("1.png"), TestFrames.File(1, SKEncodedImageFormat.Png), TestContext.Current.CancellationToken);
        await File.WriteAllBytesAsync(_folder.In("2.jpg"), TestFrames.File(2, SKEncodedImageFormat.Jpeg), TestContext.Current.CancellationToken);

        var (exit, printed) = await Repository.RunAsync(python, _folder.In("client.py"), _folder.In("1.png"), _folder.In("2.jpg"));

        Assert.True(exit == 0, printed);
        Assert.Equal(1, Opened().Count(printed));
        Assert.Equal(2, Label().Count(printed) / 5);
        Assert.Equal(2, (await host.GetAsync("camera-1")).Age.Steps);
    }

    [Fact]
    public async Task PythonStubs_TellAnAbsentFieldFromZero()
    {
        var python = await DebianPython.RequireAsync(("grpc_tools", "python3-grpc-tools"));
        var (made, said) = await Repository.RunAsync(python, ["-m", "grpc_tools.protoc", "-I", "protos", "-I", WellKnownTypes(), $"--python_out={_folder.Path}", .. Protos()]);
        Assert.True(made == 0, said);
        const string Script = "import sys; sys.path.insert(0, sys.argv[1]); from tta.v1 import adaptation_pb2 as t; a = t.OpenStream(seed=0, max_coalesce=0); "
            + "print(a.HasField('seed'), t.OpenStream().HasField('seed'), a.SerializeToString().hex())";

        var (exit, printed) = await Repository.RunAsync(python, "-c", Script, _folder.Path);

        // Bytes and presence as with 'optional': field 4 and field 8, both zero.
        Assert.Equal((0, "True False 20004000"), (exit, printed));
        var read = OpenStream.Parser.ParseFrom(Convert.FromHexString("20004000"));
        Assert.True(read is { HasSeed: true, HasMaxCoalesce: true, HasFreeze: false });
        Assert.Equal("20004000", Convert.ToHexStringLower(new OpenStream { Seed = 0, MaxCoalesce = 0 }.ToByteArray()));
    }

    [Fact]
    public void Protos_NeedNoNewProtoc() =>
        Assert.All(Protos(), file => Assert.DoesNotMatch(OptionalField(), Repository.Read(file)));

    [Fact]
    public async Task SnapshotByHand_AsTheReadmeBuildsIt_IsTakenByAServer()
    {
        var python = await DebianPython.RequireAsync(("numpy", "python3-numpy"));
        var model = Path.Combine(TestHost.ModelsPath, TestHost.Model);
        await File.WriteAllTextAsync(_folder.In("model.json"), (await TtaRun.Of("inspect", model, "--json")).Output, TestContext.Current.CancellationToken);
        await File.WriteAllTextAsync(_folder.In("build.py"), Block("import json, struct, sys"), TestContext.Current.CancellationToken);
        var snapshot = _folder.In("by-hand.safetensors");

        var (exit, printed) = await Repository.RunAsync(python, _folder.In("build.py"), _folder.In("model.json"), snapshot);

        Assert.True(exit == 0, printed);
        var verified = await TtaRun.Of("snapshot", "verify", snapshot, "--model", model);
        Assert.True(verified.ExitCode == 0, verified.Output);
        await using var host = await TestHost.StartAsync();
        var imported = await host.Streams.ImportStreamAsync(
            new ImportStreamRequest { Name = "by-hand", Snapshot = ByteString.CopyFrom(await File.ReadAllBytesAsync(snapshot, TestContext.Current.CancellationToken)) });
        Assert.Equal(("ema", 100), (imported.Method.Name, imported.Age.Steps));
        Assert.Equal(101, (await host.StepAsync("by-hand", TestFrames.Tensor(1))).Step);
    }

    private static string[] Protos() =>
        [.. Directory.GetFiles(Repository.In("protos/tta/v1"), "*.proto").Select(file => Path.GetRelativePath(Repository.Root, file)).Order(StringComparer.Ordinal)];

    // As they come with the build's own protoc; Debian's are in libprotobuf-dev.
    private static string WellKnownTypes() => Directory.GetDirectories(Path.Combine(
        Environment.GetEnvironmentVariable("NUGET_PACKAGES") ?? Path.Combine(Environment.GetFolderPath(Environment.SpecialFolder.UserProfile), ".nuget", "packages"), "grpc.tools"))
        .Select(version => Path.Combine(version, "build", "native", "include")).First(Directory.Exists);

    private static string Block(string with) =>
        PythonBlock().Matches(Repository.Read("README.md")).Select(match => match.Groups[1].Value).Single(code => code.Contains(with, StringComparison.Ordinal));

    [GeneratedRegex("```python\n(.*?)```", RegexOptions.Singleline)]
    private static partial Regex PythonBlock();

    [GeneratedRegex(@"^\s*optional\s", RegexOptions.Multiline)]
    private static partial Regex OptionalField();

    [GeneratedRegex("^opened", RegexOptions.Multiline)]
    private static partial Regex Opened();

    [GeneratedRegex("probability:")]
    private static partial Regex Label();
}

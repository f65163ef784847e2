using System.Text.RegularExpressions;
using SkiaSharp;
using TtaService.Host.Tests.Deployment;
using TtaService.Host.Tests.Infrastructure;

namespace TtaService.Host.Tests.Readme;

/// <summary>The programs of deploy/examples, run as they stand against a real server with the demo's model.</summary>
[Trait("Speed", "slow")]
public sealed partial class ExampleTests : IDisposable
{
    private const int LongestExample = 60;
    private readonly TestFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public async Task Python_Grpcio()
    {
        var python = await DebianPython.RequireAsync(("grpc_tools", "python3-grpc-tools"), ("grpc", "python3-grpcio"));
        Assert.SkipUnless(File.Exists("/usr/include/google/protobuf/empty.proto"), "protobuf's own .proto files are not installed; apt-get install libprotobuf-dev");

        await AssertStreamsAsync("camera-py", python, ["camera.py"]);
    }

    [Fact]
    public async Task Python_Tritonclient()
    {
        var python = await DebianPython.RequireAsync(("tritonclient.grpc", "python3-pip and pip install tritonclient[grpc]"));

        await AssertStreamsAsync("camera-triton", python, ["camera_triton.py"]);
    }

    [Fact]
    public async Task Node_GrpcJs()
    {
        var node = OtherProgram.Require("node", "nodejs");
        var npm = OtherProgram.Require("npm");
        var (installed, said) = await Repository.RunAsync(npm, "install", "--prefix", _folder.In("npm"), "--no-audit", "--no-fund", "@grpc/grpc-js@1", "@grpc/proto-loader@0.8");
        Assert.SkipUnless(installed == 0, $"npm install @grpc/grpc-js @grpc/proto-loader does not go through: {said}");

        await AssertStreamsAsync("camera-js", node, ["camera.js"], ("NODE_PATH", _folder.In("npm/node_modules")));
    }

    // A copy beside the repository's projects: what it builds stays out of the tree.
    [Fact]
    public async Task CSharp_FileThatRuns()
    {
        var source = Repository.Read("deploy/examples/camera.cs").Replace("../../src", Repository.In("src"), StringComparison.Ordinal);
        await File.WriteAllTextAsync(_folder.In("camera.cs"), source, TestContext.Current.CancellationToken);

        await AssertStreamsAsync("camera-cs", "dotnet", ["run", "camera.cs", "--"]);
    }

    [Fact]
    public async Task Shell_Curl()
    {
        OtherProgram.Require("curl");

        var printed = await AssertStreamsAsync("camera-sh", "bash", ["camera.sh"]);

        Assert.Contains("\"name\": \"camera-sh\"", printed, StringComparison.Ordinal);
    }

    [Fact]
    public void Examples_AreShort() => Assert.All(
        Directory.GetFiles(Repository.In("deploy/examples")).Where(file => !file.EndsWith(".md", StringComparison.Ordinal)),
        file => Assert.InRange(File.ReadAllLines(file).Length, 5, LongestExample));

    // Twice: a stream that exists goes on.
    private async Task<string> AssertStreamsAsync(string stream, string program, string[] arguments, params (string Name, string Value)[] variables)
    {
        await using var host = await TestHost.StartAsync($"--Models:Path={FashionCamera.Models}");
        string[] frames = [_folder.In("1.png"), _folder.In("2.jpg"), _folder.In("3.png")];
        for (var frame = 0; frame < frames.Length; frame++)
        {
            var format = frames[frame].EndsWith("png", StringComparison.Ordinal) ? SKEncodedImageFormat.Png : SKEncodedImageFormat.Jpeg;
            await File.WriteAllBytesAsync(frames[frame], TestFrames.File(frame, format), TestContext.Current.CancellationToken);
        }

        var environment = variables.ToDictionary(variable => variable.Name, variable => variable.Value);
        (environment["TTA_GRPC"], environment["TTA_HTTP"]) = ($"127.0.0.1:{host.Grpc.Port}", $"127.0.0.1:{host.Http.Port}");
        var folder = File.Exists(_folder.In(arguments[^1])) || arguments.Length > 1 ? _folder.Path : Repository.In("deploy/examples");
        var printed = string.Empty;
        for (var run = 0; run < 2; run++)
        {
            await using var example = OtherProgram.Start(program, [.. arguments, .. frames], environment, folder);
            await example.ExitAsync();
            printed = example.Printed;
            Assert.True(example.ExitCode == 0, printed);
            var answers = Answer().Matches(printed);
            Assert.Equal(Enumerable.Range((run * frames.Length) + 1, frames.Length), answers.Select(answer => int.Parse(answer.Groups[1].Value)));
        }

        Assert.Equal(2 * frames.Length, (await host.GetAsync(stream)).Age.Steps);
        return printed;
    }

    [GeneratedRegex(@"\.(?:png|jpg): .*, step (\d+)")]
    private static partial Regex Answer();
}

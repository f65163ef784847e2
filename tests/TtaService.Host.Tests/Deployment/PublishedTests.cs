using System.Diagnostics;
using System.Text.Json;
using Grpc.Net.Client;
using SkiaSharp;
using TtaService.Client;
using TtaService.Host.Tests.Infrastructure;
using TtaService.V1;

namespace TtaService.Host.Tests.Deployment;

/// <summary>The published output, started as the image starts it: as a user without rights, without a home, from a tree that it can't write.</summary>
public sealed class PublishedTests(PublishedTree tree) : IClassFixture<PublishedTree>
{
    private const int User = 1654;
    private const long MaxBytes = 420_000_000;
    private static readonly string[] Assets = ["runtime", "native"];

    [Fact]
    public void Content_IsWithinItsLimit()
    {
        TestContext.Current.TestOutputHelper!.WriteLine($"figure: published tree {tree.Bytes / 1e6:0.0} MB{(tree.IsStripped ? "" : " (not stripped)")}");
        Assert.SkipUnless(tree.IsStripped, "strip is not installed; apt-get install binutils");

        Assert.InRange(tree.Bytes, 1, MaxBytes);
    }

    [Fact]
    public void Bom_ListsEveryPackageOfTheTree()
    {
        using var bom = JsonDocument.Parse(File.ReadAllText(Path.Combine(tree.Path, "sbom.cdx.json")));
        var listed = bom.RootElement.GetProperty("components").EnumerateArray()
            .Select(component => $"{component.GetProperty("name").GetString()}/{component.GetProperty("version").GetString()}").ToHashSet(StringComparer.OrdinalIgnoreCase);
        using var dependencies = JsonDocument.Parse(File.ReadAllText(Path.Combine(tree.Path, "tta.deps.json")));
        var shipped = dependencies.RootElement.GetProperty("targets").EnumerateObject().SelectMany(target => target.Value.EnumerateObject())
            .Where(library => Assets.Any(kind => library.Value.TryGetProperty(kind, out var files)
                && files.EnumerateObject().Any(file => File.Exists(Path.Combine(tree.Path, Path.GetFileName(file.Name))))))
            .Select(library => library.Name).Where(name => !name.StartsWith("tta/", StringComparison.Ordinal) && !name.StartsWith("TtaService", StringComparison.Ordinal)).ToList();

        Assert.Contains(shipped, name => name.StartsWith("libtorch-cpu", StringComparison.Ordinal));
        Assert.DoesNotContain(shipped, name => !listed.Contains(name));
    }

    [Fact]
    public async Task Started_AsAnotherUserWithoutHomeAndRightToWrite_ServesAndStops()
    {
        Assert.SkipUnless(Environment.UserName == "root", "only root can start a program as another user");
        var setpriv = OtherProgram.Require("setpriv", "util-linux");
        var before = Files();
        var (grpcPort, httpPort) = (OtherProgram.FreePort(), OtherProgram.FreePort());
        var environment = Dockerfile.Parse(Repository.Read("Dockerfile")).Environment.ToDictionary();
        environment["HOME"] = environment["TMPDIR"] = "/nonexistent";
        environment["Server__Address"] = "localhost";
        environment["Server__GrpcPort"] = $"{grpcPort}";
        environment["Server__HttpPort"] = $"{httpPort}";
        environment["Store__Kind"] = "memory";
        environment["DOTNET_ROOT"] = Path.GetFullPath(Path.Combine(Path.GetDirectoryName(typeof(object).Assembly.Location)!, "../../.."));
        // env -i: nothing of this process' environment comes along.
        var variables = environment.Select(variable => $"{variable.Key}={variable.Value}").ToList();
        string[] prefix = [$"--reuid={User}", $"--regid={User}", "--clear-groups", "--no-new-privs", "--bounding-set=-all", "env", "-i"];
        var began = Stopwatch.GetTimestamp();
        await using var server = OtherProgram.Start(setpriv, [.. prefix, .. variables, tree.Program, "serve"], folder: tree.Path);
        using var client = new HttpClient();
        await server.UntilAsync(async () =>
        {
            try
            {
                using var ready = await client.GetAsync(new Uri($"http://127.0.0.1:{httpPort}/health/ready"));
                return ready.IsSuccessStatusCode;
            }
            catch (HttpRequestException)
            {
                return false;
            }
        });
        var took = Stopwatch.GetElapsedTime(began);
        using var process = Process.GetProcessById(server.Id);
        TestContext.Current.TestOutputHelper!.WriteLine(
            $"figure: start to ready {took.TotalSeconds:0.00} s, CPU time {process.TotalProcessorTime.TotalSeconds:0.00} s, resident {process.WorkingSet64 >> 20} MiB");
        Assert.Contains(
            $"Uid:\t{User}\t{User}\t{User}\t{User}", await File.ReadAllTextAsync($"/proc/{server.Id}/status", TestContext.Current.CancellationToken), StringComparison.Ordinal);
        // The clock depends on what else the machine does; its processors' time less.
        Assert.True(process.TotalProcessorTime < TimeSpan.FromSeconds(5), $"the start took {process.TotalProcessorTime} of CPU time");

        using (var channel = GrpcChannel.ForAddress($"http://127.0.0.1:{grpcPort}"))
        {
            await using var camera = await AdaptationStream.OpenAsync(
                channel.CreateCallInvoker(), new OpenStream { Stream = "camera" }, cancel: TestContext.Current.CancellationToken);
            var reply = await camera.StepAsync([TestFrames.Encoded(TestFrames.File(1, SKEncodedImageFormat.Jpeg))], cancel: TestContext.Current.CancellationToken);
            Assert.Equal(1, reply.Step);
        }

        // Every native file that is shipped is one that a serving process has loaded.
        var mapped = await File.ReadAllTextAsync($"/proc/{server.Id}/maps", TestContext.Current.CancellationToken);
        Assert.DoesNotContain(before.Keys, file => Path.GetFileName(file).Contains(".so", StringComparison.Ordinal) && !mapped.Contains(file, StringComparison.Ordinal));

        await using (var health = OtherProgram.Start(setpriv, [.. prefix, .. variables, tree.Program, "health"]))
        {
            await health.ExitAsync();
            Assert.Equal((0, "Healthy"), (health.ExitCode, health.Printed));
        }

        await server.TerminateAsync();
        Assert.True(server.ExitCode == 0, server.Printed);
        Assert.Equal(before, Files());

        await using var late = OtherProgram.Start(setpriv, [.. prefix, .. variables, tree.Program, "health"]);
        await late.ExitAsync();
        Assert.Equal(1, late.ExitCode);
    }

    private Dictionary<string, DateTime> Files() => Directory.EnumerateFiles(tree.Path, "*", SearchOption.AllDirectories).ToDictionary(file => file, File.GetLastWriteTimeUtc);
}

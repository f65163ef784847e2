using TtaService.Host.Tests.Infrastructure;

namespace TtaService.Host.Tests.Deployment;

/// <summary>What the image's build stage publishes, made here of the build that is being tested.</summary>
public sealed class PublishedTree : IAsyncLifetime
{
    private TestFolder? _folder;

    public string Path => _folder!.Path;

    public string Program => _folder!.In("tta");

    /// <summary>Whether linker symbols were taken out, as in the image; that needs binutils.</summary>
    public bool IsStripped { get; private set; }

    public long Bytes => Directory.EnumerateFiles(Path, "*", SearchOption.AllDirectories).Sum(file => new FileInfo(file).Length);

    public async ValueTask InitializeAsync()
    {
        _folder = new TestFolder();
        IsStripped = File.Exists("/usr/bin/strip");
        var configuration = AppContext.BaseDirectory.Contains("/debug", StringComparison.Ordinal) ? "Debug" : "Release";
        var (exitCode, printed) = await Repository.RunAsync(
            "dotnet", "publish", "src/TtaService.Host", "-c", configuration, "--no-build", "-o", Path, $"-p:StripLibTorch={IsStripped}", "-p:WriteBom=true");
        Assert.True(exitCode == 0, printed);
        // As in an image: everyone reads it, nobody writes it.
        await Repository.RunAsync("chmod", "555", Path);
    }

    public async ValueTask DisposeAsync()
    {
        await Repository.RunAsync("chmod", "755", Path);
        _folder!.Dispose();
    }
}

using System.Xml.Linq;
using TtaService.Host.Tests.Deployment;
using TtaService.Host.Tests.Infrastructure;

namespace TtaService.Host.Tests.Packages;

/// <summary>The packages of the build that is being tested, in a folder that serves as a feed.</summary>
public sealed class PackedProjects : IAsyncLifetime
{
    // A version of its own, which no cache has seen.
    private static readonly string Version = $"0.0.0-test.{Guid.NewGuid():N}";

    // Programs outside know nothing of this process' build.
    private static readonly Dictionary<string, string> Quiet = new() { ["DOTNET_CLI_TELEMETRY_OPTOUT"] = "1", ["DOTNET_NOLOGO"] = "1", ["MSBUILDDISABLENODEREUSE"] = "1" };

    private TestFolder? _folder;

    public async ValueTask InitializeAsync()
    {
        _folder = new TestFolder();
        var configuration = AppContext.BaseDirectory.Contains("/debug", StringComparison.Ordinal) ? "Debug" : "Release";
        foreach (var project in new[] { "Engine", "Evaluation", "Serving", "Client" })
        {
            var (exitCode, printed) = await Repository.RunAsync(
                "dotnet", "pack", $"src/TtaService.{project}", "-c", configuration, "--no-build", "-o", _folder.In("feed"), $"-p:PackageVersion={Version}");
            Assert.True(exitCode == 0, printed);
        }
    }

    public string PackageOf(string project, string ending) => _folder!.In($"feed/TtaService.{project}.{Version}.{ending}");

    /// <summary>Writes a console program that references a package; it takes what else it needs from this machine's package folder.</summary>
    /// <returns>The project's path.</returns>
    internal string Write(TestFolder folder, string reference, string properties, string code, string items = "")
    {
        var installed = Environment.GetEnvironmentVariable("NUGET_PACKAGES")
            ?? Path.Combine(Environment.GetFolderPath(Environment.SpecialFolder.UserProfile), ".nuget", "packages");
        var project = XElement.Parse($"""
            <Project Sdk="Microsoft.NET.Sdk">
              <PropertyGroup>
                <OutputType>Exe</OutputType>
                <TargetFramework>net10.0</TargetFramework>
                <Nullable>enable</Nullable>
                <ImplicitUsings>enable</ImplicitUsings>
                <NuGetAudit>false</NuGetAudit>
                <RestorePackagesPath>{_folder!.In("packages")}</RestorePackagesPath>
                <RestoreFallbackFolders>{installed}</RestoreFallbackFolders>
                <RestoreAdditionalProjectSources>{_folder.In("feed")}</RestoreAdditionalProjectSources>
                {properties}
              </PropertyGroup>
              <ItemGroup>
                <PackageReference Include="TtaService.{reference}" Version="{Version}" />
                {items}
              </ItemGroup>
            </Project>
            """);
        var path = folder.In("Outside.csproj");
        File.WriteAllText(path, project.ToString());
        File.WriteAllText(folder.In("Program.cs"), code);
        return path;
    }

    /// <summary>Restores, builds and runs it; what it printed.</summary>
    internal static async Task<string> RunAsync(string project, string folder)
    {
        await using (var build = OtherProgram.Start("dotnet", ["build", project, "-c", "Release", "-o", Path.Combine(folder, "out")], Quiet, folder))
        {
            await build.ExitAsync();
            Assert.True(build.ExitCode == 0, build.Printed);
        }

        await using var program = OtherProgram.Start("dotnet", [Path.Combine(folder, "out", "Outside.dll")], Quiet, folder);
        await program.ExitAsync();
        Assert.True(program.ExitCode == 0, program.Printed);
        return program.Printed;
    }

    public ValueTask DisposeAsync()
    {
        _folder?.Dispose();
        return ValueTask.CompletedTask;
    }
}

using System.Text.RegularExpressions;
using TtaService.Host.Tests.Deployment;

namespace TtaService.Host.Tests.House;

/// <summary>What the documents point to is there.</summary>
public sealed partial class DocumentTests
{
    [Theory]
    [InlineData("README.md")]
    [InlineData("CONTRIBUTING.md")]
    [InlineData("CHANGELOG.md")]
    [InlineData("src/README.md")]
    [InlineData("src/TtaService.Engine/README.md")]
    [InlineData("src/TtaService.Evaluation/README.md")]
    [InlineData("src/TtaService.Serving/README.md")]
    [InlineData("src/TtaService.Host/README.md")]
    [InlineData("src/TtaService.Client/README.md")]
    [InlineData("tests/TtaService.Benchmarks/README.md")]
    public void Document_LinksAndNames_Exist(string document)
    {
        var text = Repository.Read(document);
        var folder = Path.GetDirectoryName(Repository.In(document))!;
        var anchors = Heading().Matches(text).Select(match => NoAnchor().Replace(match.Groups[1].Value.ToLowerInvariant(), "").Replace(' ', '-')).ToHashSet();
        foreach (Match link in Link().Matches(text))
        {
            var target = link.Groups[1].Value;
            var exists = target.StartsWith('#') ? anchors.Contains(target[1..]) : Path.Exists(Path.Combine(folder, target.Split('#')[0]));
            Assert.True(exists, $"{document} links to {target}, which is not there");
        }

        foreach (Match path in RepositoryPath().Matches(text))
        {
            Assert.True(Path.Exists(Repository.In(path.Groups[1].Value)), $"{document} names {path.Groups[1].Value}, which is not there");
        }
    }

    // Types, folders and calls that the architecture page leads to.
    [Fact]
    public void Architecture_TypesItNames_Exist()
    {
        var known = Directory.EnumerateFileSystemEntries(Repository.In("src"), "*", SearchOption.AllDirectories)
            .Concat(Directory.EnumerateFiles(Repository.In("tests"), "*.cs", SearchOption.AllDirectories))
            .Select(Path.GetFileNameWithoutExtension).Append("Engine").Append("Evaluation").Append("Serving").Append("Host").Append("Client").ToHashSet();
        var protocol = string.Concat(Directory.EnumerateFiles(Repository.In("protos/tta/v1")).Select(File.ReadAllText));
        var named = TypeName().Matches(Repository.Read("src/README.md")).Select(match => match.Groups[1].Value).Distinct().ToList();

        Assert.True(named.Count > 20, string.Join(", ", named));
        Assert.DoesNotContain(named, name => !known.Contains(name) && !protocol.Contains($"rpc {name}(", StringComparison.Ordinal));
    }

    [Fact]
    public async Task TestScript_NoTestMatches_SaysSo()
    {
        // Of the built projects; a build within a build would wait for itself.
        var (exit, printed) = await Repository.RunAsync("bash", "build/test", "NoTestHasThisInItsName", "--no-build");

        Assert.Equal(2, exit);
        Assert.Contains("no test class or method has 'NoTestHasThisInItsName' in its name", printed, StringComparison.Ordinal);
    }

    [GeneratedRegex(@"\]\((?!https?:)([^)\s]+)\)")]
    private static partial Regex Link();

    [GeneratedRegex("^#+ (.*)$", RegexOptions.Multiline)]
    private static partial Regex Heading();

    [GeneratedRegex(@"[^\w\- ]")]
    private static partial Regex NoAnchor();

    [GeneratedRegex(@"`((?:src|tests|deploy|protos|build|\.ci)/[\w./-]+)(?: [^`]*)?`")]
    private static partial Regex RepositoryPath();

    [GeneratedRegex(@"`(?:\w+/)*([A-Z]\w+)(?:\.\w+)?`")]
    private static partial Regex TypeName();
}

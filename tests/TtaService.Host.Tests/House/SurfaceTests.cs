using System.Reflection;
using System.Xml.Linq;
using TtaService.Client;
using TtaService.Engine.Execution;
using TtaService.Evaluation;
using TtaService.Host.Tests.Deployment;
using TtaService.Serving.Streams;

namespace TtaService.Host.Tests.House;

/// <summary>What the packages show to others is listed, a file a package: nothing comes or goes by accident.</summary>
public sealed class SurfaceTests
{
    private const string Folder = "tests/TtaService.Host.Tests/House/Surface";
    private const string Accept = "TTA_ACCEPT_SURFACE";
    private const int Listed = 40;

    private static readonly Assembly[] Packages = [typeof(AdaptiveModel).Assembly, typeof(Evaluator).Assembly, typeof(StreamNames).Assembly, typeof(AdaptationStream).Assembly];

    public static TheoryData<string> Names => [.. Packages.Select(assembly => assembly.GetName().Name!)];

    [Theory]
    [MemberData(nameof(Names))]
    public void Surface_OfAPackage_IsTheListedOne(string package)
    {
        var surface = PublicSurface.Of(Packages.Single(assembly => assembly.GetName().Name == package));
        var path = Repository.In($"{Folder}/{package}.txt");
        if (Environment.GetEnvironmentVariable(Accept) == "1")
        {
            Directory.CreateDirectory(Path.GetDirectoryName(path)!);
            File.WriteAllLines(path, surface);
        }

        Assert.NotEmpty(surface);
        var (listed, shown) = (Whole(File.ReadAllLines(path)), Whole(surface));
        string[] difference = [.. listed.Except(shown).Select(line => $"gone: {line}"), .. shown.Except(listed).Select(line => $"new:  {line}")];
        Assert.True(
            difference.Length == 0,
            $"{package} shows something else than {Folder}/{package}.txt lists; make internal what nobody outside needs, "
            + $"and accept the rest by {Accept}=1 build/test Surface:\n{string.Join('\n', difference.Take(Listed))}");
    }

    [Fact]
    public void Packages_AreAllListed()
    {
        var packed = Directory.GetFiles(Repository.In("src"), "*.csproj", SearchOption.AllDirectories)
            .Where(project => XElement.Load(project).Descendants("IsPackable").Any(value => value.Value == "true"))
            .Select(project => Path.GetFileNameWithoutExtension(project));

        Assert.Equal(packed.Order(StringComparer.Ordinal), Packages.Select(assembly => assembly.GetName().Name!).Order(StringComparer.Ordinal));
    }

    // Every member with its type before it, so that a line that moved to another type is a difference, too.
    private static List<string> Whole(IEnumerable<string> lines)
    {
        var type = "";
        var whole = new List<string>();
        foreach (var line in lines)
        {
            type = line.StartsWith(' ') ? type : line;
            whole.Add(line == type ? line : $"{type} > {line.Trim()}");
        }

        return whole;
    }
}

using System.Text.RegularExpressions;
using TtaService.Host.Tests.Deployment;

namespace TtaService.Host.Tests.House;

/// <summary>Which room may know which, and how its source looks.</summary>
public sealed partial class RoomTests
{
    private const int MaxLineLength = 180;
    private const string Serving = "src/TtaService.Serving";

    // Whoever writes a protocol reads the front door and what goes through it.
    private static readonly string[] BehindTheDoor =
    [
        "StepBatcher", "StreamDirectory", "StreamSession", "StreamLease", "StreamList", "StreamRegister", "StreamOpenings", "StreamDepartures", "StreamChanges",
        "ModelCatalog", "ServedModel", "StepIntake", "DriftBoard",
    ];

    [Theory]
    [InlineData("src/TtaService.Host/Grpc")]
    [InlineData("src/TtaService.Host/Inference")]
    [InlineData("src/TtaService.Host/Protocols")]
    public void Protocol_KnowsTheFrontDoorAlone(string folder)
    {
        var hidden = BehindTheDoor.Append("Batcher").Concat(TypesIn($"{Serving}/Store")).Concat(TypesIn($"{Serving}/Streams/Keeping")).ToHashSet();
        Assert.Contains("IStreamStateStore", hidden);
        Assert.Contains("StreamSaving", hidden);
        foreach (var (file, text) in Sources(folder))
        {
            var named = Word().Matches(text).Select(match => match.Value).Where(hidden.Contains).Distinct();
            Assert.True(!named.Any(), $"{file} names {string.Join(", ", named)}, which is behind the front door");
        }
    }

    [Fact]
    public void BehindTheDoor_EveryNameOfTheList_IsAType() => Assert.Empty(BehindTheDoor.Except(TypesIn(Serving)));

    [Fact]
    public void Rooms_KnowEachOtherInOneDirectionOnly()
    {
        var rooms = Directory.GetDirectories(Repository.In(Serving)).Select(Path.GetFileName).OfType<string>().Where(room => room is not ("obj" or "bin")).ToList();
        Assert.Contains("Streams", rooms);
        var knows = rooms.ToDictionary(room => room, room => Sources($"{Serving}/{room}")
            .SelectMany(source => RoomName().Matches(source.Text))
            .Select(match => match.Groups[1].Value)
            .Where(known => known != room && rooms.Contains(known))
            .ToHashSet());

        // Take away who knows nobody that is left, until nobody is left.
        while (knows.FirstOrDefault(room => !room.Value.Any(knows.ContainsKey)) is { Key: { } free })
        {
            knows.Remove(free);
        }

        Assert.True(knows.Count == 0, string.Join("; ", knows.Select(room => $"{room.Key} knows {string.Join(", ", room.Value.Where(knows.ContainsKey))}")));
    }

    // Checked there once: the activations of a site, and the upload that fills memory which it made itself.
    [Fact]
    public void Pointers_OfTensors_AreTakenAtTwoDoorsOnly() => Assert.Equal(
        ["Execution/FrameUpload.cs", "Execution/SiteActivations.cs"],
        Sources("src/TtaService.Engine").Where(source => source.Text.Contains("data_ptr", StringComparison.Ordinal)).Select(source => source.File).Order(StringComparer.Ordinal));

    [Theory]
    [InlineData("src/TtaService.Serving")]
    [InlineData("src/TtaService.Host")]
    [InlineData("src/TtaService.Client")]
    [InlineData("src/TtaService.Evaluation")]
    [InlineData("src/TtaService.Engine")]
    [InlineData("tests")]
    public void Source_NoLineIsTooLong(string folder)
    {
        var tooLong = Directory.EnumerateFiles(Repository.In(folder), "*.cs", SearchOption.AllDirectories)
            .Where(file => !file.Contains("/obj/", StringComparison.Ordinal) && !file.Contains("/bin/", StringComparison.Ordinal))
            .SelectMany(file => File.ReadLines(file).Select((line, number) => (Where: $"{Path.GetRelativePath(Repository.In(folder), file)}:{number + 1}", line.Length)))
            .Where(line => line.Length > MaxLineLength)
            .Select(line => line.Where)
            .ToList();

        Assert.True(tooLong.Count == 0, $"{tooLong.Count} lines of {folder} are longer than {MaxLineLength}: {string.Join(", ", tooLong)}");
    }

    // Of the file, not of another type.
    private static IEnumerable<string> TypesIn(string folder) =>
        Sources(folder).SelectMany(source => TypeDeclaration().Matches(source.Text)).Select(match => match.Groups[1].Value);

    private static IEnumerable<(string File, string Text)> Sources(string folder) => Directory
        .EnumerateFiles(Repository.In(folder), "*.cs", SearchOption.AllDirectories)
        .Where(file => !file.Contains("/obj/", StringComparison.Ordinal) && !file.Contains("/bin/", StringComparison.Ordinal))
        .Select(file => (Path.GetRelativePath(Repository.In(folder), file), Comment().Replace(File.ReadAllText(file), "")));

    [GeneratedRegex(@"^(?:internal|public)(?: [a-z]+)*? (?:class|struct|interface|enum|record struct|record) ([A-Z]\w+)", RegexOptions.Multiline)]
    private static partial Regex TypeDeclaration();

    [GeneratedRegex(@"\bServing\.([A-Z]\w+)\b")]
    private static partial Regex RoomName();

    [GeneratedRegex(@"\b[A-Z]\w+\b")]
    private static partial Regex Word();

    [GeneratedRegex("//.*")]
    private static partial Regex Comment();
}

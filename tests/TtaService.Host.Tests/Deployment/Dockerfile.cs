using System.Text.RegularExpressions;

namespace TtaService.Host.Tests.Deployment;

/// <summary>The instructions of a Dockerfile, stage by stage.</summary>
internal sealed partial class Dockerfile
{
    private static readonly HashSet<string> Known = ["FROM", "ARG", "RUN", "COPY", "WORKDIR",
        "LABEL", "ENV", "USER", "VOLUME", "EXPOSE", "STOPSIGNAL", "HEALTHCHECK", "ENTRYPOINT", "CMD"];

    public required IReadOnlyList<Stage> Stages { get; init; }

    public Stage Final => Stages[^1];

    /// <summary>Variables of the final stage.</summary>
    public IReadOnlyDictionary<string, string> Environment =>
        Final.All("ENV").SelectMany(line => Variable().Matches(line)).ToDictionary(match => match.Groups[1].Value, match => match.Groups[2].Value.Trim('"'));

    public static Dockerfile Parse(string text)
    {
        var stages = new List<Stage>();
        var joined = Regex.Replace(Regex.Replace(text, "^#.*\n", string.Empty, RegexOptions.Multiline), "\\\\\n\\s*", string.Empty);
        foreach (var line in joined.Split('\n', StringSplitOptions.RemoveEmptyEntries))
        {
            var at = line.IndexOf(' ', StringComparison.Ordinal);
            var (instruction, rest) = (line[..at], line[(at + 1)..].Trim());
            Assert.True(Known.Contains(instruction), $"{instruction} is no instruction that this image should need");
            if (instruction == "FROM")
            {
                stages.Add(new Stage(rest.Split(' ')[0], []));
            }
            else
            {
                stages[^1].Instructions.Add((instruction, rest));
            }
        }

        return new Dockerfile { Stages = stages };
    }

    [GeneratedRegex("(\\w+)=(\"[^\"]*\"|\\S+)")]
    private static partial Regex Variable();

    internal sealed record Stage(string Base, List<(string Name, string Arguments)> Instructions)
    {
        public IReadOnlyList<string> All(string name) => [.. Instructions.Where(instruction => instruction.Name == name).Select(instruction => instruction.Arguments)];

        public string Single(string name) => Assert.Single(All(name));
    }
}

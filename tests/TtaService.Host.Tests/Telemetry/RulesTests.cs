using System.Text.RegularExpressions;
using Microsoft.Extensions.DependencyInjection;
using TtaService.Host.Tests.Infrastructure;
using TtaService.Serving.Telemetry;

namespace TtaService.Host.Tests.Telemetry;

/// <summary>The files of deploy/prometheus.</summary>
public sealed partial class RulesTests
{
    private static readonly string Folder = PrometheusServer.Shipped("prometheus");

    [Fact]
    public async Task Configuration_IsValid() => await PromtoolAsync(0, "check", "config", Path.Combine(Folder, "prometheus.yml"));

    [Fact]
    public async Task Rules_PassTheirUnitTests() => await PromtoolAsync(0, "test", "rules", Path.Combine(Folder, "tta.rules.test.yml"));

    public static TheoryData<string> Alerts() => [.. AlertLine().Matches(File.ReadAllText(Path.Combine(Folder, "tta.rules.yml"))).Select(match => match.Groups[1].Value)];

    [Fact]
    public void Alerts_AreThirteenThatSayWhatToDo()
    {
        var rules = File.ReadAllText(Path.Combine(Folder, "tta.rules.yml"));

        Assert.Equal(13, Alerts().Count);
        Assert.Equal(13, Regex.Count(rules, "severity: (page|ticket) "));
        Assert.Equal(13, Regex.Count(rules, "^          action: ", RegexOptions.Multiline));
    }

    [Theory]
    [MemberData(nameof(Alerts))]
    public async Task Alert_HasACaseInWhichItFiresAndOneInWhichItDoesNot_AndTheyDependOnIt(string alert)
    {
        var tests = await File.ReadAllTextAsync(Path.Combine(Folder, "tta.rules.test.yml"));
        var cases = tests.Split("  - name: ").Where(text => text.Contains($"alertname: {alert}\n", StringComparison.Ordinal)).ToList();
        Assert.Contains(cases, text => text.Contains("exp_labels:", StringComparison.Ordinal));
        Assert.Contains(cases, text => text.Contains("exp_alerts: []", StringComparison.Ordinal));

        // An alert that always fires, and one that never does, must both fail.
        using var folder = new TestFolder();
        var rules = await File.ReadAllTextAsync(Path.Combine(Folder, "tta.rules.yml"));
        await File.WriteAllTextAsync(folder.In("tta.rules.test.yml"), tests);
        foreach (var expression in new[] { "vector(1)", "vector(1) > 2" })
        {
            var changed = Regex.Replace(rules, $"(- alert: {alert}\n +expr: )(>-\n(?: {{10,}}.*\n)+|.*\n)", $"$1{expression}\n");
            Assert.NotEqual(rules, changed);
            await File.WriteAllTextAsync(folder.In("tta.rules.yml"), changed);
            await PromtoolAsync(1, "test", "rules", folder.In("tta.rules.test.yml"));
        }
    }

    [Fact]
    public async Task Rules_OnlyNameMetricsOfALiveScrape()
    {
        await using var host = await TestHost.StartAsync();
        CardinalityTests.RecordEverything(host.Host.Services.GetRequiredService<TtaMetrics>(), 10);
        var scraped = (await Scrape.OfAsync(host.Http)).All.Select(series => series.Name).ToHashSet();
        var rules = await File.ReadAllTextAsync(Path.Combine(Folder, "tta.rules.yml"));

        var named = MetricName().Matches(rules).Select(match => match.Value).Where(name => !name.StartsWith("tta_model_name", StringComparison.Ordinal)).ToHashSet();

        Assert.True(named.Count >= 12, string.Join(", ", named));
        Assert.All(named, name => Assert.Contains(name, scraped));
    }

    [Fact]
    public async Task Scrape_OwnMetrics_PassPromtoolsLint()
    {
        var promtool = OtherProgram.Require("promtool", "prometheus");
        await using var host = await TestHost.StartAsync("--Telemetry:WatchedStreams=camera-1");
        CardinalityTests.RecordEverything(host.Host.Services.GetRequiredService<TtaMetrics>(), 10);
        using var folder = new TestFolder();
        await File.WriteAllTextAsync(folder.In("scrape"), (await Scrape.OfAsync(host.Http)).Text);

        // Without a shell promtool can't be given its input.
        await using var lint = OtherProgram.Start("/bin/sh", ["-c", $"{promtool} check metrics < {folder.In("scrape")} 2>&1 | grep -E '^(tta|rpc)_|error' || echo clean"]);
        await lint.ExitAsync();

        Assert.Equal("clean", lint.Printed);
    }

    internal static async Task PromtoolAsync(int exitCode, params string[] arguments)
    {
        await using var promtool = OtherProgram.Start(OtherProgram.Require("promtool", "prometheus"), arguments);
        await promtool.ExitAsync();
        Assert.True(promtool.ExitCode == exitCode, $"promtool {string.Join(' ', arguments)} ended with {promtool.ExitCode}:\n{promtool.Printed}");
    }

    [GeneratedRegex(@"- alert: (\w+)")]
    private static partial Regex AlertLine();

    // Names in quotes, labels and record names are no metrics.
    [GeneratedRegex(@"(?<![\w"":])tta_(?!model_name|method|drift_level|reset_reason|shadow_side|shadow_agreement)[a-z_]+(?![\w:=!]*[=~!:])")]
    private static partial Regex MetricName();
}

using System.Text.Json;
using System.Text.RegularExpressions;
using Microsoft.Extensions.DependencyInjection;
using TtaService.Host.Tests.Infrastructure;
using TtaService.Serving.Telemetry;

namespace TtaService.Host.Tests.Telemetry;

/// <summary>deploy/grafana/tta.json. Grafana itself does not run here: its queries do.</summary>
public sealed partial class GrafanaTests
{
    private static readonly HashSet<string> Keywords = ["by", "and", "or", "unless", "sum", "max", "on", "bool"];

    [Fact]
    public async Task Queries_Parse()
    {
        var folder = new TestFolder();
        using var cleanup = folder;
        var rules = Queries().Select((query, i) => $"      - record: panel:query:{i}\n        expr: {JsonSerializer.Serialize(Filled(query, "5m"))}\n");
        await File.WriteAllTextAsync(folder.In("queries.yml"), $"groups:\n  - name: dashboard\n    rules:\n{string.Concat(rules)}");

        await RulesTests.PromtoolAsync(0, "check", "rules", folder.In("queries.yml"));
    }

    [Fact]
    public async Task Queries_NameOnlyMetricsAndLabelsOfALiveScrape()
    {
        await using var host = await TestHost.StartAsync("--Telemetry:WatchedStreams=camera-1");
        CardinalityTests.RecordEverything(host.Host.Services.GetRequiredService<TtaMetrics>(), 10);
        var scrape = await Scrape.OfAsync(host.Http);
        var labelsOf = scrape.All.GroupBy(series => series.Name)
            .ToDictionary(group => group.Key, group => group.SelectMany(series => series.Labels.Keys).Concat(["instance", "job"]).ToHashSet());

        foreach (var query in Queries())
        {
            var metrics = Metrics(query);
            Assert.NotEmpty(metrics);
            Assert.All(metrics, metric => Assert.True(labelsOf.ContainsKey(metric), $"{metric} in {query} is not scraped"));
            var known = metrics.SelectMany(metric => labelsOf[metric]).ToHashSet();
            Assert.All(LabelNames(query), label => Assert.True(known.Contains(label), $"no metric of {query} has label {label}"));
        }
    }

    [Fact]
    public void Metrics_OfTheCatalogue_AreAllOnTheDashboard()
    {
        var shown = Queries().SelectMany(Metrics).ToHashSet();

        Assert.All(MetricCatalogue.All, metric =>
        {
            var name = CardinalityTests.PrometheusName(metric);
            var stem = metric.Boundaries is null ? name : name[..^"_count".Length];
            Assert.True(shown.Any(query => query == stem || query == $"{stem}_bucket" || query == $"{stem}_sum"), $"{stem} is on no panel");
        });
    }

    [Fact]
    public void Panels_HaveIdsAndPlacesOfTheirOwn()
    {
        using var dashboard = Read();
        var panels = dashboard.RootElement.GetProperty("panels").EnumerateArray().ToList();

        Assert.Equal(panels.Count, panels.Select(panel => panel.GetProperty("id").GetInt32()).Distinct().Count());
        var places = panels.Select(panel => panel.GetProperty("gridPos")).Select(place =>
            (X: place.GetProperty("x").GetInt32(), Y: place.GetProperty("y").GetInt32(), W: place.GetProperty("w").GetInt32(), H: place.GetProperty("h").GetInt32())).ToList();
        Assert.All(places, place => Assert.True(place.X + place.W <= 24));
        Assert.All(places, place =>
            Assert.Single(places, other => place.X < other.X + other.W && other.X < place.X + place.W && place.Y < other.Y + other.H && other.Y < place.Y + place.H));
    }

    /// <summary>Every query of a panel or an annotation.</summary>
    internal static IReadOnlyList<string> Queries()
    {
        using var dashboard = Read();
        var queries = new List<string>();
        Collect(dashboard.RootElement, queries);
        Assert.True(queries.Count > 40, $"{queries.Count} queries");
        return queries;
    }

    /// <summary>The query with the variables at "all" and this range.</summary>
    internal static string Filled(string query, string range)
    {
        var filled = query.Replace("$__rate_interval", range, StringComparison.Ordinal);
        filled = Variable().Replace(filled, ".*");
        Assert.DoesNotContain('$', filled);
        return filled;
    }

    private static JsonDocument Read() => JsonDocument.Parse(File.ReadAllText(PrometheusServer.Shipped("grafana/tta.json")));

    private static void Collect(JsonElement element, List<string> queries)
    {
        if (element.ValueKind == JsonValueKind.Array)
        {
            foreach (var item in element.EnumerateArray())
            {
                Collect(item, queries);
            }
        }
        else if (element.ValueKind == JsonValueKind.Object)
        {
            foreach (var property in element.EnumerateObject())
            {
                if (property.Name == "expr")
                {
                    queries.Add(property.Value.GetString()!);
                }
                else
                {
                    Collect(property.Value, queries);
                }
            }
        }
    }

    // Names that are left when labels, ranges and groupings are taken away.
    private static List<string> Metrics(string query)
    {
        var bare = Grouping().Replace(Selector().Replace(Range().Replace(query, " "), " "), " ");
        return [.. Name().Matches(bare).Select(match => match.Value).Where(name => !Keywords.Contains(name))];
    }

    private static IEnumerable<string> LabelNames(string query) =>
        Selector().Matches(query).SelectMany(selector => LabelOf().Matches(selector.Value).Select(label => label.Groups[1].Value))
            .Concat(Grouping().Matches(query).SelectMany(grouping => grouping.Groups[1].Value.Split(',', StringSplitOptions.TrimEntries)));

    [GeneratedRegex(@"\$(model|method|instance)\b")]
    private static partial Regex Variable();

    [GeneratedRegex(@"\{[^}]*\}")]
    private static partial Regex Selector();

    [GeneratedRegex(@"\[[^\]]*\]")]
    private static partial Regex Range();

    [GeneratedRegex(@"\bby \(([^)]*)\)")]
    private static partial Regex Grouping();

    [GeneratedRegex(@"([a-z_]+)(?==~|!~|!=|=)")]
    private static partial Regex LabelOf();

    [GeneratedRegex(@"[a-zA-Z_:][\w:]*(?!\w*\s*\()")]
    private static partial Regex Name();
}

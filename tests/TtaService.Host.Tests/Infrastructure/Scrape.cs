using System.Globalization;
using System.Text.RegularExpressions;

namespace TtaService.Host.Tests.Infrastructure;

/// <summary>One time series of a scrape.</summary>
internal sealed record Series(string Name, IReadOnlyDictionary<string, string> Labels, double Value)
{
    public string this[string label] => Labels.GetValueOrDefault(label, string.Empty);
}

/// <summary>What /metrics answered.</summary>
internal sealed partial class Scrape
{
    private Scrape(string text)
    {
        Text = text;
        All = [.. text.Split('\n').Where(line => line.Length > 0 && line[0] != '#').Select(Read)];
    }

    public string Text { get; }

    public IReadOnlyList<Series> All { get; }

    /// <summary>Those of the service's own meter.</summary>
    public IEnumerable<Series> Own => All.Where(series => series.Name.StartsWith("tta_", StringComparison.Ordinal) || series.Name.StartsWith("rpc_", StringComparison.Ordinal));

    public static async Task<Scrape> OfAsync(Uri http)
    {
        // The exporter gives one answer for scrapes within 300 ms.
        await Task.Delay(350);
        using var client = new HttpClient();
        return new Scrape(await client.GetStringAsync(new Uri(http, "/metrics")));
    }

    /// <summary>The format with exemplars, as text.</summary>
    public static async Task<string> OpenMetricsAsync(Uri http)
    {
        await Task.Delay(350);
        using var client = new HttpClient();
        client.DefaultRequestHeaders.Add("Accept", "application/openmetrics-text; version=1.0.0");
        return await client.GetStringAsync(new Uri(http, "/metrics"));
    }

    /// <summary>The sum over all series of the name with these labels.</summary>
    public double Sum(string name, params (string Label, string Value)[] labels) =>
        All.Where(series => series.Name == name && labels.All(label => series[label.Label] == label.Value)).Sum(series => series.Value);

    private static Series Read(string line)
    {
        var match = Line().Match(line);
        Assert.True(match.Success, $"not a line of a scrape: {line}");
        var labels = Label().Matches(match.Groups["labels"].Value).ToDictionary(label => label.Groups[1].Value, label => label.Groups[2].Value, StringComparer.Ordinal);
        var value = match.Groups["value"]
            .Value switch
        { "+Inf" => double.PositiveInfinity, "-Inf" => double.NegativeInfinity, var number => double.Parse(number, CultureInfo.InvariantCulture) };
        return new Series(match.Groups["name"].Value, labels, value);
    }

    [GeneratedRegex("""^(?<name>[a-zA-Z_:][a-zA-Z0-9_:]*)(\{(?<labels>([^"}]|"([^"\\]|\\.)*")*)\})? (?<value>[^ ]+)( [0-9]+)?$""")]
    private static partial Regex Line();

    [GeneratedRegex("""([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"(?:,|$)""")]
    private static partial Regex Label();
}

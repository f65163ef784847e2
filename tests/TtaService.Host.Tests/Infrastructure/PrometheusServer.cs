using System.Text.Json;

namespace TtaService.Host.Tests.Infrastructure;

/// <summary>A real Prometheus that scrapes one server every second, with the rules of deploy/prometheus.</summary>
internal sealed class PrometheusServer : IAsyncDisposable
{
    private static readonly HttpClient Client = new() { Timeout = TimeSpan.FromSeconds(10) };

    private readonly OtherProgram _process;
    private readonly TestFolder _folder;
    private readonly Uri _address;

    private PrometheusServer(OtherProgram process, TestFolder folder, Uri address) => (_process, _folder, _address) = (process, folder, address);

    /// <summary>The shipped files of deploy/prometheus and deploy/grafana.</summary>
    public static string Shipped(string path) => Path.Combine(AppContext.BaseDirectory, "Deploy", path);

    /// <param name="httpPort">Where the service answers.</param>
    /// <param name="change">Makes the test's rules of the shipped ones.</param>
    public static async Task<PrometheusServer> StartAsync(int httpPort, Func<string, string>? change = null)
    {
        var program = OtherProgram.Require("prometheus");
        var folder = new TestFolder();
        var rules = await File.ReadAllTextAsync(Shipped("prometheus/tta.rules.yml"));
        await File.WriteAllTextAsync(folder.In("tta.rules.yml"), change is null ? rules : change(rules));
        var shipped = await File.ReadAllTextAsync(Shipped("prometheus/prometheus.yml"));
        var config = shipped.Replace("_interval: 15s", "_interval: 1s", StringComparison.Ordinal).Replace("tta:8000", $"127.0.0.1:{httpPort}", StringComparison.Ordinal);
        Assert.Contains("scrape_interval: 1s", config, StringComparison.Ordinal);
        Assert.Contains($"127.0.0.1:{httpPort}", config, StringComparison.Ordinal);
        await File.WriteAllTextAsync(folder.In("prometheus.yml"), config);
        var port = OtherProgram.FreePort();
        var process = OtherProgram.Start(program, [$"--config.file={folder.In("prometheus.yml")}",
            $"--storage.tsdb.path={folder.In("data")}", $"--web.listen-address=127.0.0.1:{port}", "--enable-feature=exemplar-storage"]);
        var server = new PrometheusServer(process, folder, new Uri($"http://127.0.0.1:{port}"));
        await process.UntilAsync(async () =>
        {
            try
            {
                using var ready = await Client.GetAsync(new Uri(server._address, "/-/ready"));
                return ready.IsSuccessStatusCode;
            }
            catch (HttpRequestException)
            {
                return false;
            }
        });
        return server;
    }

    /// <summary>The query's result: labels and value of each series.</summary>
    public async Task<IReadOnlyList<Series>> QueryAsync(string expression)
    {
        using var answer = await GetAsync($"/api/v1/query?query={Uri.EscapeDataString(expression)}");
        return [.. answer.RootElement.GetProperty("data").GetProperty("result").EnumerateArray().Select(ReadSeries)];
    }

    /// <summary>The streams that a metric's exemplars name.</summary>
    public async Task<IReadOnlyList<string>> ExemplarStreamsAsync(string metric)
    {
        using var answer = await GetAsync($"/api/v1/query_exemplars?query={metric}&start=0&end=99999999999");
        return [.. answer.RootElement.GetProperty("data").EnumerateArray().SelectMany(series => series.GetProperty("exemplars").EnumerateArray())
            .Select(exemplar => exemplar.GetProperty("labels").GetProperty("tta_stream_id").GetString()!)];
    }

    /// <summary>Names of the alerts that fire.</summary>
    public async Task<IReadOnlySet<string>> FiringAsync()
    {
        using var answer = await GetAsync("/api/v1/alerts");
        return answer.RootElement.GetProperty("data").GetProperty("alerts").EnumerateArray()
            .Where(alert => alert.GetProperty("state").GetString() == "firing")
            .Select(alert => alert.GetProperty("labels").GetProperty("alertname").GetString()!)
            .ToHashSet(StringComparer.Ordinal);
    }

    public Task UntilAsync(Func<Task<bool>> wanted) => _process.UntilAsync(wanted);

    public async ValueTask DisposeAsync()
    {
        await _process.DisposeAsync();
        _folder.Dispose();
    }

    private async Task<JsonDocument> GetAsync(string path)
    {
        using var answer = await Client.GetAsync(new Uri(_address, path));
        var text = await answer.Content.ReadAsStringAsync();
        Assert.True(answer.IsSuccessStatusCode, $"{path}: {text}");
        return JsonDocument.Parse(text);
    }

    private static Series ReadSeries(JsonElement series)
    {
        var labels = series.GetProperty("metric").EnumerateObject().ToDictionary(label => label.Name, label => label.Value.GetString()!, StringComparer.Ordinal);
        return new Series(labels.GetValueOrDefault("__name__", string.Empty), labels,
            double.Parse(series.GetProperty("value")[1].GetString()!, System.Globalization.CultureInfo.InvariantCulture));
    }
}

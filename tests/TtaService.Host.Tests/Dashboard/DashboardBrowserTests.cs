using System.Globalization;
using System.Net.Http.Json;
using System.Text.Json;
using Microsoft.Extensions.DependencyInjection;
using TtaService.Host.Tests.Infrastructure;
using TtaService.Serving.Telemetry;

namespace TtaService.Host.Tests.Dashboard;

/// <summary>The page in a real browser. TTA_SCREENSHOTS keeps pictures, TTA_PAGE_STREAMS is the number of streams of the large page.</summary>
public sealed class DashboardBrowserTests
{
    private const int Frames = 200;

    [Fact]
    public async Task Demo_WithASwitchedDomain_ShowsOnThePage()
    {
        using var browser = new Browser(1280, 900);
        var port = OtherProgram.FreePort();
        await using var demo = OtherProgram.Start(
            "dotnet", [Path.Combine(AppContext.BaseDirectory, "tta.dll"), "demo", "--seconds", "600", "--cameras", "4", "--http-port", $"{port}", "--switch-after", $"{Frames}"]);
        using var http = new HttpClient { BaseAddress = new Uri($"http://127.0.0.1:{port}/") };
        await demo.UntilAsync(async () =>
        {
            try
            {
                return (await http.GetFromJsonAsync<JsonElement>("api/v1/streams")).GetProperty("total").GetInt32() == 8;
            }
            catch (HttpRequestException)
            {
                return false;
            }
        });

        browser.Open(http.BaseAddress);
        await browser.UntilAsync(() => browser.Text.Contains("calibrated", StringComparison.Ordinal) && browser.FindAll("article.multiple").Count == 6);
        await browser.UntilAsync(() => browser.FindAll(".level.critical").Count > 0, 60);
        await browser.UntilAsync(() => Inked(browser, "#strip"), 60);
        browser.Picture("fleet");

        browser.Press("s");
        await browser.UntilAsync(() => browser.FindAll("tbody tr").Count == 8);
        browser.Press("/");
        browser.Find("#filter").SendKeys("2-adap");
        await browser.UntilAsync(() => browser.FindAll("tbody tr").Count == 1 && browser.Run<string>("return location.hash").Contains("filter=2-adap", StringComparison.Ordinal));
        browser.Picture("streams");
        browser.Find("tbody a").Click();
        await browser.UntilAsync(() => browser.FindAll("section table tbody tr").Count >= 13 && Inked(browser, "#sites"));
        await browser.UntilAsync(() => browser.FindAll("ol.events li:not(.quiet)").Count > 0);
        browser.Find("#sites").SendKeys(OpenQA.Selenium.Keys.ArrowDown);
        await browser.UntilAsync(() => browser.Find("#hover").Text.Contains("ago", StringComparison.Ordinal));
        browser.Picture("stream");

        browser.Press("v");
        await browser.UntilAsync(() => browser.Text.Contains("forward", StringComparison.OrdinalIgnoreCase) && browser.Text.Contains("steps/s", StringComparison.Ordinal));
        browser.Picture("service");
        Assert.Empty(browser.Complaints);
    }

    [Fact]
    public async Task Operator_ActsOnAStream_AndThePageSaysSo()
    {
        await using var host = await TestHost.StartAsync("--Drift:Interval=00:00:01");
        await host.StepAsync("hall:1", TestFrames.Tensor(1));
        using var browser = new Browser(1280, 900);

        browser.Open(new Uri(host.Http, "#/streams/hall:1"));
        await ClickAsync(browser, "Freeze");
        Assert.Equal("hall:1", browser.Find("h1").Text);
        await browser.UntilAsync(() => browser.Text.Contains(", frozen", StringComparison.Ordinal));
        await ClickAsync(browser, "Unfreeze");
        await browser.UntilAsync(() => browser.Text.Contains("adapts again", StringComparison.Ordinal));
        browser.Find("input[aria-label='Name of the fork']").SendKeys("twin");
        await ClickAsync(browser, "Fork");
        await browser.UntilAsync(() => browser.Text.Contains("twin starts from here", StringComparison.Ordinal));
        await ClickAsync(browser, "Fork");
        await browser.UntilAsync(() => browser.Text.Contains("'twin'", StringComparison.Ordinal));
        await ClickAsync(browser, "Reset");
        browser.Accept();
        await browser.UntilAsync(() => browser.Text.Contains("reset to the source statistics", StringComparison.Ordinal));

        Assert.Equal((0, 1), ((await host.GetAsync("hall:1")).Age.Steps, (await host.GetAsync("twin")).Age.Steps));
        // The refused second fork is in the browser's own log.
        Assert.Contains("409", Assert.Single(browser.Complaints), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(1280, false)]
    [InlineData(390, false)]
    [InlineData(390, true)]
    public async Task Page_OfAnyWidth_FitsAndIsEmptyInWords(int width, bool dark)
    {
        await using var host = await TestHost.StartAsync($"--Models:Path={FashionCamera.Models}", "--Drift:Interval=01:00:00");
        using var browser = new Browser(width, 844, dark);
        var name = string.Create(CultureInfo.InvariantCulture, $"{width}-{(dark ? "dark" : "light")}");

        browser.Open(host.Http);
        await browser.UntilAsync(() => browser.Text.Contains("No stream yet", StringComparison.Ordinal));
        Fits(browser, width);
        for (var step = 0; step < 20; step++)
        {
            await FashionCamera.SendAsync(host, "hall", step, step < 10 ? null : "fog");
            await FashionCamera.SendAsync(host, "a-camera-with-a-name-that-is-longer-than-most-names-are", step);
            await host.Host.Services.GetRequiredService<DriftPublisher>().SweepAsync();
        }

        foreach (var (page, wanted) in new[] { ("#/", "article.multiple canvas"), ("#/streams", "tbody canvas"),
            ("#/streams/hall", "tbody tr:nth-child(13)"), ("#/service", "section table") })
        {
            browser.Open(new Uri(host.Http, page));
            await browser.UntilAsync(() => browser.FindAll(wanted).Count > 0);
            Fits(browser, width);
            browser.Picture($"{name}-{page.Trim('#', '/').Replace('/', '-')}");
        }

        Assert.Equal(dark ? "rgb(20, 18, 26)" : "rgb(255, 253, 248)", browser.Run<string>("return getComputedStyle(document.documentElement).backgroundColor"));
        Assert.Empty(browser.Complaints);
    }

    [Fact]
    public async Task Page_WithManyStreams_PaintsAndUpdates()
    {
        var streams = int.TryParse(Environment.GetEnvironmentVariable("TTA_PAGE_STREAMS"), CultureInfo.InvariantCulture, out var wanted) ? wanted : 200;
        await using var host = await TestHost.StartAsync($"--Models:Path={FashionCamera.Models}", "--Streams:MaxStreams=5000");
        await Parallel.ForEachAsync(Enumerable.Range(0, streams), new ParallelOptions { MaxDegreeOfParallelism = 8 }, async (i, _) =>
        {
            for (var step = 0; step < 4; step++)
            {
                await FashionCamera.SendAsync(host, $"camera-{i:0000}", (4 * i) + step, i % 10 == 0 ? "fog" : null);
            }
        });
        await host.Host.Services.GetRequiredService<DriftPublisher>().SweepAsync();
        using var browser = new Browser(1280, 900);

        browser.Open(host.Http);
        await browser.UntilAsync(() => browser.FindAll("article.multiple").Count == 6 && Inked(browser, "#strip"));
        var paint = browser.Run<object>("return performance.getEntriesByName('first-contentful-paint')[0].startTime");
        var data = browser.Run<object>("const first = performance.getEntriesByName('tta-update')[0]; return first.startTime + first.duration");
        await browser.UntilAsync(() => browser.Run<long>("return performance.getEntriesByName('tta-update').length") >= 4, 60);
        browser.Picture("many");
        var updates = browser.Run<IReadOnlyCollection<object>>("return performance.getEntriesByName('tta-update').slice(1).map(entry => entry.duration)")
            .Select(value => Convert.ToDouble(value, CultureInfo.InvariantCulture)).Order().ToList();
        TestContext.Current.TestOutputHelper!.WriteLine(
            $"figure: page with {streams} streams: first paint {paint:0} ms, first data {data:0} ms, update {updates[updates.Count / 2]:0} ms (median)");

        browser.Press("s");
        await browser.UntilAsync(() => browser.FindAll("tbody tr").Count == Math.Min(100, streams));
        Assert.Contains($"of {streams.ToString("N0", CultureInfo.InvariantCulture)}", browser.Text, StringComparison.Ordinal);
        Assert.Empty(browser.Complaints);
    }

    private static Task ClickAsync(Browser browser, string label) => browser.UntilAsync(() =>
    {
        var button = browser.FindAll("button").SingleOrDefault(button => button.Text == label);
        button?.Click();
        return button is not null;
    });

    // No sideways scrolling of the page as a whole.
    private static void Fits(Browser browser, int width) => Assert.True(
        browser.Run<long>("return document.documentElement.scrollWidth") <= width,
        browser.Run<string>($"return [...document.querySelectorAll('body *')].filter(e => e.getBoundingClientRect().right > {width})"
            + ".map(e => e.tagName + '.' + e.className + ' ' + e.getBoundingClientRect().right + ' ' + e.textContent.slice(0, 40)).join('\\n')"));

    // Something was drawn: not all pixels are the same.
    private static bool Inked(Browser browser, string canvas) => browser.Run<bool>($"const c = document.querySelector('{canvas}'); "
        + "const d = new Uint32Array(c.getContext('2d').getImageData(0, 0, c.width, c.height).data.buffer); return d.some(p => p !== 0);");
}

using OpenQA.Selenium;
using OpenQA.Selenium.Chrome;

namespace TtaService.Host.Tests.Infrastructure;

/// <summary>Headless Chromium with a profile of its own.</summary>
internal sealed class Browser : IDisposable
{
    // Nothing of Chromium's own may ask the network: where there is none, its waiting holds up the page.
    private static readonly string[] Quiet = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage"];

    private readonly TestFolder _profile = new();
    private readonly ChromeDriverService _service;
    private readonly ChromeDriver _driver;

    /// <param name="width">Of the window, in CSS pixels.</param>
    /// <param name="height">Of the window, in CSS pixels.</param>
    /// <param name="dark">Whether the reader prefers dark pages.</param>
    public Browser(int width, int height, bool dark = false)
    {
        var chromium = OtherProgram.Require("chromium");
        _service = ChromeDriverService.CreateDefaultService(Path.GetDirectoryName(OtherProgram.Require("chromedriver", "chromium-driver")), "chromedriver");
        _service.SuppressInitialDiagnosticInformation = true;
        var options = new ChromeOptions { BinaryLocation = chromium };
        options.AddArguments([.. Quiet, $"--user-data-dir={_profile.Path}", $"--window-size={width},{height}"]);
        options.SetLoggingPreference(LogType.Browser, LogLevel.All);
        _driver = new ChromeDriver(_service, options, TimeSpan.FromSeconds(120));
        // A window is never as narrow as a phone: the metrics are set for the page instead.
        _driver.ExecuteCdpCommand("Emulation.setDeviceMetricsOverride", new() { ["width"] = width, ["height"] = height, ["deviceScaleFactor"] = 1, ["mobile"] = false });
        _driver.ExecuteCdpCommand("Emulation.setEmulatedMedia",
            new() { ["features"] = new[] { new Dictionary<string, object> { ["name"] = "prefers-color-scheme", ["value"] = dark ? "dark" : "light" } } });
    }

    /// <summary>What went wrong since it was last asked: errors of scripts, of the network, and of the content security policy.</summary>
    public IReadOnlyList<string> Complaints => [.. _driver.Manage().Logs.GetLog(LogType.Browser).Where(entry => entry.Level >= LogLevel.Severe).Select(entry => entry.Message)];

    public string Text => _driver.FindElement(By.TagName("body")).Text;

    public void Open(Uri page) => _driver.Navigate().GoToUrl(page);

    public IWebElement Find(string selector) => _driver.FindElement(By.CssSelector(selector));

    public IReadOnlyList<IWebElement> FindAll(string selector) => _driver.FindElements(By.CssSelector(selector));

    public void Press(string keys) => Find("body").SendKeys(keys);

    public void Accept() => _driver.SwitchTo().Alert().Accept();

    /// <summary>What a script's last return gives: text, numbers as double or long, truth values.</summary>
    public T Run<T>(string script) => (T)_driver.ExecuteScript(script)!;

    /// <summary>Waits until it is so on the page.</summary>
    public async Task UntilAsync(Func<bool> wanted, int seconds = 30)
    {
        using var giveUp = new CancellationTokenSource(TimeSpan.FromSeconds(seconds));
        while (true)
        {
            try
            {
                if (wanted())
                {
                    return;
                }
            }
            catch (Exception redrawn) when (redrawn is StaleElementReferenceException or NoSuchElementException)
            {
                // The page drew itself anew meanwhile.
            }

            if (giveUp.IsCancellationRequested)
            {
                // Read here only: reading empties the log.
                Assert.Fail($"the page shows: {Text}\nand complains: {string.Join('\n', Complaints)}");
            }

            await Task.Delay(50);
        }
    }

    /// <summary>Keeps a picture when TTA_SCREENSHOTS names a folder for them.</summary>
    public void Picture(string name)
    {
        if (Environment.GetEnvironmentVariable("TTA_SCREENSHOTS") is { Length: > 0 } folder)
        {
            Directory.CreateDirectory(folder);
            _driver.GetScreenshot().SaveAsFile(Path.Combine(folder, $"{name}.png"));
        }
    }

    public void Dispose()
    {
        _driver.Quit();
        _service.Dispose();
        _profile.Dispose();
    }
}

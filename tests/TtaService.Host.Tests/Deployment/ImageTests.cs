using System.Text.RegularExpressions;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Options;
using TtaService.Host.Hosting;
using TtaService.Host.Tests.Infrastructure;
using TtaService.Serving.Store;

namespace TtaService.Host.Tests.Deployment;

/// <summary>The Dockerfile and docker-compose.yml, as far as they can be checked without an engine.</summary>
public sealed partial class ImageTests
{
    private static readonly Dockerfile Image = Dockerfile.Parse(Repository.Read("Dockerfile"));

    private static string Compose => Repository.Read("docker-compose.yml");

    [Fact]
    public void Runtime_IsNotRoot_HasNoShellAndNeedsNone()
    {
        Assert.Contains("chiseled", Image.Final.Base, StringComparison.Ordinal);
        Assert.Equal("1654:1654", Image.Final.Single("USER"));
        Assert.Empty(Image.Final.All("RUN"));
        // A form without brackets is run by a shell.
        Assert.All(["ENTRYPOINT", "CMD"], instruction => Assert.StartsWith("[\"", Image.Final.Single(instruction), StringComparison.Ordinal));
        Assert.Matches("CMD \\[\"/app/tta\", \"health\"\\]$", Image.Final.Single("HEALTHCHECK"));
    }

    [Fact]
    public void Bases_AreUbuntu2404ThroughoutAndFixed() =>
        Assert.All(Image.Stages, stage => Assert.Matches(@"^mcr\.microsoft\.com/dotnet/(sdk|aspnet):10\.0-noble(-chiseled)?$", stage.Base));

    [Fact]
    public void Copied_IsThereAndInTheContext()
    {
        var ignored = Repository.Read(".dockerignore").Split('\n', StringSplitOptions.RemoveEmptyEntries);
        var kept = ignored.Where(line => line[0] == '!').Select(line => line[1..]).ToList();
        foreach (var copy in Image.Stages[0].All("COPY"))
        {
            foreach (var source in copy.Split(' ')[..^1].Select(source => source.TrimEnd('/')))
            {
                Assert.True(Path.Exists(Repository.In(source)), $"COPY {source}: there is no such file");
                Assert.True(kept.Any(pattern => source == pattern || source.StartsWith(pattern + "/", StringComparison.Ordinal)
                    || (pattern.EndsWith('*') && source.StartsWith(pattern[..^1], StringComparison.Ordinal))), $"COPY {source}: .dockerignore leaves it out");
            }
        }
    }

    // What is restored before the code is copied must be every project that the program is built from, or the restore layer is worth nothing.
    [Fact]
    public void Restore_HasEveryProject()
    {
        var projects = new HashSet<string>();
        Collect("src/TtaService.Host/TtaService.Host.csproj");

        Assert.All(projects, project => Assert.Contains(Image.Stages[0].All("COPY"), copy => copy.StartsWith(project, StringComparison.Ordinal)));
        Assert.Equal(5, projects.Count);

        void Collect(string project)
        {
            if (projects.Add(project))
            {
                foreach (Match reference in Reference().Matches(Repository.Read(project)))
                {
                    Collect(Path.GetRelativePath(Repository.Root, Path.GetFullPath(Path.Combine(Repository.In(Path.GetDirectoryName(project)!), reference.Groups[1].Value))));
                }
            }
        }
    }

    [Fact]
    public void Environment_IsValidConfiguration_AndPortsAreTheServices()
    {
        var server = Settings(Image.Environment).GetRequiredService<IOptions<ServerOptions>>().Value;

        Assert.Equal($"{server.HttpPort} {server.GrpcPort}", Image.Final.Single("EXPOSE"));
        Assert.Equal("*", server.Address);
        Assert.Equal("/data", Image.Final.Single("VOLUME"));
        Assert.Equal("/data", Image.Environment["Store__Path"]);
    }

    [Fact]
    public async Task Compose_IsValid()
    {
        var (exitCode, printed) = await Repository.RunAsync(OtherProgram.Require("docker-compose"), "-f", "docker-compose.yml", "config", "-q");

        Assert.True(exitCode == 0, printed);
    }

    [Fact]
    public async Task Compose_MistypedKey_IsFound()
    {
        using var folder = new TestFolder();
        var wrong = folder.In("docker-compose.yml");
        await File.WriteAllTextAsync(wrong, Compose.Replace("    healthcheck:", "    healthchek:", StringComparison.Ordinal), TestContext.Current.CancellationToken);
        var (exitCode, printed) = await Repository.RunAsync(OtherProgram.Require("docker-compose"), "-f", wrong, "config", "-q");

        Assert.NotEqual(0, exitCode);
        Assert.Contains("healthchek", printed, StringComparison.Ordinal);
    }

    [Fact]
    public void Compose_OpensNothingToTheNetwork_AndMountsWhatIsThere()
    {
        var file = new YamlDotNet.Serialization.Deserializer().Deserialize<object>(new YamlDotNet.Core.MergingParser(new YamlDotNet.Core.Parser(new StringReader(Compose))));
        var services = (IDictionary<object, object>)file.At("services")!;

        Assert.Equal(["grafana", "prometheus", "redis", "tta", "tta-gpu"], services.Keys.Select(name => $"{name}").Order(StringComparer.Ordinal));
        foreach (var (name, service) in services)
        {
            Assert.All(service.Items("ports"), port => Assert.StartsWith("127.0.0.1:", $"{port}", StringComparison.Ordinal));
            Assert.True(service.Items("cap_drop").Contains("ALL"), $"{name} keeps capabilities");
            Assert.All(service.Items("volumes").Select(volume => $"{volume}").Where(volume => volume[0] == '.'), volume =>
                Assert.True(Path.Exists(Repository.In(volume.Split(':')[0])), $"{name} mounts {volume}, which is not there"));
        }

        foreach (var name in new[] { "tta", "tta-gpu" })
        {
            var service = services[name];
            Assert.Equal("true", service.Text("read_only"));
            var environment = ((IDictionary<object, object>)service.At("environment")!).ToDictionary(variable => $"{variable.Key}", variable => $"{variable.Value}");
            var settings = Settings(Image.Environment.Concat(environment).GroupBy(variable => variable.Key).ToDictionary(group => group.Key, group => group.Last().Value));
            var store = settings.GetRequiredService<IOptions<StoreOptions>>().Value;
            Assert.Equal(StoreKind.Redis, store.Kind);
            Assert.True(services.ContainsKey(store.RedisConfiguration!.Split(':')[0]), $"{store.RedisConfiguration} is no service");
            var grace = TimeSpan.FromSeconds(int.Parse(service.Text("stop_grace_period").TrimEnd('s'), System.Globalization.CultureInfo.InvariantCulture));
            Assert.True(grace > settings.GetRequiredService<IOptions<ServerOptions>>().Value.ShutdownTimeout + store.StopTimeout);
        }

        Assert.Equal("cuda:0", services["tta-gpu"].Text("environment", "Models__Device"));
        Assert.Equal("cuda", services["tta-gpu"].Text("build", "args", "TORCH"));
    }

    [Fact]
    public void Compose_PrometheusScrapesTheService_AndGrafanaFindsItsDashboard()
    {
        Assert.Contains($"tta:{new ServerOptions().HttpPort}", Repository.Read("deploy/prometheus/prometheus.yml"), StringComparison.Ordinal);
        Assert.Contains("http://prometheus:9090", Repository.Read("deploy/grafana/provisioning/datasources/prometheus.yml"), StringComparison.Ordinal);
        var folder = Regex.Match(Repository.Read("deploy/grafana/provisioning/dashboards/tta.yml"), @"path: (\S+)").Groups[1].Value;
        Assert.Contains($"./deploy/grafana/tta.json:{folder}/tta.json:ro", Compose, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Haproxy_ExampleIsValid()
    {
        var (exitCode, printed) = await Repository.RunAsync(OtherProgram.Require("haproxy"), "-c", "-f", "deploy/proxies/haproxy.cfg");

        Assert.True(exitCode == 0, printed);
    }

    [Fact]
    public async Task Nginx_ExampleIsValid()
    {
        using var folder = new TestFolder();
        var (exitCode, printed) = await Repository.RunAsync(
            OtherProgram.Require("nginx", "nginx-light"), "-t", "-c", Repository.In("deploy/proxies/nginx.conf"), "-g", $"pid {folder.In("pid")}; error_log stderr;");

        Assert.True(exitCode == 0, printed);
    }

    [Theory]
    [InlineData("haproxy.cfg", "hdr(x-tta-stream)")]
    [InlineData("nginx.conf", "$http_x_tta_stream consistent")]
    [InlineData("envoy.yaml", "header_name: x-tta-stream")]
    public void Proxies_HashOnTheHeaderThatTheClientSends(string file, string rule)
    {
        Assert.Contains(rule, Repository.Read($"deploy/proxies/{file}"), StringComparison.Ordinal);
        Assert.Equal("x-tta-stream", TtaService.Client.AdaptationStream.StreamHeader);
    }

    [Theory]
    [InlineData(".ci/run")]
    [InlineData("deploy/kustomize/render")]
    [InlineData("deploy/rehearse")]
    public async Task Scripts_PassShellcheck(string script)
    {
        var (exitCode, printed) = await Repository.RunAsync(OtherProgram.Require("shellcheck"), "--severity=warning", script);

        Assert.True(exitCode == 0, printed);
    }

    // What an image or a service sets, read and validated as the server does at its start.
    private static IServiceProvider Settings(IReadOnlyDictionary<string, string> environment) =>
        TtaHost.Build([.. environment.Where(variable => variable.Key.Contains("__", StringComparison.Ordinal))
            .Select(variable => $"--{variable.Key.Replace("__", ":", StringComparison.Ordinal)}={variable.Value}")]).Services;

    [GeneratedRegex("ProjectReference Include=\"([^\"]+)\"")]
    private static partial Regex Reference();
}

using Google.Protobuf.WellKnownTypes;
using Grpc.Core;
using Grpc.Net.Client;
using Microsoft.Extensions.Options;
using TtaService.Host.Tests.Commands;
using TtaService.Host.Tests.Infrastructure;
using TtaService.V1;
using Method = TtaService.V1.Method;

namespace TtaService.Host.Tests.Functional;

/// <summary>Methods of an assembly that the settings name, in the real server and in the commands.</summary>
public sealed class MethodPluginTests
{
    private static readonly string Tests = Path.TrimEndingDirectorySeparator(AppContext.BaseDirectory);
    private static readonly string Plugin = Path.GetFullPath(Path.Combine(Tests, "..", "..", "TtaService.SampleMethods", Path.GetFileName(Tests), "TtaService.SampleMethods.dll"));

    [Fact]
    public async Task Server_WithAPlugin_ServesItsMethodsAndKeepsTheirStatesOverARestart()
    {
        using var folder = new TestFolder();
        await using var server = await ServerProcess.StartAsync($"Methods:Assemblies:0={Plugin}", "Store:Kind=file", $"Store:Path={folder.Path}");
        byte[] before;
        using (var channel = server.Connect())
        {
            var model = await new ModelsService.ModelsServiceClient(channel).GetModelAsync(new GetModelRequest { Name = TestHost.Model });
            var method = Assert.Single(model.Methods, method => method.Name == "clipped_ema");
            Assert.True(method.Available);
            Assert.Equal(["momentum", "deviations", "sites_first", "sites_pattern"], method.Hyperparameters.Select(hyperparameter => hyperparameter.Name));
            Assert.Equal("number from 0.1 to 100", method.Hyperparameters[1].Range);

            var open = new OpenStream { Stream = "gate-7", Model = TestHost.Model, Method = Chosen("clipped_ema", """{"momentum":0.5}""") };
            using var call = await DuplexClient.OpenAsync(new AdaptationService.AdaptationServiceClient(channel), open);
            var first = await ExportAsync(channel);
            for (ulong step = 1; step <= 3; step++)
            {
                Assert.Equal(step, (await call.StepAsync(step, TestFrames.Tensor((int)step))).Step.Sequence);
            }

            before = await ExportAsync(channel);
            Assert.NotEqual(TestFrames.Adapted(first), TestFrames.Adapted(before));
            Assert.Contains("\"method_version\":\"1\"", System.Text.Encoding.UTF8.GetString(before), StringComparison.Ordinal);
        }

        await server.Process.TerminateAsync();
        await server.RestartAsync();

        using (var channel = server.Connect())
        {
            using var call = await DuplexClient.OpenAsync(new AdaptationService.AdaptationServiceClient(channel), new OpenStream { Stream = "gate-7", Model = TestHost.Model });
            Assert.Equal((StateOrigin.Restored, "clipped_ema"), (call.Opened.Origin, call.Opened.Method.Name));
            Assert.Equal(0.5, call.Opened.Method.Hyperparameters.Fields["momentum"].NumberValue);
            Assert.Equal(TestFrames.Adapted(before), TestFrames.Adapted(await ExportAsync(channel)));
            Assert.Equal(4, (await call.StepAsync(4, TestFrames.Tensor(4))).Step.Age.Steps);
        }

        static async Task<byte[]> ExportAsync(GrpcChannel channel) =>
            (await new StreamsService.StreamsServiceClient(channel).ExportStreamAsync(new ExportStreamRequest { Name = "gate-7" })).Snapshot.ToByteArray();
    }

    [Theory]
    [InlineData("throws", "METHOD_FAILED", "method failing failed at site")]
    [InlineData("shape", "METHOD_FAILED", "does not broadcast to [S,n,C]")]
    [InlineData("nan", "NOT_FINITE", "not finite")]
    public async Task Step_AMethodThatFails_FailsAloneAndItsNeighboursGoOn(string how, string reason, string message)
    {
        await using var host = await TestHost.StartAsync($"--Methods:Assemblies={Plugin}");
        var failing = Chosen("failing", $$"""{"how":"{{how}}","after_frames":2}""");
        using var faulty = await DuplexClient.OpenAsync(host.Adaptation, new OpenStream { Stream = "faulty", Model = TestHost.Model, Method = failing });
        using var clipped = await DuplexClient.OpenAsync(host, "clipped", "clipped_ema");
        using var ema = await DuplexClient.OpenAsync(host, "ema", "ema");
        for (ulong step = 1; step <= 5; step++)
        {
            IDisposable busy = await host.OccupyEngineAsync();
            var frame = TestFrames.Tensor((int)step);
            await Task.WhenAll(faulty.SendAsync(step, frame), clipped.SendAsync(step, frame), ema.SendAsync(step, frame));
            busy.Dispose();
            var (own, first, second) = (await faulty.ReadAsync(), await clipped.ReadAsync(), await ema.ReadAsync());
            Assert.Equal(((long)step, (long)step), (first.Step.Age.Steps, second.Step.Age.Steps));
            if (step <= 2)
            {
                Assert.Equal(step, own.Step.Sequence);
                continue;
            }

            Assert.Equal((step, reason), (own.Error.Sequence, own.Error.Reason));
            Assert.Contains(message, own.Error.Message, StringComparison.Ordinal);
        }

        Assert.Equal(2, (await host.GetAsync("faulty")).Age.Steps);
    }

    [Fact]
    public async Task Open_AMethodThatCanNotBegin_IsRefusedWithItsReason()
    {
        await using var host = await TestHost.StartAsync($"--Methods:Assemblies:0={Plugin}");
        var refused = await Assert.ThrowsAsync<RpcException>(async () => await host.Streams.CreateStreamAsync(new CreateStreamRequest
        {
            Stream = new V1.Stream { Name = "never", Model = TestHost.Model, Method = Chosen("failing", """{"how":"begins"}""") },
        }));

        Assert.Contains("it can't begin", refused.Status.Detail, StringComparison.Ordinal);
        Assert.Equal(StatusCode.FailedPrecondition, refused.StatusCode);
        Assert.Equal(1, (await host.StepAsync("another", TestFrames.Tensor(1))).Age.Steps);
    }

    [Fact]
    public async Task Start_APluginThatCanNotBeUsed_SaysWhichSettingAndWhy()
    {
        using var folder = new TestFolder();
        await File.WriteAllTextAsync(folder.In("text.dll"), "no assembly", TestContext.Current.CancellationToken);

        await AssertRefusedAsync("Methods:Assemblies:0: there is no file '/nowhere/my.dll'", "--Methods:Assemblies:0=/nowhere/my.dll");
        await AssertRefusedAsync("is no .NET assembly", $"--Methods:Assemblies:0={folder.In("text.dll")}");
        await AssertRefusedAsync(
            "offers no methods; an assembly of methods has [assembly: MethodPlugin(typeof(T))]", $"--Methods:Assemblies:0={Path.Combine(Tests, "TtaService.Client.dll")}");
        await AssertRefusedAsync("Methods:Assemblies:1: ", $"--Methods:Assemblies:0={Plugin}", $"--Methods:Assemblies:1={Plugin}");
        await AssertRefusedAsync("Methods:Assembly is not a setting; Methods has Assemblies", $"--Methods:Assembly={Plugin}");

        static async Task AssertRefusedAsync(string why, params string[] settings)
        {
            var wrong = await Assert.ThrowsAsync<OptionsValidationException>(async () =>
            {
                await using var host = TestHost.Build(null, settings);
                await host.StartAsync();
            });
            Assert.Contains(why, Assert.Single(wrong.Failures), StringComparison.Ordinal);
        }
    }

    [Fact]
    public async Task Commands_WithAPlugin_KnowItsMethods()
    {
        var methods = await TtaRun.Of("methods", "--plugin", Plugin);
        Assert.Contains("clipped_ema: Running statistics", methods.Output, StringComparison.Ordinal);
        Assert.Contains("deviations", methods.Output, StringComparison.Ordinal);
        Assert.DoesNotContain("clipped_ema", (await TtaRun.Of("methods")).Output, StringComparison.Ordinal);

        var inspected = await TtaRun.Of("inspect", "tiny", "--models", TestHost.ModelsPath, "--plugin", Plugin, "--method", "ema,clipped_ema{momentum=0.2}");
        Assert.Contains("clipped_ema{momentum=0.2}", inspected.Output, StringComparison.Ordinal);
        string[] evaluation = ["evaluate", "--model", "fashion-mnist", "--method", "source,clipped_ema", "--corruptions", "fog", "--limit", "64", "--csv", "-"];
        var evaluated = await TtaRun.Of([.. evaluation, "--plugin", Plugin]);
        Assert.Equal((0, ""), (evaluated.ExitCode, evaluated.Error));
        Assert.Contains("clipped_ema", evaluated.Output, StringComparison.Ordinal);
        (await TtaRun.Of(evaluation)).AssertRefused(2, "method 'clipped_ema' does not exist");
        (await TtaRun.Of("methods", "--plugin", "/nowhere/my.dll")).AssertRefused(2, "--plugin: there is no file '/nowhere/my.dll'");
    }

    private static Method Chosen(string name, string hyperparameters) => new() { Name = name, Hyperparameters = Struct.Parser.ParseJson(hyperparameters) };
}

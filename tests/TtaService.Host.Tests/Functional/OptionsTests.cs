using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Options;
using TtaService.Host.Hosting;
using TtaService.Host.Tests.Infrastructure;
using TtaService.Serving.Streams;

namespace TtaService.Host.Tests.Functional;

public sealed class OptionsTests
{
    [Theory]
    [InlineData("--Server:GrpcPort=70000", "Server:GrpcPort is '70000', it must be 0 to 65535")]
    [InlineData("--Server:GrpcPort=http", "Server:GrpcPort is 'http', which is not a whole number")]
    [InlineData("--Server:HttpPort=", "Server:HttpPort is '', which is not a whole number")]
    [InlineData("--Server:Address=gate-7", "Server:Address is 'gate-7', it must be an IP address, localhost or *")]
    [InlineData("--Server:GrpcPrt=8001", "Server:GrpcPrt is not a setting; Server has Address, GrpcPort")]
    [InlineData("--Server:ShutdownTimeout=soon", "Server:ShutdownTimeout is 'soon', which is not a time span such as 00:00:10")]
    [InlineData("--Server:MaxMessageBytes=99999999999", "Server:MaxMessageBytes is '99999999999', which is not a whole number")]
    [InlineData("--Frames:Decoder=opencv", "Frames:Decoder is 'opencv', which is not one of skia, imagesharp")]
    [InlineData("--Drift:Sites=some", "Drift:Sites is 'some', which is not one of full, off")]
    [InlineData("--Drift:Interval=00:00:00", "Drift:Interval is '00:00:00', it must be 00:00:00.1")]
    [InlineData("--Drift:ShadowShare=2", "Drift:ShadowShare is '2', it must be 0 to 1")]
    [InlineData("--Learning:Range=0.5", "Learning:Range is '0.5', it must be 1 to 1000000")]
    [InlineData("--Learning:Range=NaN", "Learning:Range is 'NaN', it must be 1 to 1000000")]
    [InlineData("--Learning:CollapseFrames=-1", "Learning:CollapseFrames is '-1', it must be 0 to 1000000")]
    [InlineData("--Learning:Bound=8", "Learning:Bound is not a setting; Learning has Range, CollapseFrames")]
    [InlineData("--Streams:MaxStreams=0", "Streams:MaxStreams is '0', it must be 1 to 10000000")]
    [InlineData("--Streams:IdleTimeout=-00:00:01", "Streams:IdleTimeout is '-00:00:01', it must be 00:00:01 to 365.00:00:00")]
    [InlineData("--Batching:MaxFrames=0", "Batching:MaxFrames is '0', it must be 1 to 4096")]
    [InlineData("--Batching:MaxDelay=5", "Batching:MaxDelay is '5.00:00:00', it must be 00:00:00 to 00:00:01")]
    [InlineData("--Models:Device=gpu", "Models:Device is 'gpu', it must be cpu or cuda:N, or several with commas between")]
    [InlineData("--Models:Path=", "Models:Path is '', it must be set")]
    [InlineData("--Telemetry:TraceSampleRatio=1.5", "Telemetry:TraceSampleRatio is '1.5', it must be 0 to 1")]
    [InlineData("--Telemetry:TraceSampleRatio=few", "Telemetry:TraceSampleRatio is 'few', which is not a number")]
    [InlineData("--Telemetry:WatchedStreams=gate 7,gate-8", "Telemetry:WatchedStreams names 'gate 7', which no stream can be called")]
    [InlineData("--Telemetry:WatchedStreams=0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31,32",
        "Telemetry:WatchedStreams names 33 streams, at most 32 may be watched")]
    [InlineData("--Telemetry:Exporter=otlp", "Telemetry:Exporter is not a setting; Telemetry has TraceSampleRatio, WatchedStreams")]
    public async Task Start_WrongValue_NamesTheKeyTheValueAndTheLimit(string setting, string message)
    {
        var problem = Assert.Single(await ProblemsAsync(setting));

        Assert.StartsWith(message, problem, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Start_ManyWrongValues_NamesThemAllAtOnce()
    {
        var problems = await ProblemsAsync("--Server:GrpcPort=-1", "--Server:ShutdownTimeout=later", "--Server:Adress=localhost",
            "--Streams:MaxStreams=many", "--Streams:KeptReplies=0", "--Batching:MaxFrames=0", "--Models:Device=gpu");

        Assert.Equal(
            ["Batching:MaxFrames", "Models:Device", "Server:Adress", "Server:GrpcPort", "Server:ShutdownTimeout", "Streams:KeptReplies", "Streams:MaxStreams"],
            problems.Select(problem => problem.Split(' ')[0]).Order(StringComparer.Ordinal));
    }

    [Fact]
    public async Task Start_NoSuchModelRepository_SaysSo()
    {
        await using var host = TestHost.Build(null, "--Models:Path=/nowhere/models");

        Assert.Contains("/nowhere/models", (await Assert.ThrowsAnyAsync<Exception>(() => host.StartAsync())).Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Start_PortTaken_Fails()
    {
        await using var first = await TestHost.StartAsync();
        await using var second = TestHost.Build(null, $"--Server:GrpcPort={first.Grpc.Port}");

        Assert.Contains($"{first.Grpc.Port}", (await Assert.ThrowsAnyAsync<IOException>(() => second.StartAsync())).Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Settings_FromTheEnvironment_WinOverTheFileAndLoseToTheCommandLine()
    {
        // Limits that no test comes near, since the environment is everybody's.
        Environment.SetEnvironmentVariable("Server__MaxConnections", "4321");
        Environment.SetEnvironmentVariable("Streams__MaxStreams", "4322");
        try
        {
            await using var host = TestHost.Build(null, "--Streams:MaxStreams=4323");

            Assert.Equal(4321, host.Services.GetRequiredService<IOptions<ServerOptions>>().Value.MaxConnections);
            Assert.Equal(4323, host.Services.GetRequiredService<IOptions<StreamsOptions>>().Value.MaxStreams);
        }
        finally
        {
            Environment.SetEnvironmentVariable("Server__MaxConnections", null);
            Environment.SetEnvironmentVariable("Streams__MaxStreams", null);
        }
    }

    [Fact]
    public async Task Defaults_AreLoopbackOnly()
    {
        await using var host = await TestHost.StartAsync();

        Assert.True(host.Grpc.IsLoopback && host.Http.IsLoopback);
    }

    private static async Task<IReadOnlyList<string>> ProblemsAsync(params string[] settings)
    {
        var wrong = await Assert.ThrowsAsync<OptionsValidationException>(async () =>
        {
            await using var host = TestHost.Build(null, settings);
            await host.StartAsync();
        });
        return [.. wrong.Failures];
    }
}

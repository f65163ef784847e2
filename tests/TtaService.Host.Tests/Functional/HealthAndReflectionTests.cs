using System.Net;
using Grpc.Core;
using Grpc.Health.V1;
using Grpc.Reflection.V1Alpha;
using TtaService.Host.Tests.Infrastructure;

namespace TtaService.Host.Tests.Functional;

public sealed class HealthAndReflectionTests
{
    [Theory]
    [InlineData("")]
    [InlineData("readiness")]
    [InlineData("liveness")]
    public async Task Check_Running_Serves(string service)
    {
        await using var host = await TestHost.StartAsync();
        using var channel = host.Connect();

        Assert.Equal(HealthCheckResponse.Types.ServingStatus.Serving, (await new Health.HealthClient(channel).CheckAsync(new HealthCheckRequest { Service = service })).Status);
    }

    [Fact]
    public async Task Check_UnknownService_IsNotFound()
    {
        await using var host = await TestHost.StartAsync();
        using var channel = host.Connect();

        var refused = await Assert.ThrowsAsync<RpcException>(async () => await new Health.HealthClient(channel).CheckAsync(new HealthCheckRequest { Service = "nobody" }));

        Assert.Equal(StatusCode.NotFound, refused.StatusCode);
    }

    [Fact]
    public async Task Watch_ServerStops_SaysThatItServesNoMore()
    {
        await using var host = await TestHost.StartAsync();
        using var channel = host.Connect();
        using var watch = new Health.HealthClient(channel).Watch(new HealthCheckRequest());
        Assert.True(await watch.ResponseStream.MoveNext(CancellationToken.None));
        // The first report may come before the first check has run.
        while (watch.ResponseStream.Current.Status != HealthCheckResponse.Types.ServingStatus.Serving)
        {
            Assert.True(await watch.ResponseStream.MoveNext(CancellationToken.None).WaitAsync(TimeSpan.FromSeconds(60)));
        }

        await host.Host.StopAsync();

        Assert.True(await watch.ResponseStream.MoveNext(CancellationToken.None));
        Assert.Equal(HealthCheckResponse.Types.ServingStatus.NotServing, watch.ResponseStream.Current.Status);
    }

    [Theory]
    [InlineData("/health/live")]
    [InlineData("/health/ready")]
    public async Task HttpProbe_Running_IsOkOnTheHttpListener(string path)
    {
        await using var host = await TestHost.StartAsync();
        using var http = new HttpClient { BaseAddress = host.Http };

        Assert.Equal(HttpStatusCode.OK, (await http.GetAsync(path)).StatusCode);
    }

    /// <summary>Disposing the host fails the test when the server logged a defect.</summary>
    [Fact]
    public async Task Reflection_ClientResetsItsCalls_IsNoDefect()
    {
        await using var host = await TestHost.StartAsync();
        using var channel = host.Connect();
        for (var i = 0; i < 300; i++)
        {
            using var call = new ServerReflection.ServerReflectionClient(channel).ServerReflectionInfo();
            await call.RequestStream.WriteAsync(new ServerReflectionRequest { ListServices = string.Empty });
            Assert.True(await call.ResponseStream.MoveNext(CancellationToken.None));
            await call.RequestStream.WriteAsync(new ServerReflectionRequest { FileContainingSymbol = "tta.v1.AdaptationService" });
        }
    }

    [Fact]
    public async Task Reflection_ListsTheServicesAndDescribesThem()
    {
        await using var host = await TestHost.StartAsync();
        using var channel = host.Connect();
        using var call = new ServerReflection.ServerReflectionClient(channel).ServerReflectionInfo();
        await call.RequestStream.WriteAsync(new ServerReflectionRequest { ListServices = string.Empty });
        await call.RequestStream.WriteAsync(new ServerReflectionRequest { FileContainingSymbol = "tta.v1.AdaptationService" });

        Assert.True(await call.ResponseStream.MoveNext(CancellationToken.None));
        Assert.Superset(
            new HashSet<string> { "tta.v1.AdaptationService", "tta.v1.StreamsService", "tta.v1.ModelsService", "grpc.health.v1.Health" },
            call.ResponseStream.Current.ListServicesResponse.Service.Select(service => service.Name).ToHashSet());
        Assert.True(await call.ResponseStream.MoveNext(CancellationToken.None));
        Assert.NotEmpty(call.ResponseStream.Current.FileDescriptorResponse.FileDescriptorProto);
        await call.RequestStream.CompleteAsync();
    }

    [Fact]
    public async Task ManyCalls_OnOneConnection_AreAllAnswered()
    {
        await using var host = await TestHost.StartAsync();
        var calls = new List<DuplexClient>();
        for (var i = 0; i < 150; i++)
        {
            calls.Add(await DuplexClient.OpenAsync(host, $"camera-{i}", "ema"));
        }

        var replies = await Task.WhenAll(calls.Select(call => call.StepAsync(1, TestFrames.Tensor(1))));

        Assert.All(replies, reply => Assert.Equal(1, reply.Step.Step));
        calls.ForEach(call => call.Dispose());
    }
}

using System.Net;
using Grpc.Core;
using Grpc.Health.V1;
using Grpc.Net.Client;
using Grpc.Reflection.V1Alpha;
using TtaService.Host.Tests.Infrastructure;
using TtaService.V1;

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
        // The client's own default would open a second connection where the server takes no more calls on one.
        using var handler = new SocketsHttpHandler { EnableMultipleHttp2Connections = false };
        using var channel = GrpcChannel.ForAddress(host.Grpc, new GrpcChannelOptions { HttpHandler = handler });
        var adaptation = new AdaptationService.AdaptationServiceClient(channel);
        var calls = new List<DuplexClient>();
        for (var i = 0; i < 150; i++)
        {
            calls.Add(await DuplexClient.OpenAsync(adaptation, new OpenStream { Stream = $"camera-{i}", Model = TestHost.Model }));
        }

        var replies = await Task.WhenAll(calls.Select(call => call.StepAsync(1, TestFrames.Tensor(1))));

        Assert.All(replies, reply => Assert.Equal(1, reply.Step.Step));
        calls.ForEach(call => call.Dispose());
    }

    [Fact]
    public async Task CallsThatNobodyReads_HoldNoOtherOfTheirConnectionUp()
    {
        await using var host = await TestHost.StartAsync();
        using var handler = new SocketsHttpHandler { EnableMultipleHttp2Connections = false };
        using var channel = GrpcChannel.ForAddress(host.Grpc, new GrpcChannelOptions { HttpHandler = handler });
        var adaptation = new AdaptationService.AdaptationServiceClient(channel);
        using var enough = new CancellationTokenSource();
        var deaf = Enumerable.Range(0, 4).Select(async camera =>
        {
            using var call = adaptation.StreamInfer(cancellationToken: enough.Token);
            await call.RequestStream.WriteAsync(
                new StreamInferRequest { Open = new OpenStream { Stream = $"deaf-{camera}", Model = TestHost.Model, Reply = new ReplyOptions { RawOutputs = true } } });
            try
            {
                var step = new StreamInferRequest { Step = new StepRequest { Frames = { TestFrames.Tensor(1), TestFrames.Tensor(2) } } };
                while (true)
                {
                    await call.RequestStream.WriteAsync(step, enough.Token);
                }
            }
            catch (Exception ended) when (ended is RpcException or OperationCanceledException or InvalidOperationException)
            {
                // It was told to stop, or the server ended it for what it left unread.
            }
        }).ToArray();

        var readers = Enumerable.Range(0, 8).Select(async camera =>
        {
            using var call = await DuplexClient.OpenAsync(adaptation, new OpenStream { Stream = $"reader-{camera}", Model = TestHost.Model });
            for (var step = 1UL; step <= 50; step++)
            {
                Assert.Equal(step, (await call.StepAsync(step, TestFrames.Tensor((int)step))).Step.Sequence);
            }
        });
        await Task.WhenAll(readers);
        await enough.CancelAsync();
        await Task.WhenAll(deaf);
    }
}

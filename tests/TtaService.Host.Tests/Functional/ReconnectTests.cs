using System.Collections.Concurrent;
using System.Globalization;
using System.Net;
using Grpc.Core;
using Grpc.Core.Interceptors;
using Grpc.Net.Client;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using TtaService.Client;
using TtaService.Host.Tests.Infrastructure;
using TtaService.V1;

namespace TtaService.Host.Tests.Functional;

/// <summary>The typed client goes on by itself whatever happens to the server, and says what happened. TTA_AWAY_SECONDS keeps the server away for longer, with the
/// client's default waits.</summary>
public sealed class ReconnectTests
{
    private static readonly int? AwaySeconds = int.TryParse(Environment.GetEnvironmentVariable("TTA_AWAY_SECONDS"), CultureInfo.InvariantCulture, out var seconds) ? seconds : null;

    private readonly ConcurrentQueue<StreamEvent> _events = new();

    [Fact]
    public async Task Server_AwayKilledEmptied_GoesOnByItselfWithTheRightEvents()
    {
        using var folder = new TestFolder();
        // Only the first state is written, so that a kill loses what came after it.
        await using var server = await ServerProcess.StartAsync(
            "Store:Kind=file", $"Store:Path={folder.Path}", "Store:CheckpointInterval=01:00:00", "Store:DriftThreshold=1000000");
        using var client = new TtaClient(new TtaClientOptions
        {
            Address = new Uri($"http://127.0.0.1:{server.GrpcPort}"),
            Stream = AwaySeconds is null ? Soon() : new AdaptationStreamOptions { OnEvent = _events.Enqueue }
        });
        await using var camera = await client.OpenAsync(new OpenStream { Stream = "camera", Model = TestHost.Model });
        for (var frame = 1; frame <= 5; frame++)
        {
            Assert.Equal(frame, (await camera.StepAsync([TestFrames.Tensor(frame)])).Step);
            await UntilAsync(async () => (await client.Streams.ListCheckpointsAsync(new ListCheckpointsRequest { Name = "camera" })).Checkpoints.Count > 0);
        }

        // Killed and away: no attempt is the last.
        _events.Clear();
        await server.Process.KillAsync();
        var waiting = camera.StepAsync([TestFrames.Tensor(6)]);
        await (AwaySeconds is { } away ? Task.Delay(TimeSpan.FromSeconds(away)) : UntilAsync(() => Of<StreamDisconnected>().Count > 30));
        await server.RestartAsync();
        var reply = await waiting.WaitAsync(TimeSpan.FromSeconds(60));

        var reconnected = Assert.Single(Of<StreamReconnected>());
        Assert.Equal(StateOrigin.Restored, reconnected.Opened.Origin);
        Assert.Equal(Of<StreamDisconnected>().Count, reconnected.Attempts);
        var rewound = Assert.Single(Of<StateRewound>());
        Assert.Empty(Of<StateLost>());
        Assert.DoesNotContain("subchannel", Of<StreamDisconnected>()[^1].ToString(), StringComparison.Ordinal);
        Assert.Equal((5 - reconnected.Opened.Age.Steps, reconnected.Opened.Age.Steps), (rewound.Steps, rewound.Step));
        Assert.InRange(rewound.Steps, 1, 5);
        Assert.Equal((6ul, rewound.Step + 1), (reply.Sequence, reply.Step));
        TestContext.Current.TestOutputHelper!.WriteLine($"figure: away {reconnected.Away.TotalSeconds:0.0} s, {reconnected.Attempts} attempts, rewound {rewound.Steps} steps");

        // Killed and empty.
        _events.Clear();
        var known = reply.Step;
        await server.Process.KillAsync();
        Directory.Delete(folder.Path, recursive: true);
        Directory.CreateDirectory(folder.Path);
        await server.RestartAsync();
        Assert.Equal(1, (await camera.StepAsync([TestFrames.Tensor(7)]).WaitAsync(TimeSpan.FromSeconds(60))).Step);

        Assert.Single(Of<StreamReconnected>());
        Assert.Equal(known, Assert.Single(Of<StateLost>()).Steps);
        Assert.Empty(Of<StateRewound>());

        // Stopped properly and started again: nothing is lost, and nothing is said to be.
        _events.Clear();
        await server.Process.TerminateAsync();
        await server.RestartAsync();
        Assert.Equal(2, (await camera.StepAsync([TestFrames.Tensor(8)]).WaitAsync(TimeSpan.FromSeconds(60))).Step);
        Assert.Single(Of<StreamReconnected>());
        Assert.DoesNotContain(_events, happened => happened is StateLost or StateRewound or StreamGaveUp);
    }

    [Fact]
    public async Task Server_ReplacedByAnEmptyReplica_SaysThatTheStateIsLost()
    {
        var first = await TestHost.StartAsync();
        await using var second = await TestHost.StartAsync();
        await using var road = new BreakingRoad(first.Grpc);
        using var channel = road.Connect();
        await using var camera = await OpenAsync(channel, Soon());
        await camera.StepAsync([TestFrames.Tensor(1)]);
        await camera.StepAsync([TestFrames.Tensor(2)]);

        road.Server = second.Grpc;
        await first.DisposeAsync();
        Assert.Equal(1, (await camera.StepAsync([TestFrames.Tensor(3)])).Step);

        Assert.Equal(2, Assert.Single(Of<StateLost>()).Steps);
    }

    [Fact]
    public async Task Server_ReplacedByAReplicaWithTheSameStore_LosesNothing()
    {
        await using var redis = await RedisServer.StartAsync();
        string[] store = ["--Store:Kind=redis", $"--Store:RedisConfiguration={redis.Configuration}"];
        var first = await TestHost.StartAsync([.. store, "--Store:Replica=first"]);
        await using var second = await TestHost.StartAsync([.. store, "--Store:Replica=second"]);
        await using var road = new BreakingRoad(first.Grpc);
        using var channel = road.Connect();
        await using var camera = await OpenAsync(channel, Soon());
        await camera.StepAsync([TestFrames.Tensor(1)]);

        road.Server = second.Grpc;
        await first.DisposeAsync();
        Assert.Equal(2, (await camera.StepAsync([TestFrames.Tensor(2)])).Step);

        Assert.Single(Of<StreamReconnected>());
        Assert.DoesNotContain(_events, happened => happened is StateLost or StateRewound);
    }

    [Fact]
    public async Task Reset_ByAnOperator_IsTold()
    {
        await using var host = await TestHost.StartAsync();
        using var channel = host.Connect();
        await using var camera = await OpenAsync(channel, Soon());
        for (var frame = 0; frame < 3; frame++)
        {
            await camera.StepAsync([TestFrames.Tensor(frame)]);
        }

        await host.Streams.ResetStreamAsync(new ResetStreamRequest { Name = "camera" });
        await camera.StepAsync([TestFrames.Tensor(4)]);

        Assert.Equal(3, Assert.Single(Of<StateLost>()).Steps);
    }

    [Fact]
    public async Task StepThatBreaksEveryConnection_FailsAloneAndTheStreamGoesOn()
    {
        await using var host = await TestHost.StartAsync();
        await using var road = new BreakingRoad(host.Grpc) { CutAfter = 2000 };
        using var channel = road.Connect();
        await using var camera = await OpenAsync(channel, Soon() with { MaxSends = 3, MaxDelay = TimeSpan.FromSeconds(20) });

        var failed = await Assert.ThrowsAsync<StepFailedException>(() => camera.StepAsync([TestFrames.Tensor(1)]).WaitAsync(TimeSpan.FromSeconds(60)));
        road.CutAfter = null;

        Assert.Equal("STEP_BREAKS_CONNECTIONS", failed.Error.Reason);
        Assert.Contains("MaxSends", failed.Message, StringComparison.Ordinal);
        Assert.Equal(1, (await camera.StepAsync([TestFrames.Tensor(2)])).Step);
        Assert.Empty(Of<StreamGaveUp>());
    }

    [Fact]
    public async Task GiveUpAfter_NoServerForSoLong_EndsWithItsEvent()
    {
        var host = await TestHost.StartAsync();
        using var channel = ServerProcess.Connect(host.Grpc.Port);
        await using var camera = await OpenAsync(channel, Soon() with { GiveUpAfter = TimeSpan.FromMilliseconds(300) });
        await host.DisposeAsync();

        await Assert.ThrowsAsync<RpcException>(() => camera.StepAsync([TestFrames.Tensor(1)]).WaitAsync(TimeSpan.FromSeconds(60)));

        Assert.True(Assert.Single(Of<StreamGaveUp>()).Attempts > 1);
        Assert.Contains("gave up", Of<StreamGaveUp>()[0].ToString(), StringComparison.Ordinal);
    }

    [Fact]
    public async Task Open_NoServerYet_WaitsForItOrForItsCancellation()
    {
        var port = OtherProgram.FreePort();
        using var channel = ServerProcess.Connect(port);
        using var cancel = new CancellationTokenSource(TimeSpan.FromMilliseconds(200));
        await Assert.ThrowsAnyAsync<OperationCanceledException>(
            () => AdaptationStream.OpenAsync(channel.CreateCallInvoker(), new OpenStream { Stream = "camera" }, Soon(), cancel.Token));

        var opening = OpenAsync(channel, Soon());
        await UntilAsync(() => Of<StreamDisconnected>().Count > 20);
        await using var host = await TestHost.StartAsync($"--Server:GrpcPort={port}");
        await using var camera = await opening.WaitAsync(TimeSpan.FromSeconds(60));

        Assert.Equal(1, (await camera.StepAsync([TestFrames.Tensor(1)])).Step);
        Assert.Empty(Of<StreamReconnected>());
    }

    [Fact]
    public async Task Step_CancelledWhileTheServerIsAway_IsNeverSent()
    {
        var port = OtherProgram.FreePort();
        var host = await TestHost.StartAsync($"--Server:GrpcPort={port}");
        using var channel = ServerProcess.Connect(port);
        await using var camera = await OpenAsync(channel, Soon() with { MaxUnanswered = 1 });
        await host.DisposeAsync();
        await UntilAsync(() => Of<StreamDisconnected>().Count > 0);

        for (var frame = 1; frame <= 3; frame++)
        {
            using var deadline = new CancellationTokenSource(TimeSpan.FromMilliseconds(50));
            await Assert.ThrowsAnyAsync<OperationCanceledException>(() => camera.StepAsync([TestFrames.Tensor(frame)], cancel: deadline.Token));
        }

        await using var again = await TestHost.StartAsync($"--Server:GrpcPort={port}");
        var reply = await camera.StepAsync([TestFrames.Tensor(4)]).WaitAsync(TimeSpan.FromSeconds(60));

        // Of the four numbers only the last was ever sent.
        Assert.Equal((4ul, 1), (reply.Sequence, reply.Step));
    }

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    public async Task Write_AbortedByTheTransport_GoesOnInAnotherCall(int write)
    {
        await using var host = await TestHost.StartAsync();
        using var channel = host.Connect();
        var invoker = channel.CreateCallInvoker().Intercept(new AbortingWrites(write));

        // The server's own words about the end are missing, too, so that only the client's patience ends the call.
        var options = Soon() with { OpenTimeout = TimeSpan.FromSeconds(1) };
        await using var camera = await AdaptationStream.OpenAsync(invoker, new OpenStream { Stream = "camera", Model = TestHost.Model }, options)
            .WaitAsync(TimeSpan.FromSeconds(60));

        Assert.Equal(1, (await camera.StepAsync([TestFrames.Tensor(1)]).WaitAsync(TimeSpan.FromSeconds(60))).Step);
        Assert.Single(Of<StreamDisconnected>());
    }

    // As a proxy does whose server is killed in the middle of an answer.
    [Fact]
    public async Task Response_EndedWithoutAStatus_IsTriedAgain()
    {
        var calls = 0;
        var builder = WebApplication.CreateSlimBuilder();
        builder.WebHost.ConfigureKestrel(kestrel => kestrel.Listen(IPAddress.Loopback, 0, listen => listen.Protocols = HttpProtocols.Http2));
        await using var proxy = builder.Build();
        proxy.Run(context =>
        {
            Interlocked.Increment(ref calls);
            context.Response.ContentType = "application/grpc";
            return context.Response.StartAsync();
        });
        await proxy.StartAsync();
        using var channel = GrpcChannel.ForAddress(proxy.Urls.Single());

        var failed = await Assert.ThrowsAsync<RpcException>(() => OpenAsync(channel, Soon() with { MaxOpenAttempts = 3 }).WaitAsync(TimeSpan.FromSeconds(60)));

        Assert.Equal(StatusCode.Cancelled, failed.StatusCode);
        Assert.Equal(3, calls);
    }

    /// <summary>The first call's given write ends as one does whose connection goes away at that moment.</summary>
    private sealed class AbortingWrites(int write) : Interceptor
    {
        private int _calls;

        public override AsyncDuplexStreamingCall<TRequest, TResponse> AsyncDuplexStreamingCall<TRequest, TResponse>(
            ClientInterceptorContext<TRequest, TResponse> context, AsyncDuplexStreamingCallContinuation<TRequest, TResponse> continuation)
        {
            var call = continuation(context);
            var writer = new Writer<TRequest>(call.RequestStream, Interlocked.Increment(ref _calls) == 1 ? write : 0);
            return new(writer, call.ResponseStream, call.ResponseHeadersAsync, call.GetStatus, call.GetTrailers, call.Dispose);
        }

        private sealed class Writer<T>(IClientStreamWriter<T> inner, int aborted) : IClientStreamWriter<T>
        {
            private int _writes;

            public WriteOptions? WriteOptions
            {
                get => inner.WriteOptions;
                set => inner.WriteOptions = value;
            }

            public Task WriteAsync(T message) => WriteAsync(message, CancellationToken.None);

            public Task WriteAsync(T message, CancellationToken cancellationToken) => ++_writes == aborted
                ? Task.FromException(new HttpRequestException("The request was aborted."))
                : inner.WriteAsync(message, cancellationToken);

            public Task CompleteAsync() => inner.CompleteAsync();
        }
    }

    private static Task<AdaptationStream> OpenAsync(ChannelBase channel, AdaptationStreamOptions options) =>
        AdaptationStream.OpenAsync(channel.CreateCallInvoker(), new OpenStream { Stream = "camera", Model = TestHost.Model }, options);

    private static Task UntilAsync(Func<bool> wanted) => UntilAsync(() => Task.FromResult(wanted()));

    private static async Task UntilAsync(Func<Task<bool>> wanted)
    {
        using var giveUp = new CancellationTokenSource(TimeSpan.FromSeconds(60));
        while (!await wanted())
        {
            await Task.Delay(5, giveUp.Token);
        }
    }

    // As the defaults, a hundred times faster.
    private AdaptationStreamOptions Soon() => new() { FirstDelay = TimeSpan.FromMilliseconds(1), MaxDelay = TimeSpan.FromMilliseconds(50), OnEvent = _events.Enqueue };

    private List<T> Of<T>()
        where T : StreamEvent => [.. _events.OfType<T>()];
}

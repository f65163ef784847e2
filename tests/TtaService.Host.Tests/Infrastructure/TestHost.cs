using System.Collections.Concurrent;
using Grpc.Net.Client;
using Microsoft.AspNetCore.Builder;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;
using TtaService.Host.Hosting;
using TtaService.Serving.Store;
using TtaService.Serving.Streams;
using TtaService.V1;

namespace TtaService.Host.Tests.Infrastructure;

/// <summary>The real server on loopback ports of its own, with the tiny model of Data/models.</summary>
internal sealed class TestHost : IAsyncDisposable
{
    public const string Model = "tiny";

    private readonly GrpcChannel _channel;

    private TestHost(WebApplication host)
    {
        Host = host;
        (Grpc, Http) = TtaHost.Addresses(host);
        _channel = Connect();
        Adaptation = new AdaptationService.AdaptationServiceClient(_channel);
        Streams = new StreamsService.StreamsServiceClient(_channel);
        Models = new ModelsService.ModelsServiceClient(_channel);
    }

    public WebApplication Host { get; }

    public Uri Grpc { get; }

    public Uri Http { get; }

    public AdaptationService.AdaptationServiceClient Adaptation { get; }

    public StreamsService.StreamsServiceClient Streams { get; }

    public ModelsService.ModelsServiceClient Models { get; }

    public static string ModelsPath { get; } = Path.Combine(AppContext.BaseDirectory, "Data", "models");

    /// <summary>The setting for a repository with the tiny model and, as "plain", the same without BatchNormalization nodes.</summary>
    public static string TwoModels { get; } = $"--Models:Path={Path.Combine(AppContext.BaseDirectory, "Data", "two-models")}";

    /// <summary>What the server logged as a defect; empty unless a test caused one.</summary>
    public IReadOnlyCollection<string> Defects => Host.Services.GetServices<ILoggerProvider>().OfType<ErrorLog>().Single().Errors;

    /// <summary>The test brings defects about itself, and looks at them itself.</summary>
    public bool ExpectsDefects { get; set; }

    public static async Task<TestHost> StartAsync(params string[] settings) => await StartAsync(null, settings);

    /// <summary>The server with a clock of the test's.</summary>
    public static async Task<TestHost> StartAsync(TimeProvider? clock, params string[] settings)
    {
        var host = Build(clock, settings);
        await host.StartAsync();
        return new TestHost(host);
    }

    /// <summary>The server before its start. Many run side by side in the tests: with more threads each they would wait for each other.</summary>
    public static WebApplication Build(TimeProvider? clock, params string[] settings) =>
        TtaHost.Build(["--Server:GrpcPort=0", "--Server:HttpPort=0", $"--Models:Path={ModelsPath}", "--Models:Threads=1", "--Store:Kind=memory", .. settings], builder =>
        {
            builder.Logging.AddFilter(null, LogLevel.Error);
            builder.Logging.AddProvider(new ErrorLog());
            if (clock is not null)
            {
                builder.Services.AddSingleton(clock);
            }
        });

    /// <summary>A connection of its own.</summary>
    public GrpcChannel Connect() => GrpcChannel.ForAddress(Grpc, new GrpcChannelOptions { MaxReceiveMessageSize = null });

    /// <summary>Keeps the device busy until the result is disposed, so that steps wait.</summary>
    public async Task<IDisposable> OccupyEngineAsync()
    {
        var engine = Host.Services.GetRequiredService<ModelCatalog>().Find(Model).Engine;
        var entered = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        var release = new ManualResetEventSlim();
        _ = engine.InvokeAsync(_ =>
        {
            entered.SetResult();
            release.Wait();
            return true;
        });
        await entered.Task;
        return new Setter(release);
    }

    /// <summary>Keeps the device and the batch before it busy until the result is disposed: every further step waits in its queue.</summary>
    public async Task<IDisposable> OccupyBatcherAsync()
    {
        var front = await DuplexClient.OpenAsync(this, "in-front");
        var engine = await OccupyEngineAsync();
        await front.SendAsync(1, TestFrames.Tensor(0));
        await UntilAsync("in-front", session => session is { Waiting: { Phase: StreamPhase.Running, Work.Count: 0 } });
        return new Release(engine, front);
    }

    /// <summary>Waits until the stream is as wanted.</summary>
    public async Task UntilAsync(string stream, Func<StreamSession, bool> wanted)
    {
        var session = Host.Services.GetRequiredService<StreamDirectory>().Get(stream);
        using var giveUp = new CancellationTokenSource(TimeSpan.FromSeconds(60));
        while (true)
        {
            lock (session.Model.Batcher.Gate)
            {
                if (wanted(session))
                {
                    return;
                }
            }

            await Task.Delay(2, giveUp.Token);
        }
    }

    /// <summary>The stream's exported state.</summary>
    public async Task<byte[]> ExportAsync(string stream) => (await Streams.ExportStreamAsync(new ExportStreamRequest { Name = stream })).Snapshot.ToByteArray();

    public async Task<V1.Stream> GetAsync(string stream) => await Streams.GetStreamAsync(new GetStreamRequest { Name = stream });

    /// <summary>One step by a unary call.</summary>
    public async Task<StepReply> StepAsync(string stream, Frame frame, ulong sequence = 0, string? method = null) => (await Adaptation.InferAsync(new InferRequest
    {
        Open = new OpenStream { Stream = stream, Model = Model, Method = method is null ? null : new Method { Name = method }, Reply = new ReplyOptions { RawOutputs = true } },
        Step = new StepRequest { Sequence = sequence, Frames = { frame } },
    })).Step;

    /// <summary>Stops the server. A test in which it logged a defect fails here.</summary>
    public async ValueTask DisposeAsync()
    {
        _channel.Dispose();
        await Host.StopAsync();
        var defects = Defects;
        await Host.DisposeAsync();
        if (!ExpectsDefects)
        {
            Assert.Empty(defects);
        }
    }

    /// <summary>A part of the running server.</summary>
    public T Part<T>()
        where T : notnull => Host.Services.GetRequiredService<T>();

    /// <summary>Waits until something is as wanted.</summary>
    public static async Task UntilAsync(Func<bool> wanted, string otherwise)
    {
        using var giveUp = new CancellationTokenSource(TimeSpan.FromSeconds(60));
        while (!wanted())
        {
            Assert.False(giveUp.IsCancellationRequested, otherwise);
            await Task.Delay(10, TestContext.Current.CancellationToken);
        }
    }

    private sealed class ErrorLog : ILoggerProvider, ILogger
    {
        private readonly ConcurrentQueue<string> _errors = new();

        public IReadOnlyCollection<string> Errors => [.. _errors];

        // Only what TtaService and ASP.NET say: not being ready while it stops is no defect, nor is a client that leaves while its request is read, nor a store that is down.
        public ILogger CreateLogger(string categoryName) =>
            (categoryName.StartsWith("TtaService", StringComparison.Ordinal) && categoryName != typeof(StoreHealth).FullName)
                || categoryName.StartsWith("Microsoft.AspNetCore", StringComparison.Ordinal) ? this : NullLogger.Instance;

        public IDisposable? BeginScope<TState>(TState state)
            where TState : notnull => null;

        public bool IsEnabled(LogLevel logLevel) => logLevel >= LogLevel.Error;

        public void Log<TState>(LogLevel logLevel, EventId eventId, TState state, Exception? exception, Func<TState, Exception?, string> formatter)
        {
            if (IsEnabled(logLevel))
            {
                _errors.Enqueue($"{formatter(state, exception)} {exception}");
            }
        }

        public void Dispose()
        {
        }
    }

    private sealed class Setter(ManualResetEventSlim release) : IDisposable
    {
        public void Dispose() => release.Set();
    }

    private sealed class Release(params IDisposable[] parts) : IDisposable
    {
        public void Dispose() => Array.ForEach(parts, part => part.Dispose());
    }
}

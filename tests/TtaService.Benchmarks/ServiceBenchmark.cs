using Google.Protobuf;
using Grpc.Net.Client;
using Microsoft.AspNetCore.Builder;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using TtaService.Client;
using TtaService.Host.Grpc;
using TtaService.Host.Hosting;
using TtaService.Serving.Front;
using TtaService.Serving.Streams;
using TtaService.V1;

namespace TtaService.Benchmarks;

/// <summary>What gRPC costs: concurrent StreamInfer clients against the same steps given to the batcher in process. The clients' own work counts as well.</summary>
internal static class ServiceBenchmark
{
    private const int Clients = 32;
    private const int Steps = 20;
    private const string Model = "fashion-mnist";

    public static void Run(Report report, BenchmarkOptions options) => RunAsync(report, options).GetAwaiter().GetResult();

    private static async Task RunAsync(Report report, BenchmarkOptions options)
    {
        await using var host = await StartAsync($"--Models:Threads={options.Threads}");
        var frames = Frames();
        var streams = new List<AdaptationStream>();
        foreach (var channel in Enumerable.Range(0, 8).Select(_ => GrpcChannel.ForAddress(TtaHost.Addresses(host).Grpc)))
        {
            for (var i = 0; i < Clients / 8; i++)
            {
                streams.Add(await AdaptationStream.OpenAsync(channel.CreateCallInvoker(), new OpenStream { Stream = $"grpc-{streams.Count}", Model = Model }));
            }
        }

        var sessions = await InProcess.OpenAsync(host, Model, Clients);
        var variants = new Interleaved();
        variants.Add("gRPC", () => Task.WhenAll(streams.Select((stream, client) => Task.Run(async () =>
        {
            for (var step = 0; step < Steps; step++)
            {
                await stream.StepAsync([frames[(client + step) % frames.Length]]);
            }
        }))).GetAwaiter().GetResult());
        variants.Add("in process", () => Task.WhenAll(sessions.Select((session, client) => Task.Run(async () =>
        {
            for (var step = 0; step < Steps; step++)
            {
                await session.StepAsync(frames[(client + step) % frames.Length]);
            }
        }))).GetAwaiter().GetResult());
        variants.Run(options.Rounds, TimeSpan.FromSeconds(1));
        report.Row($"gRPC StreamInfer, {Clients} clients / the same steps in process, {Model}", variants, "gRPC", "in process", 1.25);
        report.Line($"");
        report.Line($"{Clients * Steps / variants.Wall("gRPC") * 1000:0} frames/s over gRPC, {Clients * Steps / variants.Wall("in process") * 1000:0} frames/s in process");
    }

    internal static async Task<WebApplication> StartAsync(params string[] settings)
    {
        var host = TtaHost.Build(["--Server:GrpcPort=0", "--Server:HttpPort=0", $"--Models:Path={Path.Combine(AppContext.BaseDirectory, "models")}",
            "--Store:Kind=memory", .. settings], builder => builder.Logging.ClearProviders());
        await host.StartAsync();
        return host;
    }

    /// <summary>Raw grey frames of the demo model's size.</summary>
    internal static Frame[] Frames()
    {
        var random = new Random(0);
        return [.. Enumerable.Range(0, 64).Select(_ =>
        {
            var pixels = new byte[28 * 28];
            random.NextBytes(pixels);
            return new Frame { Raw = new RawImage { Width = 28, Height = 28, Format = RawImage.Types.Format.Gray8, Data = ByteString.CopyFrom(pixels) } };
        })];
    }
}

/// <summary>A stream that is stepped without the network.</summary>
internal sealed class InProcess(IOpenStream stream)
{
    public static async Task<InProcess[]> OpenAsync(WebApplication host, string model, int count, string? method = null)
    {
        var streams = host.Services.GetRequiredService<IStreamStepping>();
        var opened = new InProcess[count];
        for (var i = 0; i < count; i++)
        {
            var request = new StreamRequest { Key = StreamKey.Of($"in-process-{i}"), Model = model, Method = method is null ? null : new MethodChoice(method, null) };
            opened[i] = new InProcess((await streams.OpenAsync(request, CancellationToken.None)).OrThrow());
        }

        return opened;
    }

    public async Task StepAsync(Frame frame)
    {
        var outcome = await stream.StepAsync(StreamRequests.Read(new StepRequest { Frames = { frame } }, new ReplyContent(5, false), CancellationToken.None));
        if (outcome.Failure is { } failure)
        {
            throw new InvalidOperationException(failure.Message);
        }
    }
}

using System.Diagnostics;
using Google.Protobuf;
using Grpc.Core;
using Grpc.Net.Client;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Options;
using SkiaSharp;
using TtaService.Client;
using TtaService.Host.Tests.Infrastructure;
using TtaService.V1;

namespace TtaService.Host.Tests.Functional;

/// <summary>The typed client's frame sources, async streams, registration, keys and spans.</summary>
public sealed class ClientFramesTests
{
    [Fact]
    public async Task Steps_OfAFolder_AnswerInOrderWithinTheWindow()
    {
        using var folder = new TestFolder();
        for (var number = 1; number <= 7; number++)
        {
            await File.WriteAllBytesAsync(folder.In($"{number}.png"), TestFrames.File(number, SKEncodedImageFormat.Png));
        }

        await File.WriteAllTextAsync(folder.In("notes.txt"), "no image");
        await using var host = await TestHost.StartAsync();
        using var client = Client(host);
        await using var camera = await client.OpenAsync(new OpenStream { Stream = "camera", Model = TestHost.Model });

        var steps = new List<StreamedStep>();
        await foreach (var step in camera.StepsAsync(FrameSource.Folder(folder.Path), framesPerStep: 3, window: 2))
        {
            steps.Add(step);
        }

        Assert.Equal([3, 3, 1], steps.Select(step => step.Reply!.Predictions.Count));
        Assert.Equal([1, 2, 3], steps.Select(step => (int)step.Reply!.Step));
        Assert.Equal(Enumerable.Range(1, 7).Select(number => $"{number}.png"), steps.SelectMany(step => step.Frames).Select(frame => Path.GetFileName(frame.Name)));
    }

    [Fact]
    public async Task Steps_ServerBusy_ReadNoFurtherThanTheWindow()
    {
        await using var host = await TestHost.StartAsync();
        using var client = Client(host);
        await using var camera = await client.OpenAsync(new OpenStream { Stream = "camera", Model = TestHost.Model });
        var taken = 0;
        var busy = await host.OccupyBatcherAsync();
        var running = Task.Run(async () =>
        {
            var answered = 0;
            await foreach (var step in camera.StepsAsync(Endless(), window: 3))
            {
                if (++answered == 10)
                {
                    break;
                }
            }

            return answered;
        });
        await host.UntilAsync("camera", session => session.Waiting.PendingSteps == 3);
        // Three are on their way, the fourth waits for room.
        Assert.InRange(Volatile.Read(ref taken), 3, 4);
        busy.Dispose();

        Assert.Equal(10, await running);

        async IAsyncEnumerable<SourceFrame> Endless()
        {
            while (true)
            {
                await Task.Yield();
                yield return new SourceFrame($"{Interlocked.Increment(ref taken)}", TestFrames.Tensor(taken));
            }
        }
    }

    [Fact]
    public async Task Steps_BadFrameAmongGoodOnes_IsAValueAndTheOthersRun()
    {
        await using var host = await TestHost.StartAsync();
        using var client = Client(host);
        await using var camera = await client.OpenAsync(new OpenStream { Stream = "camera", Model = TestHost.Model });
        ReadOnlyMemory<byte>[] images = [TestFrames.File(1, SKEncodedImageFormat.Jpeg), "no image"u8.ToArray(), TestFrames.File(2, SKEncodedImageFormat.Webp)];

        var errors = new List<string?>();
        await foreach (var step in camera.StepsAsync(FrameSource.Bytes(images)))
        {
            errors.Add(step.Error?.Reason);
        }

        Assert.Equal(3, errors.Count);
        Assert.True(errors[0] is null && errors[1] is not null && errors[2] is null, string.Join(", ", errors));
    }

    [Fact]
    public async Task Steps_SourceFails_ThrowsAfterTheAnswersBefore()
    {
        await using var host = await TestHost.StartAsync();
        using var client = Client(host);
        await using var camera = await client.OpenAsync(new OpenStream { Stream = "camera", Model = TestHost.Model });
        using var folder = new TestFolder();
        await File.WriteAllBytesAsync(folder.In("1.png"), TestFrames.File(1, SKEncodedImageFormat.Png));
        var answered = 0;

        await Assert.ThrowsAsync<FileNotFoundException>(async () =>
        {
            await foreach (var step in camera.StepsAsync(FrameSource.Files([folder.In("1.png"), folder.In("2.png")])))
            {
                answered++;
            }
        });

        Assert.Equal(1, answered);
    }

    [Fact]
    public async Task Folder_ThatGrows_GivesEachFileOnceWhenItIsWhole()
    {
        using var folder = new TestFolder();
        var image = TestFrames.File(1, SKEncodedImageFormat.Png);
        await File.WriteAllBytesAsync(folder.In("a.png"), image);
        using var stop = new CancellationTokenSource(TimeSpan.FromSeconds(60));
        var got = new List<(string Name, int Bytes)>();

        await foreach (var frame in FrameSource.Folder(folder.Path, follow: true, TimeSpan.FromMilliseconds(40), cancel: stop.Token))
        {
            got.Add((Path.GetFileName(frame.Name), frame.Frame.Encoded.Length));
            if (got.Count == 1)
            {
                // Half now, half a little later.
                await using var writer = new FileStream(folder.In("b.png"), FileMode.CreateNew, FileAccess.Write, FileShare.ReadWrite);
                await writer.WriteAsync(image.AsMemory(0, 100));
                await writer.FlushAsync();
                await writer.WriteAsync(image.AsMemory(100));
            }
            else
            {
                break;
            }
        }

        Assert.Equal([("a.png", image.Length), ("b.png", image.Length)], got);
    }

    [Theory]
    [InlineData(1)]
    [InlineData(7)]
    [InlineData(100_000)]
    public async Task MotionJpeg_CutsImagesWhereTheyEnd(int piece)
    {
        // The second has a preview in its header: an end marker that is none of its own.
        var plain = TestFrames.File(1, SKEncodedImageFormat.Jpeg);
        byte[] preview = [0xff, 0xe1, 0, 8, 0xff, 0xd8, 0xff, 0xd9, 1, 2];
        byte[] nested = [.. plain[..2], .. preview, .. plain[2..]];
        var stream = new PiecewiseStream([.. "--frame\r\n\r\n"u8, .. plain, .. "\r\n--frame\r\n\xff\r\n"u8, .. nested, .. plain], piece);

        var images = new List<ByteString>();
        await foreach (var frame in FrameSource.MotionJpeg(stream))
        {
            images.Add(frame.Frame.Encoded);
        }

        Assert.Equal([ByteString.CopyFrom(plain), ByteString.CopyFrom(nested), ByteString.CopyFrom(plain)], images);
    }

    [Fact]
    public async Task MotionJpeg_CutOrEndless_IsRefused()
    {
        var image = TestFrames.File(1, SKEncodedImageFormat.Jpeg);
        Assert.Contains("ended within", (await Assert.ThrowsAsync<InvalidDataException>(() => Count(image[..^5], 1 << 20))).Message, StringComparison.Ordinal);
        Assert.Contains("longer than 100", (await Assert.ThrowsAsync<InvalidDataException>(() => Count(image, 100))).Message, StringComparison.Ordinal);

        static async Task<int> Count(byte[] bytes, int limit)
        {
            var count = 0;
            await foreach (var frame in FrameSource.MotionJpeg(new MemoryStream(bytes), limit))
            {
                count++;
            }

            return count;
        }
    }

    [Fact]
    public async Task Newest_ReaderIsSlow_LeavesOutWhatIsOld()
    {
        var leftOut = new List<string>();
        var all = new TaskCompletionSource();
        var got = new List<string>();
        await foreach (var frame in FrameSource.Newest(Hundred(), frame => leftOut.Add(frame.Name)))
        {
            got.Add(frame.Name);
            await all.Task;
        }

        Assert.Equal("100", got[^1]);
        Assert.Equal(Enumerable.Range(1, 100).Select(number => $"{number}"), got.Concat(leftOut).OrderBy(int.Parse));
        Assert.InRange(got.Count, 1, 3);

        async IAsyncEnumerable<SourceFrame> Hundred()
        {
            for (var number = 1; number <= 100; number++)
            {
                await Task.Yield();
                yield return new SourceFrame($"{number}", new Frame());
            }

            all.SetResult();
        }
    }

    [Fact]
    public async Task AddTtaClient_ResolvesOneThatWorks_AndRefusesBadOptionsByName()
    {
        await using var host = await TestHost.StartAsync();
        await using var services = new ServiceCollection().AddTtaClient(options => options.Address = host.Grpc).BuildServiceProvider();
        var client = services.GetRequiredService<TtaClient>();
        await using (var camera = await client.OpenAsync(new OpenStream { Stream = "camera", Model = TestHost.Model }))
        {
            await camera.StepAsync([TestFrames.Tensor(1)]);
        }

        Assert.Equal("camera", Assert.Single((await client.Streams.ListStreamsAsync(new ListStreamsRequest())).Streams).Name);

        await using var wrong = new ServiceCollection().AddTtaClient(options => options.Address = new Uri("ftp://there")).BuildServiceProvider();
        Assert.Contains("TtaClientOptions.Address", Assert.Throws<OptionsValidationException>(() => wrong.GetRequiredService<TtaClient>()).Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task ApiKey_TravelsWithEveryCallBesideTheStreamsName()
    {
        var seen = new List<(string Path, string? Key, string? Stream)>();
        var builder = WebApplication.CreateSlimBuilder();
        builder.WebHost.ConfigureKestrel(
            kestrel => kestrel.Listen(System.Net.IPAddress.Loopback, 0, listen => listen.Protocols = Microsoft.AspNetCore.Server.Kestrel.Core.HttpProtocols.Http2));
        await using var proxy = builder.Build();
        proxy.Run(context =>
        {
            lock (seen)
            {
                seen.Add((context.Request.Path, context.Request.Headers["x-api-key"], context.Request.Headers[AdaptationStream.StreamHeader]));
            }

            context.Response.ContentType = "application/grpc";
            context.Response.Headers["grpc-status"] = "16";
            return Task.CompletedTask;
        });
        await proxy.StartAsync();
        var asked = false;
        using var client = new TtaClient(new TtaClientOptions { Address = new Uri(proxy.Urls.Single()), ApiKey = "secret", ConfigureChannel = _ => asked = true });

        Assert.Equal(StatusCode.Unauthenticated, (await Assert.ThrowsAsync<RpcException>(() => client.OpenAsync(new OpenStream { Stream = "camera" }))).StatusCode);
        Assert.Equal(StatusCode.Unauthenticated, (await Assert.ThrowsAsync<RpcException>(async () => await client.Models.ListModelsAsync(new ListModelsRequest()))).StatusCode);

        Assert.True(asked);
        Assert.Equal([("/tta.v1.AdaptationService/StreamInfer", "secret", "camera"), ("/tta.v1.ModelsService/ListModels", "secret", null)], seen);
    }

    [Fact]
    public async Task Activities_StepsAreSpansOfTheirCaller()
    {
        var spans = new List<Activity>();
        using var listener = new ActivityListener
        {
            ShouldListenTo = source => source.Name == ClientActivities.SourceName,
            Sample = (ref ActivityCreationOptions<ActivityContext> _) => ActivitySamplingResult.AllData,
            ActivityStopped = span => { lock (spans) { spans.Add(span); } }
        };
        ActivitySource.AddActivityListener(listener);
        await using var host = await TestHost.StartAsync();
        using var client = Client(host);
        var name = $"spans-{Guid.NewGuid():N}";
        await using var camera = await client.OpenAsync(new OpenStream { Stream = name, Model = TestHost.Model });

        using var caller = new Activity("caller").Start();
        await camera.StepAsync([TestFrames.Tensor(1)]);
        Assert.Same(caller, Activity.Current);
        await Assert.ThrowsAsync<StepFailedException>(() => camera.StepAsync([new Frame()]));

        List<Activity> own;
        lock (spans)
        {
            own = [.. spans.Where(span => Equals(span.GetTagItem("tta.stream"), name))];
        }

        Assert.Equal(2, own.Count);
        Assert.All(own, span => Assert.Equal(caller.SpanId, span.ParentSpanId));
        Assert.Equal((1L, "FRAME_EMPTY"), (own[0].GetTagItem("tta.step"), own[1].GetTagItem("error.type")));
    }

    private static TtaClient Client(TestHost host) => new(new TtaClientOptions { Address = host.Grpc });

    private sealed class PiecewiseStream(byte[] content, int piece) : MemoryStream(content)
    {
        public override ValueTask<int> ReadAsync(Memory<byte> buffer, CancellationToken cancellationToken = default) =>
            base.ReadAsync(buffer[..Math.Min(piece, buffer.Length)], cancellationToken);
    }
}

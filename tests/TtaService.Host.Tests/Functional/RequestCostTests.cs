using System.Diagnostics;
using System.Text;
using Google.Protobuf;
using Google.Protobuf.Reflection;
using Grpc.AspNetCore.Server;
using Grpc.Core;
using Microsoft.AspNetCore.Routing;
using Microsoft.Extensions.DependencyInjection;
using TtaService.Host.Grpc;
using TtaService.Host.Tests.Infrastructure;
using TtaService.V1;

namespace TtaService.Host.Tests.Functional;

/// <summary>Every field of every message of every RPC that the server has, filled with as much as one message may hold.</summary>
/// <remarks>TTA_MESSAGE_BYTES is the size of the messages, 2 MiB if not given. The server and its client are one process here, so what is allocated is twice what the
/// server alone does.</remarks>
[Collection(nameof(RequestCostTests))]
[CollectionDefinition(nameof(RequestCostTests), DisableParallelization = true)]
public sealed class RequestCostTests(ITestOutputHelper output) : IAsyncLifetime
{
    private static readonly int MessageBytes = int.TryParse(Environment.GetEnvironmentVariable("TTA_MESSAGE_BYTES"), out var bytes) ? bytes : 2 << 20;

    private TestHost _host = null!;

    public async ValueTask InitializeAsync()
    {
        _host = await TestHost.StartAsync($"--Server:MaxMessageBytes={MessageBytes}");
        await _host.StepAsync("camera", TestFrames.Tensor(1));
    }

    public ValueTask DisposeAsync() => _host.DisposeAsync();

    [Fact]
    public async Task EveryField_AtItsMaximum_IsAnsweredShortlyWithoutMuchMemory()
    {
        using var client = new HttpClient();
        var (worst, checkedFields) = (TimeSpan.Zero, 0);
        foreach (var method in Methods())
        {
            var duplex = method.Type is MethodType.DuplexStreaming or MethodType.ClientStreaming;
            foreach (var path in Paths(RequestOf(method)))
            {
                foreach (var (kind, message) in Fillings(path))
                {
                    var what = $"{method.FullName} {string.Join('.', path.Select(field => field.Name))} {kind}, {message.Length} bytes";
                    var framed = RawCall.Framed(message);
                    GC.Collect();
                    var (before, began) = (GC.GetTotalAllocatedBytes(precise: true), Stopwatch.GetTimestamp());
                    using var call = new RawCall(_host.Grpc, method.FullName.TrimStart('/'), client).Write(framed).Complete();

                    var (status, said) = await call.EndAsync();

                    var (took, allocated) = (Stopwatch.GetElapsedTime(began), GC.GetTotalAllocatedBytes(precise: true) - before);
                    checkedFields++;
                    worst = took > worst ? took : worst;
                    Assert.True(Encoding.UTF8.GetByteCount(status.Status.Detail) <= 1024, $"{what}: {status.Status.Detail.Length} characters of error");
                    Assert.True(status.StatusCode is not (StatusCode.Internal or StatusCode.Unknown), $"{what}: {status}");
                    // Replies that carry what the server knows, and what gRPC's own services answer to a single unknown word.
                    Assert.True(said <= 16 * 1024, $"{what}: {said} bytes of response");
                    // The message, what Kestrel and the client copy of it, and what a frame or a snapshot of it is parsed into.
                    Assert.True(allocated <= (8L * message.Length) + (4 << 20), $"{what}: {allocated} bytes allocated for {status.StatusCode} {status.Status.Detail}");
                }
            }
        }

        output.WriteLine($"{checkedFields} messages, the slowest was answered after {worst.TotalMilliseconds:0} ms");
        Assert.InRange(checkedFields, 100, 10_000);
        Assert.Equal(2, (await _host.StepAsync("camera", TestFrames.Tensor(2))).Step);
    }

    [Fact]
    public void EveryField_OfEveryRequest_HasALimit()
    {
        var free = Methods().SelectMany(method => Paths(RequestOf(method))).Select(path => path[^1])
            .Where(field => MessageFields.LimitOf(field) == int.MaxValue).Select(field => field.FullName).Distinct();

        // What only the message bounds: frames and snapshots, and nothing that is parsed into objects.
        Assert.Equal(["inference.InferTensorContents.fp32_contents", "inference.InferTensorContents.fp64_contents", "tta.v1.FloatTensor.data",
            "tta.v1.Frame.encoded", "tta.v1.ImportStreamRequest.snapshot", "tta.v1.RawImage.data"], free.Order(StringComparer.Ordinal));
    }

    [Fact]
    public async Task LegitimateMessages_OfAllKinds_AreWithinTheLimits()
    {
        // As many frames as a step may ever have, with all fields: too many for this server, so its own rule answers.
        var request = new InferRequest { Open = new OpenStream { Stream = "camera" }, Step = new StepRequest() };
        request.Step.Frames.AddRange(Enumerable.Repeat(TestFrames.Raw(1, 1, 3, RawImage.Types.Format.Rgb8, 3), 4096));

        await RpcAssert.RefusedAsync(StatusCode.InvalidArgument, "FRAME_COUNT_OUT_OF_RANGE", async () => await _host.Adaptation.InferAsync(request));
    }

    [Theory]
    [InlineData(new byte[] { 0x0A }, "a number of it does not end")]
    [InlineData(new byte[] { 0x0A, 0x05, 1 }, "reaches over its end")]
    [InlineData(new byte[] { 0x0A, 0x02, 0x0A, 0x05 }, "reaches over its end")]
    [InlineData(new byte[] { 0x0B, 0x0C }, "groups")]
    [InlineData(new byte[] { 0x00 }, "tag")]
    [InlineData(new byte[] { 0x0D, 1, 2 }, "reaches over its end")]
    [InlineData(new byte[] { 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 1 }, "does not end")]
    [InlineData(new byte[] { 0x0A, 0x04, 0x0A, 0x02, 0xC3, 0x28 }, "UTF-8")]
    public async Task Unary_UnreadableMessage_IsTheClientsErrorWithItsReason(byte[] message, string says)
    {
        using var call = new RawCall(_host.Grpc, "tta.v1.AdaptationService/Infer").Write(RawCall.Framed(message)).Complete();

        Assert.Contains(says, (await call.RefusedAsync(StatusCode.InvalidArgument, "MESSAGE_UNREADABLE")).Status.Detail, StringComparison.Ordinal);
    }

    [Fact]
    public void AnyMessage_ThatIsLetThrough_CanBeParsed()
    {
        var request = new InferRequest
        {
            Open = new OpenStream
            {
                Stream = "camera",
                Model = TestHost.Model,
                Method = new Method
                {
                    Name = "ema",
                    Hyperparameters = new() { Fields = { ["momentum"] = new() { NumberValue = 0.5 } } }
                }
            },
            Step = new StepRequest { Frames = { TestFrames.Tensor([1, 1, 2], [1, 2]) } }
        };
        var sound = request.ToByteArray();
        var fields = MessageFields.Of(InferRequest.Descriptor);
        var (random, passed) = (new Random(7), 0);
        for (var i = 0; i < 20_000; i++)
        {
            var message = sound.ToArray();
            for (var spoiled = random.Next(1, 4); spoiled > 0; spoiled--)
            {
                message[random.Next(message.Length)] = (byte)random.Next(256);
            }

            message = message[..random.Next(message.Length / 2, message.Length + 1)];
            if (fields.WhyRefused(new(message)) is null)
            {
                passed++;
                InferRequest.Parser.ParseFrom(message);
            }
        }

        Assert.Null(fields.WhyRefused(new(sound)));
        Assert.InRange(passed, 100, 19_000);
    }

    private static MessageDescriptor RequestOf(IMethod method) => (MessageDescriptor)method.GetType().GetGenericArguments()[0].GetProperty("Descriptor")!.GetValue(null)!;

    // To every field that can be reached, into messages that hold themselves once.
    private static IEnumerable<FieldDescriptor[]> Paths(MessageDescriptor message, FieldDescriptor[]? above = null)
    {
        above ??= [];
        foreach (var field in message.Fields.InDeclarationOrder())
        {
            FieldDescriptor[] path = [.. above, field];
            yield return path;
            if (field.FieldType == FieldType.Message && !above.Contains(field))
            {
                foreach (var below in Paths(field.MessageType, path))
                {
                    yield return below;
                }
            }
        }
    }

    // The field with as many entries, or of as many bytes, as go into a message; and fields that the type does not have, and messages within messages.
    private static IEnumerable<(string Kind, byte[] Message)> Fillings(FieldDescriptor[] path)
    {
        var (field, room) = (path[^1], MessageBytes - (8 * path.Length));
        switch (field.FieldType)
        {
            case FieldType.String or FieldType.Bytes:
                yield return ("long", Within(path[..^1], Field(field.FieldNumber, Encoding.ASCII.GetBytes(new string('%', room - 16)))));
                yield return ("often", Within(path[..^1], Often(Field(field.FieldNumber, "\u0007"u8), room)));
                break;
            case FieldType.Message:
                yield return ("often, empty", Within(path[..^1], Often(Field(field.FieldNumber, []), room)));
                yield return ("unknown fields", Within(path, Unknown(room)));
                if (field.MessageType.Fields.InDeclarationOrder().Any(inner => inner.FieldType == FieldType.Message && inner.MessageType == field.MessageType))
                {
                    yield return ("deep", Within([.. path, .. Enumerable.Repeat(field, 5000)], []));
                }

                break;
            default:
                yield return ("often", Within(path[..^1], Often([(byte)((field.FieldNumber << 3) | 0), 1], room)));
                if (field.IsRepeated)
                {
                    yield return ("packed", Within(path[..^1], Field(field.FieldNumber, new byte[room - 16])));
                }

                break;
        }
    }

    private static byte[] Within(FieldDescriptor[] path, byte[] content) => path.Reverse().Aggregate(content, (inner, field) => Field(field.FieldNumber, inner));

    private static byte[] Field(int number, ReadOnlySpan<byte> content)
    {
        using var stream = new MemoryStream();
        using (var coded = new CodedOutputStream(stream, leaveOpen: true))
        {
            coded.WriteTag(number, WireFormat.WireType.LengthDelimited);
            coded.WriteLength(content.Length);
        }

        return [.. stream.ToArray(), .. content];
    }

    private static byte[] Often(byte[] one, int room)
    {
        var all = new byte[room / one.Length * one.Length];
        for (var at = 0; at < all.Length; at += one.Length)
        {
            one.CopyTo(all, at);
        }

        return all;
    }

    private static byte[] Unknown(int room)
    {
        using var stream = new MemoryStream();
        using (var coded = new CodedOutputStream(stream, leaveOpen: true))
        {
            for (var number = 1000; coded.Position < room - 16; number++)
            {
                coded.WriteTag(number, WireFormat.WireType.Varint);
                coded.WriteInt32(1);
            }
        }

        return stream.ToArray();
    }

    private List<IMethod> Methods() => [.. _host.Host.Services.GetRequiredService<EndpointDataSource>()
        .Endpoints.Select(endpoint => endpoint.Metadata.GetMetadata<GrpcMethodMetadata>()?.Method).OfType<IMethod>().DistinctBy(method => method.FullName)];
}

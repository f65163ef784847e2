using System.Buffers.Binary;
using System.Globalization;
using System.Net;
using System.Net.Http.Headers;
using System.Threading.Channels;
using Google.Protobuf;
using Google.Rpc;
using Grpc.Core;

namespace TtaService.Host.Tests.Infrastructure;

/// <summary>A gRPC call as its bytes: the request is what the test writes, whole messages or parts of them, and ends when the test says so.</summary>
internal sealed class RawCall : IDisposable
{
    private readonly Channel<byte[]> _request = Channel.CreateUnbounded<byte[]>();
    private readonly HttpClient? _own;
    private readonly Task<HttpResponseMessage> _response;

    /// <param name="server">The gRPC listener.</param>
    /// <param name="method">As <c>tta.v1.AdaptationService/Infer</c>.</param>
    /// <param name="client">For calls that share a connection; null for a connection of its own.</param>
    /// <param name="encoding">What packs the messages, grpc-encoding; null for nothing.</param>
    public RawCall(Uri server, string method, HttpClient? client = null, string? encoding = null)
    {
        _own = client is null ? new HttpClient() : null;
        var request = new HttpRequestMessage(HttpMethod.Post, new Uri(server, $"/{method}"))
        {
            Version = HttpVersion.Version20,
            VersionPolicy = HttpVersionPolicy.RequestVersionExact,
            Content = new Body(_request.Reader)
        };
        request.Headers.TE.Add(new TransferCodingWithQualityHeaderValue("trailers"));
        if (encoding is not null)
        {
            request.Headers.TryAddWithoutValidation("grpc-encoding", encoding);
        }

        _response = (client ?? _own!).SendAsync(request, HttpCompletionOption.ResponseHeadersRead);
    }

    /// <summary>A message with its header.</summary>
    public static byte[] Framed(ReadOnlySpan<byte> message, bool packed = false) => [.. Header(message.Length, packed), .. message];

    /// <summary>The header of a message of so many bytes.</summary>
    public static byte[] Header(int length, bool packed = false)
    {
        var header = new byte[5];
        header[0] = packed ? (byte)1 : (byte)0;
        BinaryPrimitives.WriteInt32BigEndian(header.AsSpan(1), length);
        return header;
    }

    public RawCall Write(byte[] bytes)
    {
        _request.Writer.TryWrite(bytes);
        return this;
    }

    public RawCall Write(IMessage message) => Write(Framed(message.ToByteArray()));

    /// <summary>Nothing more comes.</summary>
    public RawCall Complete()
    {
        _request.Writer.TryComplete();
        return this;
    }

    /// <summary>Waits for the first message of the response.</summary>
    public async Task AnsweredAsync()
    {
        var content = await (await _response).Content.ReadAsStreamAsync();
        var header = new byte[5];
        await content.ReadExactlyAsync(header).AsTask().WaitAsync(TimeSpan.FromSeconds(60));
        await content.ReadExactlyAsync(new byte[BinaryPrimitives.ReadInt32BigEndian(header.AsSpan(1))]);
    }

    /// <summary>How the server ended the call, and how many bytes its response had besides its headers.</summary>
    public async Task<(RpcException Status, long Bytes)> EndAsync()
    {
        using var response = await _response.WaitAsync(TimeSpan.FromSeconds(60));
        using var body = new MemoryStream();
        await (await response.Content.ReadAsStreamAsync()).CopyToAsync(body).WaitAsync(TimeSpan.FromSeconds(60));
        var trailers = new Metadata();
        var said = 0L;
        foreach (var (name, values) in response.Headers.Concat(response.TrailingHeaders).Where(header => header.Key.StartsWith("grpc-", StringComparison.OrdinalIgnoreCase)))
        {
            var value = string.Concat(values);
            said += value.Length;
            if (name.EndsWith("-bin", StringComparison.OrdinalIgnoreCase))
            {
                trailers.Add(name, Convert.FromBase64String(value.PadRight((value.Length + 3) / 4 * 4, '=')));
            }
            else
            {
                trailers.Add(name, value);
            }
        }

        var status = (StatusCode)int.Parse(trailers.GetValue("grpc-status")!, CultureInfo.InvariantCulture);
        return (new RpcException(new global::Grpc.Core.Status(status, Uri.UnescapeDataString(trailers.GetValue("grpc-message") ?? string.Empty)), trailers), body.Length + said);
    }

    /// <summary>ErrorInfo's reason, or the text when there is none.</summary>
    public static string ReasonOf(RpcException status) => status.GetRpcStatus()?.GetDetail<ErrorInfo>()?.Reason ?? status.Status.Detail;

    /// <summary>The call ends with this status.</summary>
    public async Task<RpcException> RefusedAsync(StatusCode code, string reason)
    {
        var (status, _) = await EndAsync();
        Assert.Equal((code, reason), (status.StatusCode, ReasonOf(status)));
        return status;
    }

    public void Dispose()
    {
        Complete();
        _own?.Dispose();
    }

    private sealed class Body : HttpContent
    {
        private readonly ChannelReader<byte[]> _parts;

        public Body(ChannelReader<byte[]> parts)
        {
            _parts = parts;
            Headers.ContentType = new MediaTypeHeaderValue("application/grpc");
        }

        protected override async Task SerializeToStreamAsync(Stream stream, TransportContext? context)
        {
            await stream.FlushAsync();
            await foreach (var part in _parts.ReadAllAsync())
            {
                await stream.WriteAsync(part);
                await stream.FlushAsync();
            }
        }

        protected override bool TryComputeLength(out long length)
        {
            length = 0;
            return false;
        }
    }
}

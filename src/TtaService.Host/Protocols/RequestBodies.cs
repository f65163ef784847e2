using System.Globalization;
using System.IO.Compression;
using Microsoft.AspNetCore.Http.Features;
using Microsoft.Extensions.Options;
using TtaService.Host.Hosting;
using TtaService.Serving.Streams;

namespace TtaService.Host.Protocols;

/// <summary>Reads the bodies of REST requests whole, within the limits that messages of gRPC have: bytes of one, unpacked, of all together, and time.</summary>
internal sealed class RequestBodies(IOptions<ServerOptions> server, TimeProvider clock)
{
    private const int Part = 64 * 1024;

    private readonly ServerOptions _server = server.Value;
    private long _bytes;

    /// <exception cref="FailureException">The body is too large, comes too slowly, is packed in a way that is not known, or others need the room.</exception>
    public async Task<Body> ReadAsync(HttpContext context)
    {
        if (context.Features.Get<IHttpMaxRequestBodySizeFeature>() is { IsReadOnly: false } size)
        {
            // Bounded below. Kestrel's own limit would cut the connection off while the client still sends, and the client would never read why.
            size.MaxRequestBodySize = null;
        }

        if (context.Request.ContentLength is { } announced && announced > _server.MaxMessageBytes)
        {
            throw TooLarge(announced.ToString(CultureInfo.InvariantCulture));
        }

        using var patience = new CancellationTokenSource(_server.MessageTimeout, clock);
        using var ended = CancellationTokenSource.CreateLinkedTokenSource(context.RequestAborted, patience.Token);
        var body = new Body(this);
        try
        {
            await using var unpacked = Unpacked(context.Request);
            await body.ReadAsync(unpacked, ended.Token).ConfigureAwait(false);
            return body;
        }
        catch (OperationCanceledException) when (patience.IsCancellationRequested)
        {
            body.Dispose();
            throw new FailureException(new Failure(
                FailureKind.DeadlineExceeded,
                "MESSAGE_TIMEOUT",
                $"the request was not complete within {_server.MessageTimeout.TotalSeconds:0.###} s (Server:MessageTimeout); send it faster, or smaller"));
        }
        catch (InvalidDataException broken)
        {
            body.Dispose();
            throw new FailureException(Failure.Invalid("BODY_UNREADABLE", "Content-Encoding", $"the body is not what Content-Encoding says: {broken.Message}"));
        }
        catch
        {
            body.Dispose();
            throw;
        }
    }

    private static Stream Unpacked(HttpRequest request) => request.Headers.ContentEncoding.ToString() switch
    {
        "" or "identity" => request.Body,
        "gzip" => new GZipStream(request.Body, CompressionMode.Decompress, leaveOpen: true),
        "deflate" => new ZLibStream(request.Body, CompressionMode.Decompress, leaveOpen: true),
        var other => throw new FailureException(Failure.Invalid(
            "ENCODING_UNKNOWN",
            "Content-Encoding",
            $"content encoding '{Engine.ForeignText.Clip(other)}' is not known; send identity, gzip or deflate")),
    };

    private FailureException TooLarge(string bytes) => new(new Failure(
        FailureKind.InvalidArgument, "MESSAGE_TOO_LARGE", $"the request has {bytes} bytes, the limit is {_server.MaxMessageBytes} bytes (Server:MaxMessageBytes); "
            + "send smaller frames, or fewer a request"));

    /// <summary>A body that was read, until it is disposed.</summary>
    internal sealed class Body(RequestBodies owner) : IDisposable
    {
        private byte[] _buffer = [];
        private int _length;
        private long _counted;

        public ReadOnlyMemory<byte> Bytes => _buffer.AsMemory(0, _length);

        public async Task ReadAsync(Stream from, CancellationToken cancel)
        {
            while (true)
            {
                if (_length == _buffer.Length)
                {
                    Grow();
                }

                var read = await from.ReadAsync(_buffer.AsMemory(_length), cancel).ConfigureAwait(false);
                if (read == 0)
                {
                    return;
                }

                _length += read;
                if (_length > owner._server.MaxMessageBytes)
                {
                    throw owner.TooLarge($"more than {owner._server.MaxMessageBytes}");
                }
            }
        }

        public void Dispose()
        {
            Interlocked.Add(ref owner._bytes, -_counted);
            _counted = 0;
        }

        private void Grow()
        {
            var wanted = Math.Min(Math.Max(Part, 2 * _buffer.Length), owner._server.MaxMessageBytes + 1);
            var more = wanted - _buffer.Length;
            _counted += more;
            if (Interlocked.Add(ref owner._bytes, more) > owner._server.MaxTotalMessageBytes)
            {
                throw new FailureException(new Failure(
                    FailureKind.ResourceExhausted,
                    "MESSAGES_BUSY",
                    $"requests of other clients hold the {owner._server.MaxTotalMessageBytes} bytes that all may hold together (Server:MaxTotalMessageBytes); "
                        + "send again")
                { RetryAfter = TimeSpan.FromMilliseconds(100) });
            }

            Array.Resize(ref _buffer, wanted);
        }
    }
}

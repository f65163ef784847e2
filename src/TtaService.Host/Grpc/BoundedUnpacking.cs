using System.Buffers;
using System.IO.Compression;
using Grpc.Net.Compression;
using TtaService.Serving.Streams;
using Stream = System.IO.Stream;

namespace TtaService.Host.Grpc;

/// <summary>Unpacks messages up to the limit of a message, whatever their packed size, and checks what came out.</summary>
internal sealed class BoundedUnpacking(ICompressionProvider inner) : ICompressionProvider
{
    public string EncodingName => inner.EncodingName;

    public Stream CreateCompressionStream(Stream stream, CompressionLevel? compressionLevel) => inner.CreateCompressionStream(stream, compressionLevel);

    public Stream CreateDecompressionStream(Stream stream) =>
        RequestMessages.Current is { } call ? new Bounded(inner.CreateDecompressionStream(stream), call) : inner.CreateDecompressionStream(stream);

    private sealed class Bounded(Stream unpacked, RequestMessages call) : Stream
    {
        private long _bytes;

        public override bool CanRead => true;

        public override bool CanSeek => false;

        public override bool CanWrite => false;

        public override long Length => throw new NotSupportedException();

        public override long Position
        {
            get => throw new NotSupportedException();
            set => throw new NotSupportedException();
        }

        // gRPC takes a message by this into memory, where it can be looked at as a whole.
        public override void CopyTo(Stream destination, int bufferSize)
        {
            base.CopyTo(destination, bufferSize);
            if (destination is not MemoryStream memory || !memory.TryGetBuffer(out var message))
            {
                throw new InvalidOperationException($"gRPC unpacks a message into a {destination.GetType()}, where it can't be checked");
            }

            call.Unpacked(new ReadOnlySequence<byte>(message));
        }

        public override int Read(byte[] buffer, int offset, int count) => Read(buffer.AsSpan(offset, count));

        public override int Read(Span<byte> buffer)
        {
            int read;
            try
            {
                read = unpacked.Read(buffer);
            }
            catch (InvalidDataException broken)
            {
                throw MessageFields.Unreadable($"it can't be unpacked, {broken.Message}").ToRpcException();
            }

            _bytes += read;
            return _bytes <= call.MaxBytes ? read : throw call.TooLarge($"more than {call.MaxBytes}");
        }

        public override void Flush()
        {
        }

        public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

        public override void SetLength(long value) => throw new NotSupportedException();

        public override void Write(byte[] buffer, int offset, int count) => throw new NotSupportedException();

        protected override void Dispose(bool disposing)
        {
            if (disposing)
            {
                unpacked.Dispose();
            }

            base.Dispose(disposing);
        }
    }
}

using System.Buffers;
using System.Diagnostics;
using System.IO.Compression;
using System.IO.Pipelines;
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

    // Unpacks all before the first byte is given away.
    private sealed class Bounded(Stream unpacked, RequestMessages call) : Stream
    {
        private const int Part = 64 * 1024;

        private readonly Pipe _message = new(new PipeOptions(pauseWriterThreshold: 0, minimumSegmentSize: Part, useSynchronizationContext: false));
        private ReadOnlySequence<byte> _left;
        private bool _isRead;

        public override bool CanRead => true;

        public override bool CanSeek => false;

        public override bool CanWrite => false;

        public override long Length => throw new NotSupportedException();

        public override long Position
        {
            get => throw new NotSupportedException();
            set => throw new NotSupportedException();
        }

        public override int Read(byte[] buffer, int offset, int count) => Read(buffer.AsSpan(offset, count));

        public override int Read(Span<byte> buffer)
        {
            if (!_isRead)
            {
                ReadAll();
                _isRead = true;
            }

            var part = _left.Slice(0, Math.Min(buffer.Length, _left.Length));
            part.CopyTo(buffer);
            _left = _left.Slice(part.End);
            return (int)part.Length;
        }

        public override ValueTask<int> ReadAsync(Memory<byte> buffer, CancellationToken cancellationToken = default) => ValueTask.FromResult(Read(buffer.Span));

        public override Task<int> ReadAsync(byte[] buffer, int offset, int count, CancellationToken cancellationToken) => Task.FromResult(Read(buffer.AsSpan(offset, count)));

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
                _message.Writer.Complete();
                _message.Reader.Complete();
                unpacked.Dispose();
            }

            base.Dispose(disposing);
        }

        private void ReadAll()
        {
            var bytes = 0L;
            int read;
            do
            {
                read = ReadPart(_message.Writer.GetSpan(Part));
                bytes += read;
                if (bytes > call.MaxBytes)
                {
                    throw call.TooLarge($"more than {call.MaxBytes}");
                }

                _message.Writer.Advance(read);
            }
            while (read > 0);

            // Nothing makes this writer wait.
            var flushed = _message.Writer.FlushAsync();
            Debug.Assert(flushed.IsCompletedSuccessfully, "a pipe that never pauses has paused");
            _message.Writer.Complete();
            if (_message.Reader.TryRead(out var message))
            {
                call.Unpacked(message.Buffer);
                _left = message.Buffer;
            }
        }

        private int ReadPart(Span<byte> part)
        {
            try
            {
                return unpacked.Read(part);
            }
            catch (InvalidDataException broken)
            {
                throw MessageFields.Unreadable($"it can't be unpacked, {broken.Message}").ToRpcException();
            }
        }
    }
}

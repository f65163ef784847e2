using Google.Protobuf;
using Grpc.Core;
using TtaService.V1;

namespace TtaService.Host.Commands;

/// <summary>One open stream on a server, stepped and answered one step at a time.</summary>
internal sealed class StreamCall : IDisposable
{
    private readonly AsyncDuplexStreamingCall<StreamInferRequest, StreamInferReply> _call;
    private ulong _sequence;

    private StreamCall(AsyncDuplexStreamingCall<StreamInferRequest, StreamInferReply> call) => _call = call;

    /// <summary>What the server said when the stream was opened.</summary>
    public StreamOpened Opened { get; private set; } = new();

    public static async Task<StreamCall> OpenAsync(AdaptationService.AdaptationServiceClient client, OpenStream open, CancellationToken cancel)
    {
        var call = new StreamCall(client.StreamInfer(cancellationToken: cancel));
        try
        {
            await call._call.RequestStream.WriteAsync(new StreamInferRequest { Open = open }, cancel).ConfigureAwait(false);
            call.Opened = (await call.ReadAsync(cancel).ConfigureAwait(false)).Opened ?? throw Unexpected(open.Stream);
            call._sequence = call.Opened.LastSequence;
            return call;
        }
        catch
        {
            call.Dispose();
            throw;
        }
    }

    /// <summary>Sends encoded images as one step and awaits its answer.</summary>
    /// <exception cref="CommandException">The server refused the step.</exception>
    public async Task<StepReply> StepAsync(IEnumerable<ByteString> images, CancellationToken cancel)
    {
        var step = new StepRequest { Sequence = ++_sequence };
        step.Frames.AddRange(images.Select(image => new Frame { Encoded = image }));
        await _call.RequestStream.WriteAsync(new StreamInferRequest { Step = step }, cancel).ConfigureAwait(false);
        var reply = await ReadAsync(cancel).ConfigureAwait(false);
        return reply.MessageCase switch
        {
            StreamInferReply.MessageOneofCase.Step => reply.Step,
            StreamInferReply.MessageOneofCase.Error => throw new CommandException($"the server refused a step of {Opened.Stream} ({reply.Error.Reason}): {reply.Error.Message}"),
            _ => throw Unexpected(Opened.Stream),
        };
    }

    /// <summary>Tells the server that no step will follow, and awaits the end of the call.</summary>
    public async Task CompleteAsync(CancellationToken cancel)
    {
        await _call.RequestStream.CompleteAsync().ConfigureAwait(false);
        while (await _call.ResponseStream.MoveNext(cancel).ConfigureAwait(false))
        {
        }
    }

    public void Dispose() => _call.Dispose();

    private async Task<StreamInferReply> ReadAsync(CancellationToken cancel) =>
        await _call.ResponseStream.MoveNext(cancel).ConfigureAwait(false)
            ? _call.ResponseStream.Current
            : throw new CommandException($"the server ended the call of stream {Opened.Stream}; see its log, then run this again to resume");

    private static CommandException Unexpected(string stream) => new($"the server's answer for stream {stream} is not of this protocol version; use a client of the server's version");
}
